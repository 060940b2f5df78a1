"""How a command ends: its last report, and its data as JSON."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from schemas.commands import (
    MAX_RESULT,
    CommandCompleted,
    CommandError,
    CommandState,
    ErrorCode,
    ResultPart,
)
from services.runtime.words import counted

INLINE = 700 * 1024
"""Bytes of data that travel in the last report itself."""
SLICE = 350 * 1024
"""Bytes of data in one part. As a JSON string in a JSON message they may double."""
_MAX_WARNINGS = 64
_MAX_TEXT = 4096
"""Characters of one warning, and of an error's message."""


class Ending(NamedTuple):
    """How a command has ended."""

    state: CommandState
    error: CommandError | None = None
    data: Any = None
    warnings: Sequence[str] = ()


class Refusal(NamedTuple):
    """Why a command is not begun."""

    state: CommandState
    error: CommandError


def succeeded(data: Any = None, warnings: Sequence[str] = ()) -> Ending:
    """It is done."""
    return Ending(CommandState.SUCCEEDED, None, data, warnings)


def ended(state: CommandState, code: ErrorCode, message: str) -> Ending:
    """It has not succeeded, for a reason of ours."""
    return Ending(state, CommandError(code=code, message=message))


def fault(error: Exception) -> str:
    """What is told of a fault of ours: only its kind, for its text may quote what is secret."""
    return f"a fault of the agent ({type(error).__name__}); its log says more"


def completed(command_id: str, ending: Ending, at: datetime) -> tuple[CommandCompleted, bytes]:
    """The last report without its data, and the data as JSON (empty: null). `at`: when it has ended."""
    try:
        data = b"" if ending.data is None else _json(ending.data)
    except (TypeError, ValueError, RecursionError) as problem:
        data = b""
        text = f"what it gave back can't be written as JSON ({problem}); its state was {ending.state}"
        ending = ended(CommandState.FAILED, ErrorCode.INTERNAL, text)
    if len(data) > MAX_RESULT:
        text = f"what it gave back has {len(data)} bytes, a result at most {MAX_RESULT}"
        if ending.error is not None:
            text += f"; {ending.error.message}"
        ending = ended(CommandState.FAILED, ErrorCode.TOO_LARGE, f"{text}; its state was {ending.state}")
        data = b""
    error = ending.error
    if error is not None:
        error = error.model_copy(update={"message": _cut(error.message)})
    warnings = [_cut(warning) for warning in ending.warnings[:_MAX_WARNINGS]]
    if (more := len(ending.warnings) - _MAX_WARNINGS) > 0:
        warnings.append(f"and {counted(more, 'more warning')}")
    return (
        CommandCompleted(
            command_id=command_id,
            state=ending.state,
            success=ending.state is CommandState.SUCCEEDED,
            parts=0 if len(data) <= INLINE else sum(1 for _ in _slices(data)),
            error=error,
            warnings=warnings,
            executed_at=at,
        ),
        data,
    )


def with_data(report: CommandCompleted, size: int, data: bytes) -> CommandCompleted:
    """The last report as it is sent, with data that fits into it. `size`: what data there was once."""
    if size and not data:
        warning = f"its data ({size} bytes) is no longer kept by the agent"
        return report.model_copy(update={"parts": 0, "warnings": [*report.warnings, warning]})
    if report.parts or not data:
        return report
    return report.model_copy(update={"data": json.loads(data)})


def parts(report: CommandCompleted, data: bytes) -> Iterator[ResultPart]:
    """The messages that carry data which does not fit into the last report."""
    if report.parts and data:
        for index, piece in enumerate(_slices(data)):
            yield ResultPart(
                command_id=report.command_id, index=index, count=report.parts, data=piece.decode()
            )


def _slices(data: bytes) -> Iterator[bytes]:
    """`data` in pieces, none of which ends inside a character."""
    start = 0
    while start < len(data):
        end = min(start + SLICE, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end]
        start = end


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _cut(text: str) -> str:
    text = text.encode(errors="replace").decode()  # half a surrogate pair could not be written down
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} … ({len(text)} characters)"
