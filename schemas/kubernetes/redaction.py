"""Secret values never leave a cluster: the one place that decides what is taken out of a text.

Projections call it as they are decoded, so no projection can hold an unredacted value. It is a second
line: Secrets and ConfigMaps are projected without their values, containers without those of their
environment. In doubt it takes out too much: what a name or a shape marks as secret goes whole.

Every pattern is linear in the length of the text (word starts and possessive quantifiers), because
whoever may annotate a pod may choose that text.
"""

import re
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"

_COPIES = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "objectset.rio.cattle.io/applied",
        "banzaicloud.com/last-applied",
        "kapp.k14s.io/original",
    }
)
"""Annotations in which a tool keeps a copy of the whole object, values included."""

# --- names -----------------------------------------------------------------------------------------

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_PART = re.compile(
    r"password|passwd|passphrase|passcode|secret|credential"
    r"|(?:api|access|account|auth|client|deploy|encryption|hmac|license|master|private|session|shared|signing"
    r"|ssh|ssl|storage|tls)keys?"
)
_SECRET_WORD = re.compile(r".*tokens?|creds?|pwd?|bearer|jwt|(?!by|com).*pass")
_SECRET_ENDING = frozenset({"auth", "authorization", "cookie", "cookies"})
_ABOUT = frozenset(
    """
    algorithm at audience audiences checksum class count dir duration enabled endpoint expiration
    expires expiry file files format from group host hours interval issuer kind length limit limits
    manager method minutes mode mount namespace namespaces name names optional path paths policy prefix
    provider ref reference references refs required review reviews rotation scope scopes seconds
    selector size store suffix template through time timeout ttl type types uri url version
    """.split()  # noqa: SIM905 (a paragraph of words)
)
"""A name that ends so is about a secret and holds none: `secretName`, `tokenReview`, `password_file`."""


def is_secret_name(name: str) -> bool:
    """Whether a key, flag or variable of that name usually holds a secret (`DB_PASSWORD`, `apiToken`).

    Its last word decides, as in English: a `secretName` is a name, a `serviceAccountToken` a token.
    """
    return _is_secret_name(name[-100:])


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _ABOUT or words[0] == "checksum":
        return False
    return (
        words[-1] in _SECRET_ENDING
        or any(_SECRET_WORD.fullmatch(word) for word in words)
        or bool(_SECRET_PART.search("".join(words)))
    )


@lru_cache(maxsize=4096)
def _is_about(name: str) -> bool:
    words = _WORDS.findall(name)
    return bool(words) and words[-1].lower() in _ABOUT


# --- what was found plain ---------------------------------------------------------------------------


class _Plain(set[str]):
    """Texts in which there was nothing to redact.

    Pods of one template have the same arguments and annotations; a look-up costs a hundredth of a search.
    It holds few and short texts, and only such as are sent as they are.
    """

    def remember(self, text: str) -> None:
        if len(text) <= 200:
            if len(self) >= 4096:
                self.clear()
            self.add(text)


_PLAIN_TEXTS = _Plain()
_PLAIN_NAMES = _Plain()
_PLAIN_ARGUMENTS = _Plain()

# --- texts -----------------------------------------------------------------------------------------

_URL = re.compile(r"://[^\s\"'<>]++")
_PORT = re.compile(r"[^:]*:\d{1,5}(?:,.*)?")
_USER_ONLY = 16
"""Characters from which a URL's user without a password is taken for a token."""

_KEY = re.compile(
    r"(?<![\w.-])((?:(?:api|access|private|secret|signing|encryption|account|shared)[ ](?=key))?[\w.-]++)"
    r"\\*[\"']?[ \t]*+(?:=>|:=|=|:)[ \t]*+",
    re.IGNORECASE,
)
_FLAG = re.compile(r"(?<!\S)(--?[\w.-]++)[ \t]++(?=[^\s-])")
_CURL_USER = re.compile(r"(?<!\S)(-u[ =]?|--user[ =])([^\s:]++):(?=\S)")
_QUOTE = re.compile(r"(\\*)([\"'])")
_BLOCK = re.compile(r"[|>][-+\d]*[ \t]*(?:\n[ \t]+[^\n]*+)+")
_WORD = re.compile(r"\S+")
_LINE = re.compile(r"[^\n\"']+")
_BEARER = re.compile(r"\b(bearer|basic|negotiate)([ \t]++)([\w+/.~=-]{8,}+)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\(\w+\)|\$\{\w+\}")
_SHAPES = re.compile(
    r"(?<![\w-])eyJ[\w-]{8,}+\.[\w.-]++"  # a JSON Web Token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|gh[pousr]_\w{20,}+|github_pat_\w{20,}+|glpat-[\w-]{16,}+|xox[abeoprs]-[\w-]{10,}+|hvs\.[\w-]{20,}+"
    r"|AIza[\w-]{30,}+|hooks\.slack\.com/services/[\w/-]++"
    r"|(?<!\w)S[UAOCNX][A-Z2-7]{56}(?!\w)",  # the seed of an nkey
    re.DOTALL,
)
_SHAPE_MARKS = (
    *("eyJ", "PRIVATE KEY", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hvs."),
    *("AIza", "hooks.slack.com/", "SU", "SA", "SO", "SC", "SN", "SX"),
)
_SHORTEST_SHAPE = 13

_HARMLESS = frozenset(
    {"", "true", "false", "yes", "no", "0", "1", "null", "nil", "none", "enabled", "disabled"}
)
_PROSE = frozenset(
    """
    a an access authentication authorization bad can cannot connection context could couldn't denied
    dial does empty eof error expected expired failed failure forbidden get got has http https in
    incorrect internal invalid is it key lookup malformed missing must no not open permission post
    rejected request required rpc secret secrets secretsmanager server should stat status the timed
    token unable unauthorized unexpected unknown unsupported user was will with wrong
    """.split()  # noqa: SIM905 (a paragraph of words)
)
"""What follows a colon in a message (`failed to fetch oauth token: unexpected status`)."""


def redact_text(text: str) -> str:
    """A text without passwords in URLs, without the values of `password=…`, `"apiToken": "…"`,
    `--secret …` and `Authorization: …`, and without what has the shape of a token or private key."""
    if len(text) < 5 or text in _PLAIN_TEXTS:
        return text
    redacted = _redact_text(text)
    if redacted == text:
        _PLAIN_TEXTS.remember(text)
    return redacted


def _redact_text(text: str) -> str:
    # Plain searches before every pattern: they are what nearly all texts come down to.
    if "://" in text and "@" in text:
        text = _URL.sub(_without_userinfo, text)
    lowered = text.lower()
    if (
        "pass" in lowered
        or "secret" in lowered
        or "token" in lowered
        or "key" in lowered
        or "auth" in lowered
        or "cred" in lowered
        or "pwd" in lowered
        or "cookie" in lowered
        or "jwt" in lowered
    ):
        text = _without_values(text, _KEY)
        if "-" in text:
            text = _without_values(text, _FLAG)
    if "-u" in text:
        text = _without_values(text, _CURL_USER)
    if "bearer" in lowered or "basic" in lowered or "negotiate" in lowered:
        text = _BEARER.sub(_without_credential, text)
    if len(text) >= _SHORTEST_SHAPE and any(mark in text for mark in _SHAPE_MARKS):
        text = _SHAPES.sub(REDACTED, text)
    return text


def _without_userinfo(match: re.Match[str]) -> str:
    """One word that begins with `://`; it may hold further URLs."""
    if "@" not in match[0]:
        return match[0]
    pieces = match[0].split("://")
    for index, piece in enumerate(pieces):
        userinfo, at, rest = piece.rpartition("@")
        authority, with_path, _ = userinfo.partition("/")
        if with_path:
            # An @ behind a path is no user's, unless a password with a slash in it is what precedes it.
            secret = "@" in authority or (":" in authority and not _PORT.fullmatch(authority))
        else:
            secret = ":" in authority or len(userinfo) >= _USER_ONLY
        if at and secret:
            pieces[index] = REDACTED + at + rest
    return "://".join(pieces)


def _without_credential(match: re.Match[str]) -> str:
    credential = match[3]
    # A word of prose has neither digits nor capitals inside: `basic authentication`.
    if credential[1:].islower() or (credential.isalpha() and credential.isupper()):
        return match[0]
    return f"{match[1]}{match[2]}{REDACTED}"


def _without_values(text: str, pattern: re.Pattern[str]) -> str:
    """The text without the values behind the secret names that the pattern finds."""
    parts: list[str] = []
    done = at = 0
    while match := pattern.search(text, at):
        at = match.end()
        if pattern is not _CURL_USER and not is_secret_name(match[1]):
            continue
        start, end = _value(text, at, match)
        if end > start:
            parts += (text[done:start], REDACTED)
            done = at = end
    return "".join(parts) + text[done:] if parts else text


def _value(text: str, start: int, match: re.Match[str]) -> tuple[int, int]:
    """Where the value that begins at `start` lies, without its quotes; empty if it is none to hide."""
    nothing = (start, start)
    if start >= len(text) or text[start] in "\r\n{":
        return nothing
    quote = _QUOTE.match(text, start)
    if quote:
        start = quote.end()
        end = _closing_quote(text, start, quote[1], quote[2])
    elif text[start] == "[":
        end = text.find("]", start) + 1 or len(text)
        if "{" in text[start:end]:
            return nothing
    elif block := _BLOCK.match(text, start):
        end = block.end()
    else:
        whole_line = match[1].lower().endswith(("authorization", "cookie"))
        found = (_LINE if whole_line else _WORD).match(text, start) or _WORD.match(text, start)
        end = found.end() if found else start
        first = text[start:end].split(maxsplit=1)[0].strip(".,;:()") if end > start else ""
        in_prose = match[0][-2:-1] == ":" or match[0][-1:] == " "
        if in_prose and not whole_line and first.lower() in _PROSE:
            return nothing
    value = text[start:end]
    if value.strip(" ,;)}]'\"").lower() in _HARMLESS or _VARIABLE.fullmatch(value):
        return nothing
    return start, end


def _closing_quote(text: str, start: int, escape: str, quote: str) -> int:
    """The end of a quoted value; of JSON within JSON, too, whose quotes are escaped (`\\"`)."""
    at = start
    while (at := text.find(quote, at)) >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        backslashes = at - before
        if (backslashes <= len(escape)) if escape else backslashes % 2 == 0:
            return before if escape else at
        at += 1
    return len(text)


# --- structures ------------------------------------------------------------------------------------

_FLAG_NAME = re.compile(r"--?[\w.-]+")
_ARGUMENT = re.compile(r"(-{0,2}[\w./:-]+)=(.*)", re.DOTALL)


def redact_annotations(annotations: dict[str, str]) -> dict[str, str]:
    """Annotations without the copies of the whole object that tools leave there, and without secrets."""
    if _PLAIN_NAMES.issuperset(annotations):
        return {name: redact_text(value) for name, value in annotations.items()}
    redacted: dict[str, str] = {}
    for name, value in annotations.items():
        if name in _COPIES:
            continue
        # `checksum/secret` is how charts notice a change; else the domain says nothing of the value.
        bare = name if name.startswith("checksum/") else name.rpartition("/")[2]
        redacted[name] = _redact_value(bare, value)
        if not is_secret_name(bare):
            _PLAIN_NAMES.remember(name)
    return redacted


def redact_arguments(arguments: list[str]) -> list[str]:
    """A command line without the values of `--password=x`, `--password x`, `-u user:password` and URLs."""
    if _PLAIN_ARGUMENTS.issuperset(arguments):
        return arguments
    redacted: list[str] = []
    hide_next = hide_behind_colon = False
    for argument in arguments:
        assignment = _ARGUMENT.fullmatch(argument)
        expected = hide_next or hide_behind_colon
        if hide_next and not argument.startswith("--"):
            shown = _redact_value("password", argument)
        elif hide_behind_colon and ":" in argument:
            shown = f"{argument.partition(':')[0]}:{REDACTED}"
        elif assignment and is_secret_name(assignment[1]):
            shown = f"{assignment[1]}={_redact_value('password', assignment[2])}"
        else:
            shown = redact_text(argument)
        redacted.append(shown)
        hide_next = bool(_FLAG_NAME.fullmatch(argument)) and is_secret_name(argument)
        hide_behind_colon = argument in ("-u", "--user")
        if shown == argument and not (expected or hide_next or hide_behind_colon):
            _PLAIN_ARGUMENTS.remember(argument)
    return redacted


def _redact_value(name: str, value: str) -> str:
    """The value of that name."""
    if not is_secret_name(name):
        return redact_text(value)
    return value if value.lower() in _HARMLESS or _VARIABLE.fullmatch(value) else REDACTED


_LABELS = frozenset({"labels", "matchLabels", "nodeSelector"})
_COMMANDS = frozenset({"command", "args"})


def redact_object(value: Any, name: str = "") -> Any:
    """A whole JSON object of unknown shape: managedFields and copies of itself gone, secrets hidden.

    What lies under a secret name is hidden to its depth, references (`secretRef: {name, key}`) excepted.
    """
    return _redact(value, name, is_secret_name(name))


def _redact(value: Any, name: str, hidden: bool) -> Any:
    if isinstance(value, str):
        return _redact_value("password" if hidden else name, value)
    if isinstance(value, list):
        if _is_environment(name):
            value = [_hide_assigned(item) if isinstance(item, str) else item for item in value]
        if name in _COMMANDS and all(isinstance(item, str) for item in value):
            return redact_arguments(value)
        return [_redact(item, name, hidden) for item in value]
    if isinstance(value, dict):
        return _redact_mapping(value, name, hidden)
    if hidden and isinstance(value, int | float) and not isinstance(value, bool) and "pass" in name.lower():
        return REDACTED
    return value


def _is_environment(name: str) -> bool:
    """Whether a field of that name holds variables: `env`, `extraEnv`, `envVars`, `environment`."""
    return name.lower().endswith(("env", "envs", "envvars", "environment", "environmentvariables"))


def _hide_assigned(text: str) -> str:
    """`NAME=value` of an environment without its value."""
    variable, assigned, value = text.partition("=")
    return f"{variable}={_redact_value('password', value)}" if assigned else text


def _redact_mapping(mapping: dict[str, Any], name: str, hidden: bool) -> dict[str, Any]:
    # Whatever it is called, a literal of an environment may be a secret.
    environment = _is_environment(name)
    variable = environment or is_secret_name(str(mapping.get("name", "")))
    manifest = str(mapping.get("kind", "")).endswith("Secret")
    reference = "name" in mapping or "path" in mapping
    redacted: dict[str, Any] = {}
    for key, item in mapping.items():
        if key == "managedFields" or key in _COPIES:
            continue
        if key in _LABELS:
            redacted[key] = item
        elif key == "annotations" and isinstance(item, dict):
            redacted[key] = redact_annotations({k: v for k, v in item.items() if isinstance(v, str)})
        elif environment and "name" not in mapping and isinstance(item, str):
            redacted[key] = _redact_value("password", item)
        elif key == "stringData" or (key == "data" and manifest) or (key == "value" and variable):
            redacted[key] = _redact(item, "password", True)
        elif _is_about(key) or (key == "key" and reference):
            redacted[key] = _redact(item, key, False)
        else:
            # `auth: {…}` holds settings as often as secrets: its own keys decide.
            secret = is_secret_name(key) and not (isinstance(item, dict) and key.lower() in _SECRET_ENDING)
            redacted[key] = _redact(item, key, hidden or secret)
    return redacted
