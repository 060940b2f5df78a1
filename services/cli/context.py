"""Where the command line finds API and broker: variables, the config file, a running `atlhyper up`."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.config import Context, config_file, read_config
from services.runtime.errors import UserError

if TYPE_CHECKING:
    from services.runtime.settings import BusSettings

DEFAULT_URL = "http://127.0.0.1:8080"


def home() -> Path:
    """The folder of ATLHYPER_HOME. The same default as in the services' settings, without their imports."""
    return Path(os.environ.get("ATLHYPER_HOME") or "~/.local/share/atlhyper").expanduser().absolute()


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
        return _with_token(config.contexts[name], None, None)
    if config.current and config.current not in config.contexts and not os.environ.get("ATLHYPER_URL"):
        raise UserError(
            f"{path}: `current` is {config.current!r}, which is no context", "`atlhyper context use NAME`"
        )
    token = _token_of_environment()
    loose = config.default if not config.default.url else None  # with an address it belongs to that one
    if url := os.environ.get("ATLHYPER_URL"):
        mine = config.default if url == config.default.url else loose
        return _with_token(Context(url, origin="ATLHYPER_URL"), token, mine)
    if current := config.contexts.get(config.current):
        return _with_token(current, token, None)
    if config.default.url or config.default.fault:
        return _with_token(replace(config.default, origin=str(path)), token, None)
    if state := Running.read(home()):
        origin = f"the running `atlhyper up` (pid {state.pid})"
        return _with_token(Context(state.api, origin=origin), token, loose)
    return _with_token(Context(DEFAULT_URL), token, loose)


def _with_token(context: Context, before: str | None, after: Context | None) -> Context:
    """With the first that there is: `before`, its own, that of the `up` that runs there, that of `after`.

    Raises UserError for one that cannot be used, as for a context that is none.
    """
    if context.fault:
        raise context.fault
    token = before or _own_token(context) or _token_of_up(context.url)
    return replace(context, token=token or (_own_token(after) if after else None))


def _own_token(context: Context) -> str | None:
    if context.fault:
        raise context.fault
    if not context.token:
        return None
    advice = "`atlhyper tokens create` makes one, `atlhyper context set NAME --token-file FILE` takes it"
    return checked_token(context.token, f"{context.origin}: `token`", advice)


def usable(context: Context) -> None:
    """Raises UserError, which says why nothing can be asked of a context."""
    _with_token(context, None, None).headers  # noqa: B018 it is for what this raises


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


def checked_token(
    text: str, where: str, advice: str = "`atlhyper tokens create` makes one, with --file in a file"
) -> str:
    """The token that a file or a variable holds, as a header takes it: a line break behind it is not part of
    it. Raises UserError, which does not show it."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{where} does not hold a token: one is printable ASCII without blanks", advice, 4)
    return token


def bus_settings() -> "BusSettings":
    """NATS_URL and its company, except that a running `up` knows where its broker is. Raises UserError."""
    from services.runtime.settings import BusSettings, load

    settings = load(BusSettings)
    state = None if settings.was_set("nats_url") else Running.read(settings.home)
    return load(BusSettings, nats_url=state.nats) if state else settings


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
