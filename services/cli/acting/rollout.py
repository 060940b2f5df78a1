"""`--max-unavailable --max-failures --cluster-selector`: one intent for many clusters, a few at a time."""

import math
import re
from dataclasses import dataclass
from typing import Any

import rich_click as click

from services.cli import options
from services.cli.options import Command

Portion = int | str
"""A number of clusters, or a part of all of them such as `25%`."""


class PortionType(click.ParamType[Portion]):
    """Of at least `least`, or of at least `least` percent."""

    name = "portion"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Portion:
        """A whole number, or percent as they were typed."""
        found = re.fullmatch(r"([0-9]{1,9})(%?)", str(value))
        if found is None:
            self.fail(f"{value!r} is neither a number, such as 2, nor a part, such as 25%", param, ctx)
        number = int(found[1])
        if number < self._least:
            self.fail(f"{value} is less than {self._least}", param, ctx)
        if found[2] and number > 100:
            self.fail(f"{value} is more than 100%", param, ctx)
        return f"{number}%" if found[2] else number


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How something goes over many clusters. What is None is left to the API."""

    max_unavailable: Portion | None = None
    max_failures: Portion | None = None
    cluster_selector: str | None = None
    """Labels of the clusters' agents; an empty one selects all."""

    @classmethod
    def of(
        cls, max_unavailable: Portion | None, max_failures: Portion | None, cluster_selector: str | None
    ) -> "Rollout | None":
        """From what was typed; None where nothing was: then there is a command for each object."""
        if max_unavailable is None and max_failures is None and cluster_selector is None:
            return None
        return cls(
            max_unavailable=max_unavailable, max_failures=max_failures, cluster_selector=cluster_selector
        )

    def strategy(self) -> dict[str, Portion]:
        """As the API takes it."""
        given = {"max_unavailable": self.max_unavailable, "max_failures": self.max_failures}
        return {name: value for name, value in given.items() if value is not None}

    def at_a_time(self, clusters: int) -> int:
        """Of so many clusters; as the API reckons."""
        match self.max_unavailable:
            case None:
                return 1
            case int(number):
                return min(number, clusters)
            case str(part):
                return math.ceil(clusters * int(part.removesuffix("%")) / 100)


def rollout(command: Command) -> Command:
    """Beside `handling`, which it is given to."""
    return options.given(
        command,
        click.option(
            "--max-unavailable",
            type=PortionType(1),
            metavar="N|P%",
            help="Make it one operation, with so many clusters under way at a time; --timeout is then "
            "for each cluster, by default 10m.  [default: 1]",
        ),
        click.option(
            "--max-failures",
            type=PortionType(0),
            metavar="N|P%",
            help="Make it one operation, which is paused when more clusters than these have failed.  "
            "[default: 0]",
        ),
        click.option(
            "--cluster-selector",
            metavar="LABELS",
            help="Make it one operation, for the clusters whose agents have these labels (AGENT_LABELS), "
            "such as `env=prod`; '' for all.",
        ),
    )
