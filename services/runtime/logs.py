"""Logs: one line per fact on standard error, JSON unless a person is looking.

Ours and those of the libraries pass the same processors, so that one place keeps secrets out.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

MASK: Final = "***"

_SECRET_NAME = re.compile(r"password|passwd|secret|token|seed|authorization|private_key", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(?P<url>://[^\s/:@]*:)[^\s/@]+(?=@)"  # the password of a URL
    r"|(?P<bearer>\bBearer\s+)[\w.~+/=-]+"  # RFC 6750
    r"|atlhyper_[A-Za-z0-9_-]{43}(?!-*[A-Za-z0-9_])"  # a token of the API; metrics and databases begin so too
    r"|\bS[UAONCX][A-Z2-7]{56}\b"  # an nkey seed
)


def _hide(match: re.Match[str]) -> str:
    return f"{match['url'] or match['bearer'] or ''}{MASK}"


def mask(text: str) -> str:
    """`text` without passwords in URLs, bearer tokens, tokens of the API and nkey seeds."""
    return _SECRET_TEXT.sub(_hide, text)


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The last resort: a secret that somebody logs by mistake does not reach the sink."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = MASK if value and _SECRET_NAME.search(name) else mask(value)
    return event


def _lead(_logger: object, _method: str, event: EventDict) -> EventDict:
    """When, how grave, what, before the fields: a person reads these files too."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}


def _errors_as_text(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """An exception given as a field becomes its type and text; `exc_info` remains for the whole trace."""
    for name, value in event.items():
        if isinstance(value, BaseException):
            event[name] = f"{type(value).__name__}: {value}" if str(value) else type(value).__name__
    return event


class _StandardError(logging.Handler):
    """Writes to what standard error is now, which tests and progress displays replace."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 a log line that cannot be written must not end its writer
            self.handleError(record)


def _closing(as_json: bool) -> list[Processor]:
    """From an event to text. Traces become text first, without local variables, and so are masked too."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    return [structlog.processors.format_exc_info, _redact, _lead, renderer]


def configure(level: str = "info", json: bool | None = None) -> None:
    """Send structlog and the standard library's logging to standard error.

    `json=None` decides by whether standard error is a terminal. Calling it again replaces the first call.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _errors_as_text,
    ]
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_closing(as_json)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    floor = max(root.level, logging.INFO)
    # On DEBUG these two write request headers and bodies, and with them bearer tokens.
    for name in ("kubernetes_asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(floor)
    # Theirs are told by our own lines, once per cause instead of once per attempt.
    for name in ("nats", "httpx", "httpcore", "alembic", "asyncio"):
        logging.getLogger(name).setLevel(max(floor, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `get_logger(__name__)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _default() -> None:
    """Until `configure` is called: warnings as plain lines on standard error, for standard output is data."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, _errors_as_text, *_closing(as_json=False)],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )


_default()
