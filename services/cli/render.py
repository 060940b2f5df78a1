"""How rows are shown: kubectl's tables and ages, JSON, YAML and names."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from services.runtime.terminal import printable


class Output(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


OUTPUTS = [output.value for output in Output]
"""The same as plain texts: click takes the names of an enum's members for its choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How rows are printed."""

    output: Output = Output.TABLE
    header: bool = True
    labels: tuple[str, ...] = ()
    """Labels with a column of their own (`-L`)."""
    all_labels: bool = False
    events: bool = False
    """Say what has happened to each row (`--output-watch-events`)."""

    @classmethod
    def of(
        cls,
        output: str,
        no_headers: bool,
        show_labels: bool = False,
        label_columns: tuple[str, ...] = (),
        output_watch_events: bool = False,
    ) -> "Display":
        """From what was typed."""
        labels = tuple(label for part in label_columns for label in part.split(",") if label)
        return cls(
            output=Output(output),
            header=not no_headers,
            labels=labels,
            all_labels=show_labels,
            events=output_watch_events,
        )

    @property
    def full(self) -> bool:
        """Rows alone are not enough."""
        return self.output in (Output.JSON, Output.YAML) or bool(self.labels) or self.all_labels


def age(since: datetime, now: datetime) -> str:
    """How long ago, as kubectl writes it: a second unit while it matters (`3m12s`, `5h`, `4d2h`)."""
    seconds = int((now - since).total_seconds())
    return "<invalid>" if seconds < -1 else span(max(seconds, 0))


def span(seconds: int) -> str:
    """A length of time as `age` writes it."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    years = days // 365
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    if years < 8:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def age_of(text: str | None, now: datetime | None = None) -> str:
    """The age of an RFC 3339 time; `<unknown>` where there is none."""
    if not text:
        return "<unknown>"
    return age(datetime.fromisoformat(text), now or datetime.now(UTC))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns three spaces apart, without lines, so that it reads well and cuts well."""
    lines = [list(header), *(cells(row) for row in rows)]
    measured = widths(lines)
    return "\n".join(line(each, measured) for each in lines)


def widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Of each column the longest cell."""
    return [max(len(each[column]) for each in lines) for column in range(len(lines[0]))]


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table."""
    return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def cells(values: Iterable[str]) -> list[str]:
    """Values as they stand in a table."""
    return [_cell(value) for value in values]


def _cell(value: str) -> str:
    return printable(value) or "<none>"


def text(value: object) -> str:
    """A value of a row as a cell."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Mapping():
            return ",".join(f"{key}={text(item)}" for key, item in value.items())
        case list() | tuple():
            return ",".join(text(item) for item in value)
    return str(value)


def document(value: Any, output: Output) -> str:
    """JSON or YAML, in the API's order of keys."""
    if output is Output.YAML:
        import yaml

        dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        return dumped.rstrip("\n")
    return json.dumps(value, indent=2, ensure_ascii=False)
