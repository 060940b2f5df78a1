"""Waiting for an operation: each cluster's begin and end is told as it comes; the table comes last."""

import math
import time

import rich_click as click

from services.cli import render
from services.cli.acting import turns
from services.cli.acting.items import TERMINAL, Item
from services.cli.acting.running import Progress
from services.cli.client import Client, quote
from services.cli.notes import note
from services.cli.render import Output
from services.runtime.errors import UserError

_ROUND = 0.5
"""Seconds between two looks; longer for one that is long to read."""
_TURNS_PER_SECOND = 1000
_SILENT = (1, 124)
"""Exit codes of requests that the API did not answer."""
_SLACK = 60.0
"""Seconds beyond those that an operation's commands may take."""
_UNDER_WAY = 3
"""How many clusters the line of state names."""


def patience(operation: Item) -> float:
    """Seconds until it has ended, if every command takes as long as it may and somebody takes the steps."""
    strategy = operation["strategy"]
    rounds = math.ceil(len(operation["targets"]) / strategy["max_unavailable"])
    return float(rounds * strategy["timeout"] + _SLACK)


def finish(client: Client, operation: Item, seconds: float, output: Output, *, joined: bool = False) -> int:
    """Wait, then print how it went, and on standard error what is to be done about it; the exit code.

    `joined`: it was begun before; what has ended by now is in the table only.

    0: succeeded, 1: failed, canceled or paused, 5: in some of the clusters, 124: the time is up.
    Raises KeyboardInterrupt, after telling that it goes on, and UserError when it cannot be looked at.
    """
    seen = _Seen({turns.cluster(turn): turn["state"] for turn in turns.over(operation)} if joined else {})
    operation, stands = _wait(client, operation, seconds, seen)
    turns.show(operation, output)
    if not stands:
        tell_open(operation["id"], f"not ended within {render.span(round(seconds))}")
        return 124
    if error := turns.failure(operation):
        click.echo(error.render(), err=True)
        return error.exit_code
    return 0


def tell_open(id_: str, why: str) -> None:
    """Say that it goes on without us, and how to look at it, to hold it and to end it."""
    note(
        f"{why}; the operation goes on: look with `atlhyper operations wait {id_}`, hold it with "
        f"`atlhyper operations pause {id_}`, end it with `atlhyper operations cancel {id_}`"
    )


def _wait(client: Client, operation: Item, seconds: float, seen: "_Seen") -> tuple[Item, bool]:
    """The operation as it was last seen, and whether it has come to its end, or to a stand."""
    deadline = time.monotonic() + seconds
    progress = Progress()
    try:
        while True:
            seen.tell(operation, progress)
            left = deadline - time.monotonic()
            if turns.stands(operation) or left <= 0:
                return operation, turns.stands(operation)
            time.sleep(min(max(_ROUND, len(operation["targets"]) / _TURNS_PER_SECOND), left))
            try:
                operation = client.get(f"/operations/{quote(operation['id'])}")
            except UserError as error:
                if error.exit_code not in _SILENT:
                    raise
                progress.say(f"{error.message}; trying again")
                time.sleep(min(progress.pause(), max(0.0, deadline - time.monotonic())))
    except KeyboardInterrupt:
        progress.end()
        tell_open(operation["id"], "interrupted")
        raise
    finally:
        progress.end()


class _Seen:
    """What has been told of each cluster."""

    def __init__(self, states: dict[str, str]) -> None:
        self._states = states

    def tell(self, operation: Item, progress: Progress) -> None:
        """What is new since the last look, a line each; on a terminal a line of state below."""
        done, total = len(self._ended()), len(operation["targets"])
        for turn in operation["targets"]:
            name, state = turns.cluster(turn), turn["state"]
            before = self._states.get(name)
            if state is None or before == state:
                continue
            self._states[name] = state
            if state in TERMINAL:
                done += 1
                error = f": {turn['error']['message']}" if turn["error"] else ""
                progress.say(f"{name}: {state} ({done}/{total}){error}")
            elif before is None:
                progress.say(f"{name}: begun")
        open_ones = [turns.cluster(turn) for turn in turns.under_way(operation)]
        more = ", …" if len(open_ones) > _UNDER_WAY else ""
        names = f"; under way: {', '.join(open_ones[:_UNDER_WAY])}{more}" if open_ones else ""
        if not turns.stands(operation):
            progress.status(f"{turns.title(operation)}: {operation['state']}, {done}/{total} ended{names}")

    def _ended(self) -> list[str]:
        return [name for name, state in self._states.items() if state in TERMINAL]
