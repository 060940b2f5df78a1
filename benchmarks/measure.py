"""One figure of ours beside its reference, taken in one run."""

import statistics
from dataclasses import asdict, dataclass, field

MANY = 30
"""Values from which on a figure is shown and saved by its quantiles."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`ours` and `reference` in `unit`, one value per round or per sample.

    A bar is held against `percentile` of ours: the median, or the 99th for latencies.
    """

    name: str
    unit: str
    ours: list[float]
    reference_name: str = ""
    reference: list[float] = field(default_factory=list)
    percentile: int = 50
    bar_ratio: float | None = None
    """At most this much of the reference."""
    bar: float | None = None
    """At most this much, in `unit`."""
    floor: float | None = None
    """At least this much, in `unit`."""
    published: str = ""
    """What others have published, for comparison only."""
    note: str = ""
    """What is simulated, what the value includes, and how exact it is."""

    @property
    def value(self) -> float:
        """What the bars are held against."""
        return quantile(self.ours, self.percentile)

    @property
    def ratio(self) -> float | None:
        """Ours over the reference, both at `percentile`."""
        return self.value / quantile(self.reference, self.percentile) if self.reference else None

    @property
    def met(self) -> bool:
        """Whether the bars are met."""
        return (
            (self.bar_ratio is None or (self.ratio is not None and self.ratio <= self.bar_ratio))
            and (self.bar is None or self.value <= self.bar)
            and (self.floor is None or self.value >= self.floor)
        )

    @property
    def verdict(self) -> str:
        """The bar and whether it is met; empty without one."""
        which = f"p{self.percentile} " if len(self.ours) >= MANY and self.percentile != 50 else ""
        bars = [f"{which}≤ {self.bar_ratio:g} ×"] if self.bar_ratio is not None else []
        bars += [f"{which}≤ {self.bar:g} {self.unit}"] if self.bar is not None else []
        bars += [f"≥ {self.floor:g} {self.unit}"] if self.floor is not None else []
        return f"{', '.join(bars)}: {'met' if self.met else 'NOT met'}" if bars else ""

    def row(self) -> tuple[str, ...]:
        """For a person: what, ours, reference, ratio, bar, note."""
        reference = f"{self.reference_name}: {spread(self.reference)}" if self.reference else "none"
        ratio = f"{self.ratio:.2f}" if self.ratio is not None else ""
        note = "; ".join(text for text in (self.note, self.published and f"others: {self.published}") if text)
        return self.name, f"{spread(self.ours)} {self.unit}", reference, ratio, self.verdict, note

    def as_json(self) -> dict[str, object]:
        """For the saved result. Of many samples the quantiles say enough."""
        found = asdict(self) | {"value": self.value, "ratio": self.ratio, "met": self.met}
        return found | {key: summary(found[key]) for key in ("ours", "reference") if len(found[key]) >= MANY}


def quantile(values: list[float], percent: int) -> float:
    """The smallest value that `percent` of all are not above; the usual median for 50."""
    if percent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def summary(values: list[float]) -> dict[str, float]:
    """Many values in a few."""
    found = {f"p{percent}": quantile(values, percent) for percent in (50, 95, 99)}
    return found | {"least": min(values), "most": max(values), "samples": len(values)}


def spread(values: list[float]) -> str:
    """One value; the median and the range of a few; the quantiles of many."""
    if len(values) == 1:
        return number(values[0])
    if len(values) < MANY:
        return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"
    return " / ".join(number(quantile(values, percent)) for percent in (50, 95, 99)) + " (p50/p95/p99)"


def number(value: float) -> str:
    """Three digits that count, written plainly."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


HEADINGS = ("what", "ours", "reference, same run", "ratio", "bar", "note")


def table(figures: list[Figure]) -> str:
    """All of them as one Markdown table."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(figure.row() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
