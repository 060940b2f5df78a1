"""The config file of the command line: an address and a token by itself, and contexts that have names."""

import ipaddress
import os
import stat
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.runtime.errors import UserError

PLAIN_HTTP = "ATLHYPER_ALLOW_PLAIN_HTTP"
"""`true` lets a token go over a network in the clear."""
_EXAMPLE = "write `url: http://127.0.0.1:8080`"
_CORRECT = "correct it where it is written, or set ATLHYPER_URL to an address like http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Context:
    """The API to speak with, and as whom."""

    url: str
    token: str | None = field(default=None, repr=False)
    origin: str = "the default"
    """Where the address came from, for error messages."""
    fault: UserError | None = field(default=None, compare=False)
    """Why what the config file holds of it is none; raised when it is used."""
    written: object = field(default=None, repr=False)
    """What that is, so that the file keeps it."""

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
    def is_address(self) -> bool:
        """Whether a host can be read from it."""
        try:
            parts = urllib.parse.urlsplit(self.url)
            known = bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
        except ValueError:
            return False
        return known and self.url.isprintable() and " " not in self.url

    @property
    def headers(self) -> dict[str, str]:
        """The token as a header. Raises UserError where nobody can be spoken with, or would hear it."""
        if self.fault:
            raise self.fault
        if self.scheme not in ("http", "https"):
            raise UserError(
                f"no API answers at {self.url} ({self.origin}): only http:// and https:// are known",
                _CORRECT,
            )
        if not self.is_address:
            raise UserError(f"{self.url!r} ({self.origin}) is no address of an API", _CORRECT)
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


def config_file() -> Path:
    """`~/.config/atlhyper/config.yaml`, or under XDG_CONFIG_HOME."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "atlhyper" / "config.yaml"


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file holds."""

    default: Context = Context("")
    """`url` and `token` beside the contexts: for calls that name no other."""
    contexts: dict[str, Context] = field(default_factory=dict)
    current: str = ""
    """Of the contexts the one that is used when none is named."""


def read_config(path: Path) -> Config:
    """Raises UserError for a file that cannot be used; one that is not there is empty.

    A context that cannot be used is among the others, with its fault: whoever uses another one goes on.
    """
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
    default = _context(path, "", {name: config[name] for name in ("url", "token") if name in config})
    found = Config(default, read, current)
    if stat.S_IMODE(mode) & 0o077 and any(entry.token for entry in (default, *read.values())):
        raise UserError(f"{path} holds a token and can be read by others", f"chmod 600 {path}", 4)
    return found


def _context(path: Path, name: str, entry: object) -> Context:
    origin = f"context {name!r}" if name else str(path)

    def faulty(what: str, advice: str) -> Context:
        given = entry if isinstance(entry, dict) else {}
        url, token = (text if isinstance(text := given.get(key), str) else "" for key in ("url", "token"))
        where = f"{path}: {origin}" if name else origin
        advice = f"`atlhyper context delete {name}` forgets it; or {advice}" if name else advice
        return Context(url, token or None, origin, UserError(f"{where} {what}", advice), entry)

    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        return faulty("is not a list of names and texts", _EXAMPLE)
    if unknown := entry.keys() - {"url", "token"}:
        return faulty(f"has the unknown name {min(unknown, key=str)!r}", "leave it with `url` and `token`")
    if name and not entry.get("url"):
        return faulty("has no `url`", _EXAMPLE)
    return Context(entry.get("url", ""), entry.get("token") or None, origin)


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


def _entry(context: Context) -> Any:
    if context.fault:
        return context.written
    known = {"url": context.url, "token": context.token}
    return {name: value for name, value in known.items() if value}
