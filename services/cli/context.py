"""Where the command line finds API and broker: variables, the config file, a running `atlhyper up`."""

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from services.runtime.errors import UserError

if TYPE_CHECKING:
    from services.runtime.settings import BusSettings

DEFAULT_URL = "http://127.0.0.1:8080"


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


def resolve() -> Context:
    """The context of this call. Raises UserError for a config file that cannot be used."""
    config = _read_config(config_file())
    token = os.environ.get("ATLHYPER_TOKEN") or config.get("token")
    if url := os.environ.get("ATLHYPER_URL"):
        return Context(url, token, "ATLHYPER_URL")
    if url := config.get("url"):
        return Context(url, token, str(config_file()))
    if state := Running.read(home()):
        return Context(state.api, token, f"the running `atlhyper up` (pid {state.pid})")
    return Context(DEFAULT_URL, token)


def bus_settings() -> "BusSettings":
    """NATS_URL and its company, except that a running `up` knows where its broker is. Raises UserError."""
    from services.runtime.settings import BusSettings, load

    settings = load(BusSettings)
    state = None if settings.was_set("nats_url") else Running.read(settings.home)
    return load(BusSettings, nats_url=state.nats) if state else settings


def _read_config(path: Path) -> dict[str, str]:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "correct or remove that file") from error

    import yaml

    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        first = str(error).partition("\n")[0]
        raise UserError(f"{path} is not YAML: {first}", "write `url: http://127.0.0.1:8080`") from error
    if not isinstance(config, dict) or not all(isinstance(value, str) for value in config.values()):
        raise UserError(f"{path} is not a list of names and texts", "write `url: http://127.0.0.1:8080`")
    if unknown := config.keys() - {"url", "token"}:
        raise UserError(f"{path}: unknown name {min(unknown)!r}", "it may hold `url` and `token`")
    if "token" in config and stat.S_IMODE(mode) & 0o077:
        raise UserError(f"{path} holds a token and can be read by others", f"chmod 600 {path}", 4)
    return config


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
