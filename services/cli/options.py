"""Options that several commands share, and kubectl's meaning of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import rich_click as click

from services.cli import completion, render

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

    @property
    def named(self) -> str | None:
        """The clusters as the API wants them."""
        return ",".join(self.clusters) or None


def selection(
    clusters: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    selector: str | None = None,
    field_selector: str | None = None,
) -> Selection:
    """From what was typed: the namespace is `default` unless another one, or all, are asked for."""
    chosen = tuple(
        dict.fromkeys(part.strip() for text in clusters for part in text.split(",") if part.strip())
    )
    return Selection(chosen, None if all_namespaces else namespace or "default", selector, field_selector)


def where(command: Command) -> Command:
    """`--cluster -n -A`"""
    for option in reversed(
        (
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
    ):
        command = option(command)
    return command


def selectors(command: Command) -> Command:
    """`-l --field-selector`"""
    for option in reversed(
        (
            click.option(
                "-l", "--selector", help="Labels, such as `app=web,tier!=db`, `env in (a,b)`, `!canary`."
            ),
            click.option(
                "--field-selector", help="Fields, such as `status.phase!=Running,spec.nodeName=n1`."
            ),
        )
    ):
        command = option(command)
    return command


context = click.option(
    "--context",
    shell_complete=completion.contexts,
    help="Control plane to speak with; see `atlhyper context`.",
)
output = click.option(
    "-o", "--output", type=click.Choice(render.OUTPUTS), default="table", show_default=True, help="Form."
)
headers = click.option("--no-headers", is_flag=True, help="Leave out the table's first line.")
