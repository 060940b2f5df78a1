"""Every subject of the bus: one function builds it, its inverse reads it.

The direction comes first, so that a permission is one list:
`atlhyper.up.…` from the agents, `atlhyper.down.…` to them, `atlhyper.core.…` among the services.
The sender's identity is the subject, which the broker enforces; never the envelope or the body.
"""

import re
from dataclasses import dataclass

from schemas.errors import ContractError
from schemas.ids import SHARDS, Target

NO_SCOPE = "_"
"""The event subject's scope token of an object without a namespace."""

_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_-]")


def _token(text: str) -> str:
    """`text` as one subject token: NATS separates by `.` and matches `*` and `>`."""
    return _NOT_A_TOKEN.sub("_", text) or NO_SCOPE


# --- from the agents ---------------------------------------------------------------------------------


def up(target: Target) -> str:
    """`atlhyper.up.<kind>.<id>.>`: all that an agent may publish."""
    return f"atlhyper.up.{target.kind}.{target.id}.>"


def heartbeat(target: Target) -> str:
    """`atlhyper.up.<kind>.<id>.heartbeat`"""
    return f"atlhyper.up.{target.kind}.{target.id}.heartbeat"


def snapshot(target: Target) -> str:
    """`atlhyper.up.<kind>.<id>.snapshot.<shard>`"""
    return f"atlhyper.up.{target.kind}.{target.id}.snapshot.{target.shard}"


def event(target: Target, scope: str, object_kind: str) -> str:
    """`atlhyper.up.<kind>.<id>.event.<shard>.<scope>.<object kind>`; the scope is a namespace or empty."""
    return f"atlhyper.up.{target.kind}.{target.id}.event.{target.shard}.{_token(scope)}.{_token(object_kind)}"


def dead(target: Target) -> str:
    """`atlhyper.up.<kind>.<id>.dead`: what this agent could not read."""
    return f"atlhyper.up.{target.kind}.{target.id}.dead"


def result(target: Target, command_id: str) -> str:
    """`atlhyper.up.<kind>.<id>.result.<command id>`: all that an agent says of one command"""
    return f"atlhyper.up.{target.kind}.{target.id}.result.{_token(command_id)}"


def call(target: Target, method: str, session: str) -> str:
    """`atlhyper.up.<kind>.<id>.call.<method>.<session>`: requests of an agent, not stored

    Only the replica that holds the session answers them.
    """
    return f"atlhyper.up.{target.kind}.{target.id}.call.{_token(method)}.{_token(session)}"


# --- to the agents -----------------------------------------------------------------------------------


def control(target: Target, what: str) -> str:
    """`atlhyper.down.<kind>.<id>.ctl.<what>` (core NATS, not stored)"""
    return f"atlhyper.down.{target.kind}.{target.id}.ctl.{_token(what)}"


def controls(target: Target) -> str:
    """`atlhyper.down.<kind>.<id>.ctl.>`: all that core says to one agent outside of commands"""
    return f"atlhyper.down.{target.kind}.{target.id}.ctl.>"


def command(target: Target, action: str) -> str:
    """`atlhyper.down.<kind>.<id>.cmd.<action>`"""
    return f"atlhyper.down.{target.kind}.{target.id}.cmd.{_token(action)}"


def commands(target: Target) -> str:
    """`atlhyper.down.<kind>.<id>.cmd.*`: the commands of one agent"""
    return f"atlhyper.down.{target.kind}.{target.id}.cmd.*"


# --- among the core services -------------------------------------------------------------------------


def service_heartbeat(service: str, instance: str) -> str:
    """`atlhyper.core.heartbeat.<service>.<instance>`"""
    return f"atlhyper.core.heartbeat.{_token(service)}.{_token(instance)}"


def service_dead(service: str) -> str:
    """`atlhyper.core.dead.<service>`: what this service could not read."""
    return f"atlhyper.core.dead.{_token(service)}"


def nudge(shard: int) -> str:
    """`atlhyper.core.nudge.<shard>`: rows of that shard have changed."""
    return f"atlhyper.core.nudge.{shard}"


COMMANDS_CHANGED = "atlhyper.core.commands.changed"
"""Commands have been accepted or have moved on."""


# --- filters -----------------------------------------------------------------------------------------

ALL_HEARTBEATS = ("atlhyper.up.*.*.heartbeat", "atlhyper.core.heartbeat.*.*")
ALL_SNAPSHOTS = "atlhyper.up.*.*.snapshot.*"
ALL_EVENTS = "atlhyper.up.*.*.event.*.*.*"
ALL_COMMANDS = "atlhyper.down.*.*.cmd.*"
ALL_RESULTS = "atlhyper.up.*.*.result.*"
ALL_CALLS = "atlhyper.up.*.*.call.*.*"
ALL_NUDGES = "atlhyper.core.nudge.*"
ALL_DEAD_LETTERS = ("atlhyper.core.dead.*", "atlhyper.up.*.*.dead")


def snapshots_of_shard(shard: int) -> str:
    """`atlhyper.up.*.*.snapshot.<shard>`"""
    return f"atlhyper.up.*.*.snapshot.{shard}"


def events_of_shard(shard: int) -> str:
    """`atlhyper.up.*.*.event.<shard>.*.*`"""
    return f"atlhyper.up.*.*.event.{shard}.*.*"


# --- the inverse -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Up:
    """A subject from an agent: `channel` is the token after the id, `rest` what follows it and the shard."""

    target: Target
    channel: str
    rest: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The only CloudEvents `source` that may arrive on this subject."""
        return agent_source(self.target)


@dataclass(frozen=True, slots=True)
class Core:
    """A subject among the services: `atlhyper.core.<noun>.<rest…>`."""

    noun: str
    rest: tuple[str, ...] = ()

    @property
    def source(self) -> str | None:
        """The `source` this subject demands; None where the subject does not name the instance."""
        return service_source(*self.rest) if self.noun == "heartbeat" and len(self.rest) == 2 else None


@dataclass(frozen=True, slots=True)
class Down:
    """A subject to an agent: `atlhyper.down.<kind>.<id>.<channel>.<rest…>`."""

    target: Target
    channel: str
    rest: tuple[str, ...] = ()


_SHARDED = {"snapshot": 0, "event": 2}
"""Sharded channels, and how many tokens follow the shard."""


def parse(subject: str) -> Up | Core | Down:
    """Read a subject. Raises ContractError when it is none of ours or its shard is not its target's."""
    match subject.split("."):
        case ["atlhyper", "up", kind, id, channel, *rest]:
            target = Target.parse(kind, id)
            if channel not in _SHARDED:
                return Up(target, channel, tuple(rest))
            if len(rest) != 1 + _SHARDED[channel]:
                raise ContractError(f"subject {subject!r} has the wrong number of tokens")
            if rest[0] != str(target.shard):
                raise ContractError(
                    f"subject {subject!r} names shard {rest[0]}; {target} is in {target.shard} of {SHARDS}"
                )
            return Up(target, channel, tuple(rest[1:]))
        case ["atlhyper", "down", kind, id, channel, *rest]:
            return Down(Target.parse(kind, id), channel, tuple(rest))
        case ["atlhyper", "core", noun, *rest]:
            return Core(noun, tuple(rest))
    raise ContractError(f"subject {subject!r} is none of atlhyper.up, atlhyper.down and atlhyper.core")


# --- CloudEvents sources -----------------------------------------------------------------------------


def agent_source(target: Target) -> str:
    """`/atlhyper/<kind>/<id>`"""
    return f"/atlhyper/{target.kind}/{target.id}"


def service_source(service: str, instance: str) -> str:
    """`/atlhyper/core/<service>/<instance>`"""
    return f"/atlhyper/core/{service}/{instance}"
