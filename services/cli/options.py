"""Options that several commands share, and kubectl's meaning of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

import rich_click as click

from services.cli import completion, render
from services.cli.resources import Query

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of which clusters."""

    clusters: tuple[str, ...] = ()
    """Empty: all."""
    namespace: str | None = None
    """None: all."""
    selector: str | None = None
    field_selector: str | None = None
    namespace_named: bool = False
    """Whether it was typed: else `default` is a habit, which holds for kinds that have namespaces."""

    @classmethod
    def of(
        cls,
        clusters: tuple[str, ...],
        namespace: str | None = None,
        all_namespaces: bool = False,
        selector: str | None = None,
        field_selector: str | None = None,
    ) -> "Selection":
        """From what was typed: the namespace is `default` unless another one, or all, are asked for."""
        chosen = tuple(
            dict.fromkeys(part.strip() for text in clusters for part in text.split(",") if part.strip())
        )
        meant = None if all_namespaces else namespace or "default"
        return cls(chosen, meant, selector, field_selector, bool(namespace))

    def namespace_of(self, query: Query) -> str:
        """Where an object is that was named; empty where its kind has none. One of a kind that only its
        cluster knows is where `-n` says, or in none.
        """
        if not query.namespaced or not (query.known or self.namespace_named):
            return ""
        return self.namespace or ""

    @property
    def named(self) -> str | None:
        """The clusters as the API wants them."""
        return ",".join(self.clusters) or None


selector = click.option(
    "-l", "--selector", help="Labels, such as `app=web,tier!=db`, `env in (a,b)`, `!canary`."
)
field_selector = click.option(
    "--field-selector", help="Fields, such as `status.phase!=Running,spec.nodeName=n1`."
)


def where(command: Command) -> Command:
    """`--cluster -n -A`, given to the command as `where` together with those of `selectors`."""
    return given(
        gathered(command, "where", Selection.of),
        click.option(
            "--cluster",
            "clusters",
            multiple=True,
            shell_complete=completion.clusters,
            help="Clusters, separated by commas.  [default: all]",
        ),
        click.option(
            "-n",
            "--namespace",
            shell_complete=completion.namespaces,
            help="Namespace to look in.  [default: default]",
        ),
        click.option("-A", "--all-namespaces", is_flag=True, help="Look in all namespaces."),
    )


def selectors(command: Command) -> Command:
    """`-l --field-selector`, beside `where`."""
    return given(command, selector, field_selector)


context = click.option(
    "--context",
    shell_complete=completion.contexts,
    help="Control plane to speak with; see `atlhyper context`.",
)
output = click.option(
    "-o", "--output", type=click.Choice(render.OUTPUTS), default="table", show_default=True, help="Form."
)


def display(command: Command) -> Command:
    """`-o --no-headers`, given to the command as `display` together with those of `labels`."""
    return given(
        gathered(command, "display", render.Display.of),
        output,
        click.option("--no-headers", is_flag=True, help="Leave out the table's first line."),
    )


def labels(command: Command) -> Command:
    """`--show-labels -L`, beside `display`."""
    return given(
        command,
        click.option("--show-labels", is_flag=True, help="Show all labels."),
        click.option("-L", "--label-columns", multiple=True, help="Labels with a column of their own."),
    )


def given(command: Command, *options: Callable[[Command], Command]) -> Command:
    """The options in this order, which is the one that help shows."""
    for option in reversed(options):
        command = option(command)
    return command


def gathered(command: Command, name: str, value: Callable[..., Any]) -> Command:
    """A command that is given one value in place of the options that `value` is made of."""
    parts = signature(value).parameters

    @wraps(command)
    def gathered(**given: Any) -> Any:
        made = value(**{part: given.pop(part) for part in parts if part in given})
        return command(**given, **{name: made})

    return gathered  # type: ignore[return-value]
