"""What an API server says beside what it was asked for: refusals and warnings, without secrets.

A refusal may quote what was sent and what is there: an update of a pod that is not allowed is answered with
the difference of both, environment included. So words are redacted here, before anybody sees them.
"""

import json
import re
from collections.abc import Iterable

import aiohttp
import msgspec

from schemas.kubernetes.redaction import REDACTED, is_secret_name, redact_object, redact_text
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Answer,
    Cause,
    Expired,
    Forbidden,
    Invalid,
    KubernetesError,
    Unauthorized,
)

MAX_RETRY_AFTER = 30.0
"""Seconds: a server may ask for more, but it is tried as often as any other that fails."""
MAX_WORDS = 4000
"""Characters of one text that are of use to a person."""
MAX_SAID = 16 * 1024
"""Characters of one text that are looked at: whoever is quoted in it may choose its length."""
MAX_REFUSAL = 1024 * 1024
"""Bytes of a refusal that are read."""


class _Cause(msgspec.Struct):
    """metav1.StatusCause"""

    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct):
    """metav1.StatusDetails"""

    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    """metav1.Status, as the API server words an error."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    details: _Details | None = None

    @property
    def causes(self) -> list[_Cause]:
        """What the refusal is made of."""
        return (self.details.causes if self.details else None) or []

    @property
    def too_large(self) -> bool:
        """Whether we asked for a resource version that the server has not reached."""
        return any(cause.reason == "ResourceVersionTooLarge" for cause in self.causes)


async def error_of(response: aiohttp.ClientResponse) -> KubernetesError:
    """The KubernetesError of a status of 400 and more, in the API server's own words."""
    body = await response.content.read(MAX_REFUSAL)
    while len(body) < MAX_REFUSAL and (more := await response.content.read(MAX_REFUSAL)):
        body += more
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        status = _Status(message=body[:200].decode(errors="replace"))
    said = words(status.message or status.reason or response.reason or "")
    answer = Answer(
        response.status,
        said,
        status.reason,
        tuple(Cause(cause.reason, words(cause.message), cause.field) for cause in status.causes),
        spoken=status.kind == "Status",
    )
    text = f"{response.status} {said}"
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    error: type[KubernetesError]
    match response.status:
        case _ if status.too_large:
            error = Expired
        case 400 | 422:
            error = Invalid
        case 401:
            error, text = Unauthorized, f"{text}: the credential is wrong or has expired"
        case 403:
            error = Forbidden
        case 404:
            error = Absent
        case 410:
            error = Expired
        case _:
            error = KubernetesError
    return error(text, retry_after, answer)


def _retry_after(header: str) -> float | None:
    """`Retry-After` in seconds, bounded (RFC 9110, 10.2.3; the API server sends seconds)."""
    return min(float(header), MAX_RETRY_AFTER) if header.isdecimal() else None


_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


def warnings_of(headers: Iterable[str]) -> tuple[str, ...]:
    """The texts of `Warning: 299 - "…"` (RFC 9111, 5.5), each once."""
    found = (re.sub(r"\\(.)", r"\1", match[1]) for header in headers for match in _WARNING.finditer(header))
    return tuple(dict.fromkeys(words(text) for text in found))


# --- without secrets ---------------------------------------------------------------------------------

_DUMP = re.compile(r"@@ -\d+|(?:[-+]|(?<!\s))\s*+&?\b[a-z][a-z0-9]*+\.[A-Z]\w*+\{")
"""Where a difference of two objects, or an object as Go prints it, begins."""
_LEFT_OUT = "(what it quotes is left out)"
_QUOTED = re.compile(r'([\w.\[\]"/-]++)(?:: ((?:\w+ )?value: )("(?:[^"\\]|\\.)*+"|[^\s,:]++))?+')
"""`spec.password: Invalid value: "…"`, or a word alone: so none is looked at twice."""
_OPEN = re.compile(r'(?<=value: )"(?:[^"\\]|\\.)*+\\?\Z', re.DOTALL)
"""A value that was cut before its quotes end."""
_NAME = re.compile(r"[\w.-]+")


def words(text: str) -> str:
    """A text of the API server on one line, without the secrets that it quotes."""
    return _redacted(text) if len(text) <= MAX_SAID else _cut(text)


def _cut(text: str) -> str:
    """The beginning of a long one, which says that it is that."""
    told = f" … ({len(text)} characters)"
    text = _OPEN.sub(_LEFT_OUT, text[:MAX_SAID])  # half of it would not be known as one
    return _redacted(text)[: MAX_WORDS - len(told)] + told


def _redacted(text: str) -> str:
    if dump := _DUMP.search(text):
        text = f"{text[: dump.start()].rstrip()} {_LEFT_OUT}"
    text = _without_secrets_in_json(text)
    text = _QUOTED.sub(_without_value, text)
    return " ".join(redact_text(text).split())[:MAX_WORDS]


def _without_secrets_in_json(text: str) -> str:
    """Objects that are quoted as JSON, redacted as objects are."""
    parts: list[str] = []
    at = 0
    decoder = json.JSONDecoder()
    while (start := text.find('{"', at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            # Cut short, or no JSON after all: what can't be read can't be redacted either.
            return f"{''.join(parts)}{text[at:start].rstrip()} {_LEFT_OUT}"
        parts += (text[at:start], json.dumps(redact_object(value), ensure_ascii=False))
        at = end
    return "".join(parts) + text[at:]


def _without_value(match: re.Match[str]) -> str:
    """The path of a field without the value that is quoted with it."""
    if match[3] is None:
        return match[0]
    steps = [step for step in _NAME.findall(match[1].replace("[", ".").replace("]", "")) if step]
    names = [name for step in steps for name in step.split(".") if name and not name.isdecimal()]
    secret = any(is_secret_name(name) for name in names[-2:]) or (
        names[-1:] == ["value"] and any(name.lower().endswith("env") for name in names)
    )
    return f"{match[1]}: {match[2]}{REDACTED}" if secret else match[0]
