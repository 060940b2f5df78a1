"""Every fault of the harness; here those of the API server, of links, of processes and of single steps."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime import failpoints
from services.runtime.failpoints import Point
from tests.faults import clocks, storage  # noqa: F401 - they enter theirs
from tests.faults.fault import FAULTS, POSSIBLE, Steps, fault, told_of_silence
from tests.faults.system import API_SERVER, System

__all__ = ["EVERY", "FAULTS", "HAD_THE_SHARD", "IN_TURN", "STEPS"]

HAD_THE_SHARD = "had the cluster's shard"
"""What is told of a master that was killed, since the other one had nothing to take over otherwise."""
UNREAD = 1.5
"""Seconds in which messages come together that nobody reads."""


# --- the API server ----------------------------------------------------------------------------------


@fault("apiserver-restart", "API server stopped, or killed with -9, and started again", stops_load=True)
async def _restart_apiserver(system: System, dice: random.Random) -> AsyncIterator[str]:
    gently = dice.random() < 0.5
    await (system.apiserver.stop() if gently else system.apiserver.kill())
    try:
        yield "SIGTERM" if gently else "SIGKILL"
    finally:
        await system.apiserver.start()


@fault(
    "apiserver-hangs", "API server stopped in its tracks (SIGSTOP): connections stay open", stops_load=True
)
async def _hang_apiserver(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.apiserver.pause()
    try:
        yield ""
    finally:
        system.apiserver.resume()


@fault("compaction", "link agent–API server cut, etcd compacted meanwhile, API server restarted: 410 Gone")
async def _compact(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.agent_kube.cut()
    try:
        yield ""
    finally:
        revision = await system.apiserver.compact()
        # Its watch cache would still know the versions that etcd has forgotten.
        await system.apiserver.kill()
        await system.apiserver.start()
        await system.agent_kube.mend()
        assert revision > 0


@fault("token-rotated", "the agent's token is replaced in its file, and the old one ends")
async def _rotate_token(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.rotate_token()
    yield ""


# --- links -------------------------------------------------------------------------------------------


def _a_link(system: System, dice: random.Random) -> str:
    return dice.choice(sorted(system.links))


@fault("link-cut", "a link cut: connections closed, new ones refused")
async def _cut(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    await system.links[name].cut()
    try:
        yield name
    finally:
        await system.links[name].mend()


@fault(
    "link-half-open",
    "a link half-open: nothing passes, nothing is closed; old connections never recover; "
    "that of the API server is told within 90 s",
)
async def _half_open(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    system.links[name].half_open()
    try:
        if name == API_SERVER:
            yield f"{name}, told in {await told_of_silence(system):.0f} s"
        else:
            yield name
    finally:
        await system.links[name].mend()


@fault("link-stalled", "a link stalled: what was held back arrives late")
async def _stall(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    system.links[name].stall()
    try:
        yield name
    finally:
        await system.links[name].mend()


@fault("link-resets", "a link resets its connections (RST) again and again, and is slow in between")
async def _reset(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    await system.links[name].reset()
    system.links[name].delay(0.05, bandwidth=256 * 1024)
    try:
        yield name
    finally:
        await system.links[name].reset()
        await system.links[name].mend()


# --- processes ---------------------------------------------------------------------------------------


@fault("broker-killed", "broker killed with -9")
async def _kill_broker(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.kill_broker()
    try:
        yield ""
    finally:
        await system.start_broker()


@fault("broker-hangs", "broker stopped in its tracks (SIGSTOP)")
async def _hang_broker(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.pause_broker()
    try:
        yield ""
    finally:
        system.resume_broker()


@fault(
    "broker-store-deleted",
    "broker killed with -9 and its data folder deleted, with messages in it that the master has not read",
)
async def _delete_store(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.master_broker.cut()
    await asyncio.sleep(UNREAD)
    await system.kill_broker()
    await system.master_broker.mend()
    system.delete_broker_store()
    try:
        yield ""
    finally:
        await system.start_broker()


def _killed(name: str) -> Steps:
    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        await system.services[name].kill()
        try:
            yield ""
        finally:
            await system.services[name].start()

    return steps


def _hangs(name: str) -> Steps:
    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        system.services[name].pause()
        try:
            yield ""
        finally:
            system.services[name].resume()

    return steps


for _name in ("agent", "master", "api"):
    fault(f"{_name}-killed", f"{_name} killed with -9")(_killed(_name))
    fault(f"{_name}-hangs", f"{_name} stopped in its tracks (SIGSTOP)")(_hangs(_name))


for _name in ("api", "api-2"):
    fault(f"replica {_name} killed", f"{_name} of two killed with -9", replicated=True)(_killed(_name))


def _killed_master(name: str) -> Steps:
    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        holder = await system.audit.holder(f"shard/{system.target.shard}")
        async with asynccontextmanager(_killed(name))(system, dice):
            yield HAD_THE_SHARD if holder.startswith(f"{name}/") else ""

    return steps


for _name in ("master", "master-2"):
    fault(f"replica {_name} killed", f"{_name} of two killed with -9", replicated=True)(_killed_master(_name))


@fault("replica master frozen", "a master of two stands still for longer than its lease", replicated=True)
async def _freeze_master(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.services["master"].freeze()
    yield ""


# --- single steps ------------------------------------------------------------------------------------

REACHED = 60.0
"""Seconds within which the load takes a process to its step; it starts first."""


def _killed_at(point: Point, name: str, most: int) -> Steps:
    """The process ends by itself at one of the first `most` passes of the step, and is started as ever."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        process, nth = system.services[name], dice.randint(1, most)
        await process.stop()
        before = len(process.exits)
        await process.start(**{failpoints.VARIABLE: f"{point}:{nth}:kill"})
        async with asyncio.timeout(REACHED):
            while len(process.exits) == before:
                await asyncio.sleep(0.02)
        end = process.exits[-1]
        if end.code == -signal.SIGKILL and f'"{point}"' in end.tail.splitlines()[-1]:
            process.exits.remove(end)  # what it was asked for
        yield f"pass {nth}"

    return steps


for _point, _name, _most in (
    (Point.FRAMES_BEFORE_COMMIT, "master", 5),
    (Point.FRAMES_AFTER_COMMIT, "master", 5),
    (Point.EVENTS_BEFORE_COMMIT, "master", 3),
    (Point.EVENTS_AFTER_COMMIT, "master", 3),
    (Point.CONFIRMATION_BEFORE_SEND, "master", 3),
    (Point.LEASES_AFTER_TAKEOVER, "master", 1),
    (Point.CONSUMER_BEFORE_SETTLE, "master", 5),
    (Point.FRAME_BEFORE_PUBLISH, "agent", 8),
    (Point.FRAME_AFTER_PUBLISH, "agent", 8),
    (Point.EVENTS_AFTER_SPOOL, "agent", 3),
    (Point.EVENTS_BEFORE_CONFIRM, "agent", 3),
):
    fault(_point, f"{_name} killed with -9 at this step")(_killed_at(_point, _name, _most))

fault(
    "replica master killed in takeover",
    "a master of two killed with -9 when it has taken leases and begun nothing",
    replicated=True,
)(_killed_at(Point.LEASES_AFTER_TAKEOVER, "master", 1))


STEPS = tuple(point for point in Point if point in FAULTS)
"""Single steps of what is observed; those of commands are in `tests.faults.commands`."""

IN_TURN = (
    "apiserver-restart",
    "compaction",
    "link-cut",
    "link-half-open",
    "broker-killed",
    "agent-killed",
    "master-killed",
)
"""What each run of the convergence test contains, in an order of its own."""

EVERY = tuple(name for name, fault in FAULTS.items() if not fault.replicated and fault.needs <= POSSIBLE)
"""Those that are possible here, with one replica of each service."""
