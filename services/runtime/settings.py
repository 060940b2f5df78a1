"""Settings: one typed model per service, read from the environment and from one optional file.

A variable is the service's prefix and the field's name in capitals (`AGENT_` + `cluster_id`), or the
field's `validation_alias` where several services share it (`NATS_URL`). Empty means unset. Lists are
separated by commas. `ATLHYPER_ENV_FILE` names a file of `NAME=value` lines; the environment wins over it.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.runtime import logs
from services.runtime.errors import UserError

_log = logs.get_logger(__name__)

ENV_FILE = "ATLHYPER_ENV_FILE"

KNOWN_ELSEWHERE = frozenset(
    {ENV_FILE, "ATLHYPER_URL", "ATLHYPER_TOKEN", "ATLHYPER_TOKEN_FILE", "ATLHYPER_ALLOW_PLAIN_HTTP"}
    | {"DATABASE_URL", "NATS_CREDENTIALS", "NATS_LISTEN"}
    | {"NATS_PING_INTERVAL", "NATS_TLS_CA", "NATS_TLS_CERT", "NATS_TLS_KEY", "NATS_URL"}
)
"""Ours, and in one environment with the variables of a service that does not read them."""

_NATS_COMMAND = frozenset(
    f"NATS_{name}" for name in ("CA", "CERT", "CONTEXT", "CREDS", "KEY", "NKEY", "PASSWORD", "TOKEN", "USER")
)
"""What the `nats` command reads."""

EXIT_CONFIG = 78
"""`EX_CONFIG` of sysexits.h: starting again does not help until somebody changes the configuration."""


class SettingsError(UserError):
    """A variable that cannot be used: its name, what is wrong, and what to write instead."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message, next_step, exit_code=EXIT_CONFIG)


# --- durations ---------------------------------------------------------------------------------------

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def parse_duration(value: object) -> float:
    """Seconds of `500ms`, `30s`, `5m`, `1h30m` or `2d`; a number is seconds already."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    raise ValueError(f"{value!r} is not a duration; write a number and its unit: 500ms, 30s, 5m, 1h30m or 2d")


def format_duration(seconds: float) -> str:
    """The shortest way to write it: `format_duration(300.0) == "5m"`."""
    for unit, size in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if seconds >= size and (count := round(seconds / size, 6)) == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""Seconds, written with a unit."""


# --- the base ----------------------------------------------------------------------------------------


class Settings(BaseSettings):
    """Base of every service's settings; read one with `load`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )

    home: Path = Field(default=Path("~/.local/share/atlhyper"), validation_alias="ATLHYPER_HOME")
    """Folder of what AtlHyper keeps on this machine: database, broker store, credentials, logs."""

    log_level: str = Field(default="info", validation_alias="ATLHYPER_LOG_LEVEL")
    """Least level that is logged: debug, info, warning or error."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError(f"{value!r} is none of debug, info, warning and error")
        return value.lower()

    def was_set(self, field: str) -> bool:
        """Whether the field came from outside instead of its default."""
        return field in self.model_fields_set

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)


class BusSettings(Settings):
    """How to reach the broker."""

    nats_url: str = Field(default="nats://127.0.0.1:4222", validation_alias="NATS_URL")
    """Address of the NATS broker; several are separated by commas."""

    credentials: Path | None = Field(default=None, validation_alias="NATS_CREDENTIALS")
    """File with the nkey seed; by default `nats/credentials/<user>.nk` under ATLHYPER_HOME."""

    tls_ca: Path | None = Field(default=None, validation_alias="NATS_TLS_CA")
    """Certificate authority (PEM) that signed the broker's certificate; empty: those of the machine."""

    ping_interval: Duration = Field(default=15.0, ge=0.1, validation_alias="NATS_PING_INTERVAL")
    """Time between pings of the broker; a connection that died unnoticed is found after three of them."""

    @field_validator("nats_url")
    @classmethod
    def _is_nats(cls, value: str) -> str:
        for url in value.split(","):
            scheme = url.strip().partition("://")[0]
            if scheme in ("http", "https"):
                raise ValueError(
                    f"{logs.mask(url)!r} is an HTTP address, and agents no longer speak HTTP with the "
                    "master: everything goes over NATS now; write the broker's address, as in nats://127.0.0.1:4222"
                )
            if scheme not in ("nats", "tls", "ws", "wss") or "://" not in url:
                raise ValueError(f"{logs.mask(url)!r} is not a broker's address; write nats://host:4222")
        return value

    def seed_file(self, user: str) -> Path:
        """The file with the nkey seed of `user`."""
        return self.credentials or self.home / "nats" / "credentials" / f"{user}.nk"


def _default_database(data: dict[str, Any]) -> str:
    return f"sqlite+aiosqlite:///{data['home'] / 'atlhyper.db'}" if "home" in data else ""


class StoreSettings(Settings):
    """Where the database is."""

    database_url: str = Field(default_factory=_default_database, validation_alias="DATABASE_URL", repr=False)
    """`sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`; by default `atlhyper.db` under ATLHYPER_HOME."""

    @field_validator("database_url")
    @classmethod
    def _is_async(cls, value: str) -> str:
        if not value.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError(
                "not a database we know; write sqlite+aiosqlite:///path or postgresql+asyncpg://user@host/name"
            )
        return value


class MetricsSettings(Settings):
    """Where `/livez`, `/readyz` and `/metrics` are served. Services override the default port."""

    metrics_listen: str = "127.0.0.1:9464"
    """Address of the health and metrics server; loopback only. A default port in use moves to the next."""


# --- reading -----------------------------------------------------------------------------------------

Loaded = TypeVar("Loaded", bound=Settings)


def variables(model: type[Settings]) -> dict[str, tuple[str, ...]]:
    """The variables of each field, the one that wins first."""
    prefix = model.model_config.get("env_prefix", "")
    return {name: _names(name, info, prefix) for name, info in model.model_fields.items()}


def _names(name: str, info: FieldInfo, prefix: str) -> tuple[str, ...]:
    match info.validation_alias:
        case str(alias):
            return (alias,)
        case AliasChoices(choices=choices):
            return tuple(choice for choice in choices if isinstance(choice, str))
    return (prefix + name.upper(),)


class _Environment(PydanticBaseSettingsSource):
    """The values of a model from the environment, by field name.

    Ours because pydantic-settings' own source would also read `HOME` for the field
    `home`, and JSON for lists.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("values are read all at once, in __call__")

    def __call__(self) -> dict[str, Any]:
        assert issubclass(self.settings_cls, Settings)
        surroundings = environment()
        values: dict[str, Any] = {}
        for field, names in variables(self.settings_cls).items():
            text = next((surroundings[name] for name in names if surroundings.get(name)), None)
            if text is not None:
                values[field] = _split(text) if _is_list(self.settings_cls.model_fields[field]) else text
        return values


def _is_list(info: FieldInfo) -> bool:
    return get_origin(info.annotation) in (list, tuple, set, frozenset)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def environment() -> Mapping[str, str]:
    """The environment, over the file that ATLHYPER_ENV_FILE names. Raises SettingsError."""
    name = os.environ.get(ENV_FILE)
    if not name:
        return os.environ
    path = Path(name).expanduser()
    try:
        with path.open(encoding="utf-8") as stream:
            lines = dotenv_values(stream=stream, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(
            f"{ENV_FILE}: cannot read {path}: {why}", "correct the path or unset it"
        ) from error
    return {**{key: value for key, value in lines.items() if value is not None}, **os.environ}


def load(model: type[Loaded], **overrides: Any) -> Loaded:
    """The settings of a service; `overrides` are values by field name, from the command line.

    Raises SettingsError for the first variable that is wrong, and for an unknown one that looks like a
    misspelt one of ours; other unknown ones are one warning, since platforms inject their own.
    """
    _check_names(model)
    try:
        return model(**overrides)
    except ValidationError as error:
        raise _explain(model, error) from error


_CLOSE = 0.8
"""How alike two names are from which one is taken for a misspelling of the other (difflib ratio)."""


def _check_names(model: type[Settings]) -> None:
    known = {name for names in variables(model).values() for name in names} | KNOWN_ELSEWHERE
    prefixes = tuple({name.partition("_")[0] + "_" for name in known})
    own = model.model_config.get("env_prefix", "")
    unknown = []
    for name in sorted(environment()):
        if name in known | _NATS_COMMAND or not name.startswith(prefixes):
            continue
        if alike := difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE):
            raise SettingsError(
                f"{name} is not a variable of AtlHyper; {alike[0]} is", f"rename it to {alike[0]}"
            )
        if own and name.startswith(own):
            unknown.append(name)
    if unknown:
        _log.warning("variables that AtlHyper does not know are ignored", names=", ".join(unknown))


def _explain(model: type[Settings], error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False, include_context=False)[0]
    location = str(first["loc"][0]) if first["loc"] else ""
    names = variables(model)
    by_alias = {name: field for field, several in names.items() for name in several}
    field = location if location in names else by_alias.get(location, "")
    surroundings = environment()
    variable = next((name for name in names.get(field, ()) if surroundings.get(name)), location)
    message = str(first["msg"]).removeprefix("Value error, ")
    info = model.model_fields.get(field)
    if first["type"] != "value_error" and info is not None and not _is_secret(info):
        message = f"{str(first['input'])[:80]!r}: {message[0].lower()}{message[1:]}"
    message, semicolon, advice = message.partition("; ")
    if not semicolon:
        advice = f"correct {variable}; `docs/reference/settings.md` describes it"
    return SettingsError(f"{variable}: {message}", advice)


def _is_secret(info: FieldInfo) -> bool:
    return not info.repr or info.annotation is SecretStr


# --- for help texts and the reference ----------------------------------------------------------------


class Variable(BaseModel):
    """One variable, for people."""

    names: tuple[str, ...]
    default: str
    description: str


def describe(model: type[Settings]) -> Iterator[Variable]:
    """The variables of a model with their defaults as one would write them."""
    for field, names in variables(model).items():
        info = model.model_fields[field]
        yield Variable(
            names=names, default=_default(info), description=" ".join((info.description or "").split())
        )


def _default(info: FieldInfo) -> str:
    value = info.default
    if info.default_factory is not None or value is None:
        return ""
    if any(item.func is format_duration for item in info.metadata if isinstance(item, PlainSerializer)):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(str(item) for item in value)
    return str(value)
