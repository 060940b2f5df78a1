"""What a run found: one row per fault, and what was violated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

ENOUGH = 50.0
"""Acknowledged changes per second that a fault has to meet, or it proves nothing."""


@dataclass(slots=True)
class FaultRow:
    """One fault. Times in seconds; `began` since the load began."""

    name: str
    choice: str
    began: float
    outage: float
    rate_before: float
    """Acknowledged changes per second just before it."""
    rate_during: float | None
    """While it lasted; None when it stopped the load itself."""
    recovered: float | None = None
    """From its end until a change written then was visible over REST; None: not within the limit."""

    @property
    def void(self) -> bool:
        """It met no load."""
        during = self.rate_during is None or self.rate_during >= ENOUGH
        return self.rate_before < ENOUGH or not during


@dataclass(slots=True)
class Result:
    """One run."""

    seed: int
    rows: list[FaultRow] = field(default_factory=list)
    converged: float | None = None
    """Seconds from the end of the last fault until every kind was equal; None: not within the limit."""
    changes: int = 0
    """Acknowledged."""
    untouched: list[str] = field(default_factory=list)
    """Kinds that some verb never succeeded on."""
    violations: list[str] = field(default_factory=list)

    @property
    def void(self) -> list[str]:
        """The faults that met no load."""
        return [row.name for row in self.rows if row.void] + self.untouched

    @property
    def verdict(self) -> str:
        """`held`, `void` or `violated`."""
        return "violated" if self.violations else "void" if self.void or not self.rows else "held"

    def text(self) -> str:
        """The whole, for a terminal or a failing test."""
        lines = [f"seed {self.seed}: {self.verdict}; {self.changes} changes", table(self.rows)]
        lines += [f"void: {what}" for what in self.void]
        lines += [f"violated: {what}" for what in self.violations]
        if self.converged is not None:
            lines.append(f"converged {self.converged:.1f} s after the last fault")
        return "\n".join(lines)


def table(rows: Iterable[FaultRow]) -> str:
    """Markdown, one row per fault."""
    head = ("fault", "where", "began", "outage", "changes/s before", "during", "recovered in", "")
    cells = [
        (
            row.name,
            row.choice,
            f"{row.began:.0f} s",
            f"{row.outage:.1f} s",
            f"{row.rate_before:.0f}",
            "–" if row.rate_during is None else f"{row.rate_during:.0f}",
            "never" if row.recovered is None else f"{row.recovered:.1f} s",
            "void" if row.void else "",
        )
        for row in rows
    ]
    return markdown(head, cells)


def summary(results: Sequence[Result], descriptions: dict[str, str]) -> str:
    """Markdown over several runs: per fault how often, and the recovery times (median and longest)."""
    by_name: dict[str, list[FaultRow]] = {}
    for result in results:
        for row in result.rows:
            by_name.setdefault(row.name, []).append(row)
    cells = []
    for name, rows in by_name.items():
        times = sorted(row.recovered for row in rows if row.recovered is not None)
        middle, longest = (times[len(times) // 2], times[-1]) if times else (0.0, 0.0)
        cells.append(
            (
                name,
                descriptions.get(name, ""),
                str(len(rows)),
                str(sum(row.void for row in rows)),
                f"{min(row.rate_before for row in rows):.0f}",
                f"{middle:.1f} s",
                f"{longest:.1f} s",
                str(sum(row.recovered is None for row in rows)),
            )
        )
    head = ("fault", "what it is", "runs", "void", "fewest changes/s", "recovered in", "longest", "never")
    return markdown(head, cells)


def by_seed(results: Sequence[Result]) -> str:
    """Markdown, one row per run: what it changed, and the seconds until it had recovered from each fault."""
    names = list(dict.fromkeys(row.name for result in results for row in result.rows))
    cells = [
        (
            str(result.seed),
            f"{result.changes:,}",
            f"{min((row.rate_before for row in result.rows), default=0):.0f}",
            *(_recovered(result, name) for name in names),
            _seconds(result.converged),
            result.verdict,
        )
        for result in results
    ]
    return markdown(("seed", "changes", "fewest changes/s", *names, "equal after", "verdict"), cells)


def _recovered(result: Result, name: str) -> str:
    rows = [row for row in result.rows if row.name == name]
    return ", ".join(f"{_seconds(row.recovered)} {row.choice}".strip() for row in rows)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


def markdown(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
