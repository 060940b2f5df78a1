"""Commands from being asked for to their end: sent once each, waited for, told as they go."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import rich_click as click

from services.cli import render
from services.cli.acting.items import TERMINAL, label, namespace, progress, verb
from services.cli.acting.options import LONG_PATIENCE, PATIENCE, Handling
from services.cli.acting.targets import Object
from services.cli.client import Client, quote
from services.cli.notes import note
from services.runtime.errors import UserError
from services.runtime.terminal import printable

_LONG = frozenset({"drain"})
_ROUND = 0.25
"""Seconds between two looks at several commands."""
_ALONE = 1.0
"""Seconds that one look at a single command waits for its end."""
_SILENT = (1, 124)
"""Exit codes of requests that the API did not answer."""
_PAUSE = 1.0
_LONGEST_PAUSE = 5.0
_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command that is to be asked for."""

    action: str
    about: Object
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is about, as kubectl names it."""
        return label({"object": self.about.body(), "params": self.params})

    @property
    def namespace(self) -> str:
        """Where that is; empty where it has none."""
        return namespace({"object": self.about.body(), "params": self.params})

    def body(self, handling: Handling) -> dict[str, Any]:
        """As the API takes it."""
        made: dict[str, Any] = {
            "target": {"kind": "kubernetes", "id": self.about.cluster},
            "action": self.action,
            "params": self.params,
            "dry_run": handling.dry_run,
        }
        if self.about.resource:
            made["object"] = {name: value for name, value in self.about.body().items() if value}
        if handling.timeout is not None:
            made["timeout"] = f"{handling.timeout * 1000:.0f}ms"
        if handling.start_within is not None:
            made["start_within"] = f"{handling.start_within * 1000:.0f}ms"
        return made


@dataclass(slots=True, eq=False)
class Task:
    """A command that was asked for."""

    request: Request | None
    """None: by somebody, at some time."""
    item: dict[str, Any] | None = None
    """As the API last told it; None while it has not been accepted."""
    sent: bool = False
    """Whether it may have been accepted."""
    error: UserError | None = None
    """Why it was not accepted, or cannot be looked at any more."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.error is not None or (self.item is not None and self.item["state"] in TERMINAL)


class Runner:
    """Carries out commands in lanes: those of one lane one after the other, the lanes beside each other."""

    def __init__(self, client: Client, lanes: Iterable[Sequence[Task]], handling: Handling) -> None:
        self._client = client
        self._handling = handling
        self._lanes = [list(lane) for lane in lanes]
        self.tasks = [task for lane in self._lanes for task in lane]
        actions = {task.request.action for task in self.tasks if task.request}
        usual = LONG_PATIENCE if actions & _LONG else PATIENCE
        self.patience = usual if handling.timeout is None else handling.timeout
        self._silent = False
        """Whether the API has stopped to answer: then nothing more is asked for."""
        self._told = Progress()

    def run(self) -> None:
        """Until all have ended, or the time is up; without waiting, until all are accepted.

        What fails is kept in its task. Raises KeyboardInterrupt, after telling what goes on.
        """
        deadline = time.monotonic() + self.patience
        try:
            while (left := deadline - time.monotonic()) > 0 and (heads := self._heads()):
                sending = [task for task in heads if task.item is None]
                for task in sending:
                    self._send(task)
                if sending:
                    continue
                alone = len(heads) == 1
                for task in heads:
                    self._look(task, min(_ALONE, left) if alone else 0.0)
                if not alone:
                    time.sleep(min(_ROUND, left))
        except KeyboardInterrupt:
            self._told.end()
            self.tell_open("interrupted")
            raise
        self._told.end()

    @property
    def late(self) -> list[Task]:
        """What was waited for in vain."""
        return [task for task in self.tasks if not self._is_over(task) and task not in self.unsent]

    @property
    def unsent(self) -> list[Task]:
        """What was not asked for, as the API did not answer, or there was no time left."""
        return [task for task in self.tasks if not task.sent and task.request is not None]

    def _heads(self) -> list[Task]:
        """Of each lane the command whose turn it is."""
        found = []
        for lane in self._lanes:
            head = next((task for task in lane if not self._is_over(task)), None)
            if head is not None and not (self._silent and head in self.unsent):
                found.append(head)
        return found

    def _is_over(self, task: Task) -> bool:
        return task.ended or (task.item is not None and not self._handling.wait)

    def _send(self, task: Task) -> None:
        assert task.request is not None
        task.sent = True
        try:
            task.item = self._client.post("/commands", task.request.body(self._handling))
        except UserError as error:
            task.error = error
            self._silent = self._silent or error.exit_code in _SILENT
        else:
            self._told.tell(task.item)

    def _look(self, task: Task, seconds: float) -> None:
        assert task.item is not None
        wait = f"{seconds * 1000:.0f}ms" if seconds else None
        try:
            task.item = self._client.get(f"/commands/{quote(task.item['id'])}", wait=wait)
        except UserError as error:
            if error.exit_code not in _SILENT:
                task.error = error
                return
            self._told.say(f"{error.message}; trying again")
            time.sleep(self._told.pause())
        else:
            self._told.tell(task.item)

    def tell_late(self) -> bool:
        """Say what has not ended, or was not even asked for; whether there is any."""
        if not (self.late or self.unsent):
            return False
        from services.runtime.settings import format_duration

        silent = "the API does not answer"
        self.tell_open(silent if self._silent else f"not ended within {format_duration(self.patience)}")
        return True

    def tell_open(self, why: str) -> None:
        """Say that what was accepted goes on without us, and how to look at it."""
        going = [task.item["id"] for task in self.tasks if task.item and not task.ended]
        doubtful = [task for task in self.tasks if task.sent and task.item is None and task.error is None]
        if going:
            shown = " ".join(going)
            these = "the command goes on" if len(going) == 1 else f"{len(going)} commands go on"
            note(
                f"{why}; {these}: look with `atlhyper commands wait {shown}`, "
                f"end with `atlhyper commands cancel {shown}`"
            )
        if doubtful:
            note(f"{why}; one more may have been accepted: look at `atlhyper commands`")
        if self.unsent:
            note(f"{why}; not asked for: {len(self.unsent)}")


class Progress:
    """What is told on standard error while commands run: each change once; on a terminal a line of state."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._said = ""
        self._pause = _PAUSE / 2
        self._status = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = False

    def tell(self, item: dict[str, Any]) -> None:
        """What is new of a command."""
        self._pause = _PAUSE / 2
        text = self._text(item)
        if text and self._last.get(item["id"]) != text:
            self._last[item["id"]] = text
            self.say(f"{_who(item)}: {text}")
        elif item["state"] not in TERMINAL:
            self.status(f"{_who(item)}: {item['state']}")

    def status(self, text: str) -> None:
        """How it stands now: on a terminal one line, which the next one replaces. A longer one is cut: what
        the terminal wraps would stay."""
        if self._status:
            text, since = printable(text), f" ({render.span(int(time.monotonic() - self._began))})"
            room = max(_columns() - len(since) - 1, 1)
            self._line((text if len(text) <= room else f"{text[: room - 1]}…") + since)

    def say(self, text: str) -> None:
        """A line, unless it was the last one already."""
        if text == self._said:
            return
        self._said = text
        self._clear()
        click.echo(printable(text), err=True)

    def pause(self) -> float:
        """Seconds until the next try to reach the API; longer each time."""
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return self._pause

    def end(self) -> None:
        """The line of state goes."""
        self._clear()

    @staticmethod
    def _text(item: dict[str, Any]) -> str:
        if item["state"] in TERMINAL:
            return ""
        return progress(item) or str(item.get("note") or "")

    def _line(self, text: str) -> None:
        self._shown = True
        click.echo(f"\r\x1b[2K{text}", err=True, nl=False)

    def _clear(self) -> None:
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[2K", err=True, nl=False)


def _columns() -> int:
    """Of the terminal that standard error is; standard output may be none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def _who(item: dict[str, Any]) -> str:
    return f"{item['target']['id']} {verb(item['action'])} {label(item)}".rstrip()
