"""Every fault of the harness: how it is made and how it is mended."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from services.runtime import failpoints
from services.runtime.failpoints import Point
from tests.faults.system import System


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `breaking(system, random)` breaks on entry and mends on exit; the outage is in between."""

    name: str
    what: str
    """For people, in the table of docs/faults.md."""
    breaking: Callable[[System, random.Random], AbstractAsyncContextManager[str]]
    """Gives what was chosen by the seed, such as which link; may be empty."""
    stops_load: bool = False
    """The API server is away, so nothing can be changed meanwhile."""
    replicated: bool = False
    """One of several replicas: work has to go on while it is down."""
    disk: bool = False
    """Needs disks that can be full, and so root."""


FAULTS: dict[str, Fault] = {}

UNREAD = 1.5
"""Seconds in which messages come together that nobody reads."""


def _fault(
    name: str, what: str, *, stops_load: bool = False, replicated: bool = False, disk: bool = False
) -> Callable[[Callable[[System, random.Random], AsyncIterator[str]]], None]:
    def register(steps: Callable[[System, random.Random], AsyncIterator[str]]) -> None:
        FAULTS[name] = Fault(name, what, asynccontextmanager(steps), stops_load, replicated, disk)

    return register


# --- the API server ----------------------------------------------------------------------------------


@_fault("apiserver-restart", "API server stopped, or killed with -9, and started again", stops_load=True)
async def _restart_apiserver(system: System, dice: random.Random) -> AsyncIterator[str]:
    gently = dice.random() < 0.5
    await (system.apiserver.stop() if gently else system.apiserver.kill())
    try:
        yield "SIGTERM" if gently else "SIGKILL"
    finally:
        await system.apiserver.start()


@_fault(
    "apiserver-hangs", "API server stopped in its tracks (SIGSTOP): connections stay open", stops_load=True
)
async def _hang_apiserver(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.apiserver.pause()
    try:
        yield ""
    finally:
        system.apiserver.resume()


@_fault("compaction", "link agent–API server cut, etcd compacted meanwhile, API server restarted: 410 Gone")
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


@_fault("token-rotated", "the agent's token is replaced in its file, and the old one ends")
async def _rotate_token(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.rotate_token()
    yield ""


# --- links -------------------------------------------------------------------------------------------


def _a_link(system: System, dice: random.Random) -> str:
    return dice.choice(sorted(system.links))


@_fault("link-cut", "a link cut: connections closed, new ones refused")
async def _cut(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    await system.links[name].cut()
    try:
        yield name
    finally:
        await system.links[name].mend()


@_fault(
    "link-half-open", "a link half-open: nothing passes, nothing is closed; old connections never recover"
)
async def _half_open(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    system.links[name].half_open()
    try:
        yield name
    finally:
        await system.links[name].mend()


@_fault("link-stalled", "a link stalled: what was held back arrives late")
async def _stall(system: System, dice: random.Random) -> AsyncIterator[str]:
    name = _a_link(system, dice)
    system.links[name].stall()
    try:
        yield name
    finally:
        await system.links[name].mend()


@_fault("link-resets", "a link resets its connections (RST) again and again, and is slow in between")
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


@_fault("broker-killed", "broker killed with -9")
async def _kill_broker(system: System, dice: random.Random) -> AsyncIterator[str]:
    await system.kill_broker()
    try:
        yield ""
    finally:
        await system.start_broker()


@_fault("broker-hangs", "broker stopped in its tracks (SIGSTOP)")
async def _hang_broker(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.pause_broker()
    try:
        yield ""
    finally:
        system.resume_broker()


@_fault(
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


def _killed(name: str) -> Callable[[System, random.Random], AsyncIterator[str]]:
    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        await system.services[name].kill()
        try:
            yield ""
        finally:
            await system.services[name].start()

    return steps


def _hangs(name: str) -> Callable[[System, random.Random], AsyncIterator[str]]:
    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        system.services[name].pause()
        try:
            yield ""
        finally:
            system.services[name].resume()

    return steps


for _name in ("agent", "master", "api"):
    _fault(f"{_name}-killed", f"{_name} killed with -9")(_killed(_name))
    _fault(f"{_name}-hangs", f"{_name} stopped in its tracks (SIGSTOP)")(_hangs(_name))


for _name in ("master", "master-2", "api", "api-2"):
    _fault(f"replica {_name} killed", f"{_name} of two killed with -9", replicated=True)(_killed(_name))


@_fault("replica master frozen", "a master of two stands still for longer than its lease", replicated=True)
async def _freeze_master(system: System, dice: random.Random) -> AsyncIterator[str]:
    system.services["master"].freeze()
    yield ""


# --- disks -------------------------------------------------------------------------------------------

TOLD = 10.0
"""Seconds within which a full disk is told."""


def _full(disk: str, words: str, *tellers: str) -> Callable[[System, random.Random], AsyncIterator[str]]:
    """No room left, which the readiness of each teller says in these words."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        system.disks[disk].fill()
        try:
            async with asyncio.timeout(TOLD):
                for teller in tellers:
                    while words not in (await system.unready()).get(teller, ""):
                        await asyncio.sleep(0.1)
            yield f"told in {loop.time() - began:.1f} s"
        finally:
            system.disks[disk].make_room()
            if disk == "broker":  # room alone does not revive its streams
                await system.stop_broker()
                await system.start_broker()

    return steps


for _name, _words, *_tellers in (
    ("agent", "see to the disk", "agent"),
    ("broker", "make room and restart it", "agent", "master"),
    ("database", "disk is full", "master"),
):
    _what = f"the {_name}'s disk full: told within {TOLD:.0f} s by the readiness of {' and '.join(_tellers)}"
    _fault(f"{_name}-disk-full", _what, disk=True)(_full(_name, _words, *_tellers))


# --- single steps ------------------------------------------------------------------------------------

REACHED = 30.0
"""Seconds within which the load takes a process to its step."""


def _killed_at(point: Point, name: str, most: int) -> Callable[[System, random.Random], AsyncIterator[str]]:
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
    _fault(_point, f"{_name} killed with -9 at this step")(_killed_at(_point, _name, _most))

_fault(
    "replica master killed in takeover",
    "a master of two killed with -9 when it has taken leases and begun nothing",
    replicated=True,
)(_killed_at(Point.LEASES_AFTER_TAKEOVER, "master", 1))


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
