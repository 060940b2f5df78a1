"""Failpoints: named places where a process can be made to fail, for the tests of what happens then.

Off unless `ATLHYPER_FAILPOINTS` names one: `name:nth:action`, several separated by commas. The action is
taken once, when the place is reached for the nth time since the process began:

    ATLHYPER_FAILPOINTS=master.frames.before-commit:3:kill,agent.frame.after-publish:1:sleep=2.5

A process that is started again with the same environment fails again.
"""

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.runtime import logs
from services.runtime.errors import UserError

_log = logs.get_logger(__name__)

VARIABLE = "ATLHYPER_FAILPOINTS"


class Point(StrEnum):
    """Every failpoint there is."""

    FRAMES_BEFORE_COMMIT = "master.frames.before-commit"
    """Rows are written, the transaction is open."""
    FRAMES_AFTER_COMMIT = "master.frames.after-commit"
    """Committed; nobody has been told."""
    EVENTS_BEFORE_COMMIT = "master.events.before-commit"
    EVENTS_AFTER_COMMIT = "master.events.after-commit"
    """Committed; the agent has not been confirmed anything."""
    CONFIRMATION_BEFORE_SEND = "master.confirmation.before-send"
    """What is committed is to be told to its agent now."""
    LEASES_AFTER_TAKEOVER = "master.leases.after-takeover"
    """Leases are taken, by the database; no work has begun."""
    CONSUMER_BEFORE_SETTLE = "consumer.before-settle"
    """A batch is handled and not acknowledged."""
    FRAME_BEFORE_PUBLISH = "agent.frame.before-publish"
    FRAME_AFTER_PUBLISH = "agent.frame.after-publish"
    """The broker has the frame, the agent has not noted it."""
    EVENTS_AFTER_SPOOL = "agent.events.after-spool"
    """Events are in the agent's file and not on the bus."""
    EVENTS_BEFORE_CONFIRM = "agent.events.before-confirm"
    """The master's confirmation has come, the file still holds what it is about."""

    COMMAND_BEFORE_ACCEPT = "api.command.before-commit"
    COMMAND_AFTER_ACCEPT = "api.command.after-commit"
    """The command is accepted; its sender has not been told."""
    COMMAND_BEFORE_SEND = "master.command.before-send"
    COMMAND_AFTER_SEND = "master.command.after-send"
    """The broker has it; the database does not know."""
    COMMAND_AFTER_SENT = "master.command.after-sent-commit"
    COMMAND_AFTER_PULL = "agent.command.after-pull"
    """It is in the agent's hands and nowhere in its file."""
    COMMAND_AFTER_JOURNAL = "agent.command.after-accept"
    """It is in the journal and not acknowledged."""
    COMMAND_AFTER_ACK = "agent.command.after-ack"
    COMMAND_AFTER_LOOK = "agent.command.after-look"
    """Its object was seen, which is not in the journal yet."""
    COMMAND_BEFORE_EFFECT = "agent.command.before-effect"
    """What was seen is in the journal."""
    COMMAND_AFTER_EFFECT = "agent.command.after-effect"
    """It is done, which is not in the journal yet."""
    COMMAND_AFTER_DONE = "agent.command.after-done"
    """Its result is in the journal and not on the bus."""
    COMMAND_AFTER_PUBLISH = "agent.command.after-publish"
    """Its result is on the bus, and not confirmed."""
    COMMAND_AFTER_CONFIRM = "agent.command.after-confirm"
    """It is confirmed, which is not in the journal yet."""
    RESULT_BEFORE_COMMIT = "master.command.result-before-commit"
    RESULT_AFTER_COMMIT = "master.command.result-after-commit"
    """What an agent says of a command is committed; neither it nor anybody else was told."""
    RESULT_BEFORE_CONFIRM = "master.command.before-confirm"
    CANCEL_BEFORE_COMMIT = "api.cancel.before-commit"
    CANCEL_AFTER_COMMIT = "api.cancel.after-commit"
    """Somebody wants the end of a command, which is committed; the master has not been told."""
    CANCEL_BEFORE_SEND = "master.cancel.before-send"
    CANCEL_AFTER_SEND = "master.cancel.after-send"
    """The agent of the command was told, if it listens."""
    CANCEL_AFTER_HEARD = "agent.cancel.after-heard"
    """The agent was told, and has not done anything about it."""
    OPERATION_AFTER_STEP = "master.operation.after-step"
    """Commands of an operation are accepted; nobody has been told."""


class Failure(Exception):
    """Raised by a failpoint with the action `raise`."""


@dataclass(slots=True)
class _Plan:
    """What is to happen at one point."""

    nth: int
    action: str
    seconds: float = 0.0
    reached: int = 0


_plans: dict[str, list[_Plan]] = {}


async def reach(point: Point) -> None:
    """Declare that this place has been reached: nothing happens unless a plan says so. Raises Failure."""
    if not _plans:
        return
    for plan in _plans.get(point, ()):
        plan.reached += 1
        if plan.reached == plan.nth:
            await _act(point, plan)


async def _act(point: Point, plan: _Plan) -> None:
    _log.warning("failpoint", point=point.value, nth=plan.nth, action=plan.action, seconds=plan.seconds)
    match plan.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise Failure(f"failpoint {point.value}")
        case "sleep":
            await asyncio.sleep(plan.seconds)


_ENTRY = re.compile(
    r"(?P<name>[a-z.-]+):(?P<nth>[1-9]\d*):(?P<action>kill|raise|sleep=(?P<seconds>\d+(\.\d+)?))"
)


def arm(environment: Mapping[str, str]) -> None:
    """Take the plans of `ATLHYPER_FAILPOINTS` in place of those there are. Raises UserError."""
    plans: dict[str, list[_Plan]] = {}
    for text in filter(None, (part.strip() for part in environment.get(VARIABLE, "").split(","))):
        entry = _ENTRY.fullmatch(text)
        if entry is None:
            raise UserError(
                f"{VARIABLE}: {text!r} is no failpoint",
                "write name:nth:action; actions are kill, raise and sleep=SECONDS",
            )
        name = entry["name"]
        if name not in [point.value for point in Point]:
            raise UserError(
                f"{VARIABLE}: there is no failpoint {name}", "there are " + ", ".join(sorted(Point))
            )
        action = entry["action"].partition("=")[0]
        plans.setdefault(name, []).append(_Plan(int(entry["nth"]), action, float(entry["seconds"] or 0)))
    _plans.clear()
    _plans.update(plans)


arm(os.environ)
