"""One figure of ours beside its reference, taken in one run."""

import statistics
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """`ours` and `reference` in `unit`, one value per round; the bars are what ratio and value must meet."""

    name: str
    unit: str
    ours: list[float]
    reference_name: str
    reference: list[float] = field(default_factory=list)
    bar_ratio: float | None = None
    """At most this much of the reference's median."""
    bar: float | None = None
    """At most this much, in `unit`."""
    published: str = ""
    """What others have published, for comparison only."""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the reference."""
        return statistics.median(self.ours) / statistics.median(self.reference) if self.reference else None

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        by_ratio = self.bar_ratio is None or (self.ratio is not None and self.ratio <= self.bar_ratio)
        return by_ratio and (self.bar is None or statistics.median(self.ours) <= self.bar)

    def line(self) -> str:
        """For a person."""
        text = f"{self.name}: {_spread(self.ours)} {self.unit}"
        if self.reference:
            text += f"; {self.reference_name}: {_spread(self.reference)} {self.unit}; ratio {self.ratio:.2f}"
        bars = [f"≤ {self.bar_ratio} ×"] if self.bar_ratio is not None else []
        bars += [f"≤ {self.bar:g} {self.unit}"] if self.bar is not None else []
        if bars:
            text += f"; bar {', '.join(bars)}: {'met' if self.met else 'NOT met'}"
        return text + (f"; published: {self.published}" if self.published else "")

    def as_json(self) -> dict[str, object]:
        """For the saved result."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"
