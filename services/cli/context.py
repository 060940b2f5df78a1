"""Where the command line finds API and broker: variables, the config file, a running `atlhyper up`."""

import json
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from services.runtime.errors import UserError

if TYPE_CHECKING:
    from services.runtime.settings import BusSettings

DEFAULT_URL = "http://127.0.0.1:8080"
_EXAMPLE = "write `url: http://127.0.0.1:8080`"


@dataclass(frozen=True, slots=True)
class Context:
    """The API to speak with, and as whom."""

    url: str
    token: str | None = field(default=None, repr=False)
    origin: str = "the default"
    """Where the address came from, for error messages."""


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
        return config.contexts[name]
    token = os.environ.get("ATLHYPER_TOKEN")
    if url := os.environ.get("ATLHYPER_URL"):
        return Context(url, token or config.default.token, "ATLHYPER_URL")
    if current := config.contexts.get(config.current):
        return replace(current, token=token or current.token)
    if url := config.default.url:
        return Context(url, token or config.default.token, str(path))
    token = token or config.default.token
    if state := Running.read(home()):
        return Context(state.api, token, f"the running `atlhyper up` (pid {state.pid})")
    return Context(DEFAULT_URL, token)


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
    return Context(entry.get("url", ""), entry.get("token"), f"context {name!r}" if name else str(path))


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
