"""Where the command line finds API and broker: variables, the config file, a running `atlhyper up`."""

import ipaddress
import json
import os
import stat
import urllib.parse
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from services.runtime.errors import UserError

if TYPE_CHECKING:
    from services.runtime.settings import BusSettings

DEFAULT_URL = "http://127.0.0.1:8080"
PLAIN_HTTP = "ATLHYPER_ALLOW_PLAIN_HTTP"
"""`true` lets a token go over a network in the clear."""
_EXAMPLE = "write `url: http://127.0.0.1:8080`"


@dataclass(frozen=True, slots=True)
class Context:
    """The API to speak with, and as whom."""

    url: str
    token: str | None = field(default=None, repr=False)
    origin: str = "the default"
    """Where the address came from, for error messages."""

    @property
    def scheme(self) -> str:
        """`http`, `https`, or what nobody speaks here; in lower case."""
        return self.url.partition("://")[0].lower() if "://" in self.url else ""

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        try:
            host = urllib.parse.urlsplit(self.url).hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        """The token as a header. Raises UserError rather than show it to a network."""
        if self.scheme not in ("http", "https"):
            raise UserError(
                f"no API answers at {self.url} ({self.origin}): only http:// and https:// are known",
                "correct it where it is written, or set ATLHYPER_URL to an address like http://127.0.0.1:8080",
            )
        if not self.token:
            return {}
        if self.scheme != "https" and not self.is_loopback and not _plain_http_allowed():
            raise UserError(
                f"{self.url} ({self.origin}) speaks plain HTTP: whoever is on the way could read the token",
                f"use https://, or a tunnel to 127.0.0.1; {PLAIN_HTTP}=true sends it all the same",
                4,
            )
        return {"Authorization": f"Bearer {self.token}"}


def _plain_http_allowed() -> bool:
    return os.environ.get(PLAIN_HTTP, "").lower() in ("true", "1", "yes")


def home() -> Path:
    """The folder of ATLHYPER_HOME. The same default as in the services' settings, without their imports."""
    return Path(os.environ.get("ATLHYPER_HOME") or "~/.local/share/atlhyper").expanduser().absolute()


def config_file() -> Path:
    """`~/.config/atlhyper/config.yaml`, or under XDG_CONFIG_HOME."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "atlhyper" / "config.yaml"


def resolve(name: str | None = None) -> Context:
    """The context of this call; `name` is one of the config file's. Raises UserError."""
    path = config_file()
    config = read_config(path)
    if name or (name := os.environ.get("ATLHYPER_CONTEXT")):
        if name not in config.contexts:
            known = ", ".join(sorted(config.contexts)) or "none"
            raise UserError(
                f"no context {name!r} in {path}", f"known contexts: {known}; `atlhyper context set`", 3
            )
        return _with_token(config.contexts[name], None, "")
    token = _token_of_environment()
    loose = config.default.token if not config.default.url else None  # with an address it belongs to that one
    if url := os.environ.get("ATLHYPER_URL"):
        mine = config.default.token if url == config.default.url else loose
        return _with_token(Context(url, origin="ATLHYPER_URL"), token, mine)
    if current := config.contexts.get(config.current):
        return _with_token(current, token, None)
    if config.default.url:
        return _with_token(replace(config.default, origin=str(path)), token, None)
    if state := Running.read(home()):
        origin = f"the running `atlhyper up` (pid {state.pid})"
        return _with_token(Context(state.api, origin=origin), token, loose)
    return _with_token(Context(DEFAULT_URL), token, loose)


def _with_token(context: Context, before: str | None, after: str | None) -> Context:
    """With the first that there is: `before`, its own, that of the `up` that runs there, `after`."""
    return replace(context, token=before or context.token or _token_of_up(context.url) or after or None)


def _token_of_environment() -> str | None:
    if token := os.environ.get("ATLHYPER_TOKEN"):
        return checked_token(token, "ATLHYPER_TOKEN")
    path = os.environ.get("ATLHYPER_TOKEN_FILE")
    return read_token(Path(path).expanduser()) if path else None


def _token_of_up(url: str) -> str | None:
    state = Running.read(home())
    if state is None or state.api != url.rstrip("/"):
        return None
    path = token_file(home())
    return read_token(path) if path.exists() else None


def token_file(home: Path) -> Path:
    """Where `atlhyper up` keeps the token of whoever runs it."""
    return home / "token"


def read_token(path: Path) -> str:
    """The token in a file. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(
            f"cannot read the token in {path}: {error}", "correct or remove that file", 4
        ) from error
    return checked_token(text, str(path))


def checked_token(text: str, where: str) -> str:
    """The token that a file or a variable holds, as a header takes it: a line break behind it is not part of
    it. Raises UserError, which does not show it."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{where} does not hold a token: one is printable ASCII without blanks",
            "`atlhyper tokens create` makes one, with --file in a file",
            4,
        )
    return token


def bus_settings() -> "BusSettings":
    """NATS_URL and its company, except that a running `up` knows where its broker is. Raises UserError."""
    from services.runtime.settings import BusSettings, load

    settings = load(BusSettings)
    state = None if settings.was_set("nats_url") else Running.read(settings.home)
    return load(BusSettings, nats_url=state.nats) if state else settings


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file holds."""

    default: Context = Context("")
    """`url` and `token` beside the contexts: for calls that name no other."""
    contexts: dict[str, Context] = field(default_factory=dict)
    current: str = ""
    """Of the contexts the one that is used when none is named."""


def read_config(path: Path) -> Config:
    """Raises UserError for a file that cannot be used; one that is not there is empty."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "correct or remove that file") from error

    import yaml

    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        first = str(error).partition("\n")[0]
        raise UserError(f"{path} is not YAML: {first}", _EXAMPLE) from error
    except (ValueError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        # Of values that say what they are and are not it; the parser shows them, and one may be a token.
        raise UserError(f"{path} holds a value that cannot be read", _EXAMPLE) from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a list of names and texts", _EXAMPLE)
    if unknown := config.keys() - {"url", "token", "current", "contexts"}:
        allowed = "it may hold `url`, `token`, `current` and `contexts`"
        raise UserError(f"{path}: unknown name {min(unknown, key=str)!r}", allowed)
    contexts, current = config.get("contexts") or {}, config.get("current") or ""
    if not isinstance(contexts, dict) or not isinstance(current, str):
        raise UserError(f"{path}: `contexts` are names with a `url` each, `current` is one of them", _EXAMPLE)
    read = {str(name): _context(path, str(name), entry) for name, entry in contexts.items()}
    if current and current not in read:
        raise UserError(
            f"{path}: `current` is {current!r}, which is no context", "`atlhyper context use NAME`"
        )
    default = _context(path, "", {name: config[name] for name in ("url", "token") if name in config})
    found = Config(default, read, current)
    if stat.S_IMODE(mode) & 0o077 and any(entry.token for entry in (default, *read.values())):
        raise UserError(f"{path} holds a token and can be read by others", f"chmod 600 {path}", 4)
    return found


def _context(path: Path, name: str, entry: object) -> Context:
    where = f"{path}: context {name!r}" if name else str(path)
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise UserError(f"{where} is not a list of names and texts", _EXAMPLE)
    if unknown := entry.keys() - {"url", "token"}:
        raise UserError(f"{where}: unknown name {min(unknown, key=str)!r}", "it may hold `url` and `token`")
    if name and not entry.get("url"):
        raise UserError(f"{where} has no `url`", _EXAMPLE)
    token = checked_token(entry["token"], f"{where}: `token`") if entry.get("token") else None
    return Context(entry.get("url", ""), token, f"context {name!r}" if name else str(path))


def write_config(path: Path, config: Config) -> None:
    """Replace the file; nobody else can read it."""
    import yaml

    content: dict[str, object] = _entry(config.default)
    if config.current:
        content["current"] = config.current
    if config.contexts:
        content["contexts"] = {name: _entry(context) for name, context in sorted(config.contexts.items())}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch(0o600)
        temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _entry(context: Context) -> dict[str, object]:
    known = {"url": context.url, "token": context.token}
    return {name: value for name, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Running:
    """What `atlhyper up` runs, as it writes it to `up.json`: addresses and pids, no secrets."""

    pid: int
    api: str
    nats: str
    target: str
    kubeconfig: str
    """Of the cluster that is attached; empty for the default one."""
    processes: dict[str, int]

    @classmethod
    def read(cls, home: Path) -> "Running | None":
        """The `up` of this home; None when none runs."""
        try:
            state = cls(**json.loads((home / "up.json").read_text(encoding="utf-8")))
            os.kill(state.pid, 0)
        except (OSError, ValueError, TypeError):
            return None
        return state

    def write(self, home: Path) -> None:
        """Replace `up.json`."""
        temporary = home / f".up.json.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(home / "up.json")


def forget(home: Path) -> None:
    """Remove `up.json`: nothing runs any more."""
    (home / "up.json").unlink(missing_ok=True)
