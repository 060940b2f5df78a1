"""Faults of clocks: a host's time of day is wrong by an hour."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp

from tests.faults import shim
from tests.faults.fault import Needs, Steps, Wrong, fault
from tests.faults.kube import administrator
from tests.faults.system import CLUSTER, System

HOUR = 3600
NEAR = timedelta(seconds=90)
"""Between what is now and `as_of`, which is some heartbeats old at most."""
READY = 60.0
"""Seconds that a service may take to be ready after its start."""
LOST = 75.0
"""Seconds until a silent agent is told as lost, at most."""
ENDS = 25.0
"""Seconds within which a command has ended."""
WITHIN = 2.0
"""Seconds that a command has to be begun, where it cannot be."""
SOON = timedelta(seconds=10)
"""After its deadline, within which the end of such a command is told."""
AGREE = timedelta(seconds=3)
"""Between times of one command, though several processes have taken them."""


def _shifted(agent: int, services: int) -> Steps:
    """Agent, master and api run with these clocks, beginning and ending by a restart."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        await _restart(system, {"agent": agent, "master": services, "api": services})
        try:
            await _fresh(system)
            silent = await _is_lost_when_silent(system)
            await _events_have_their_times(system)
            await judge_commands(system, database=timedelta(seconds=services))
            yield f"silence told in {silent:.1f} s"
        finally:
            await _restart(system, {"agent": 0, "master": 0, "api": 0})

    return steps


fault(
    "clocks-agent-ahead",
    "the agent's time of day an hour ahead, that of master and api an hour behind",
    Needs.SHIM,
)(_shifted(HOUR, -HOUR))
fault(
    "clocks-agent-behind",
    "the agent's time of day an hour behind, that of master and api an hour ahead",
    Needs.SHIM,
)(_shifted(-HOUR, HOUR))


async def set_clocks(system: System, clocks: Mapping[str, int]) -> None:
    """Start agent, master and api again with these clocks, in seconds ahead, until the agent is live.

    Raises Wrong.
    """
    await _restart(system, clocks)
    await _until_state(system, "live")


async def _restart(system: System, clocks: Mapping[str, int]) -> None:
    """With these clocks, in seconds ahead."""
    await asyncio.gather(*(system.services[name].stop() for name in clocks))
    more = {"AGENT_READ_ONLY": "false"}
    starts = (system.services[name].start(**more, **{shim.CLOCK: str(by)}) for name, by in clocks.items())
    await asyncio.gather(*starts)
    try:
        async with asyncio.timeout(READY):
            while await system.unready():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Wrong(f"not ready with these clocks: {clocks}, {await system.unready()}") from None


async def _fresh(system: System) -> None:
    """The agent is live as soon as it is heard, and the answers are as of now."""
    await _until_state(system, "live")
    cluster = await system.get(f"/clusters/{CLUSTER}")
    pods = await system.get(f"/clusters/{CLUSTER}/pods", limit=1)
    for what, text in (("cluster", cluster["as_of"]), ("pods", pods["as_of"])):
        if text is None or abs(datetime.now(UTC) - datetime.fromisoformat(text)) > NEAR:
            raise Wrong(f"{what}: as of {text}, and it is {datetime.now(UTC)}")


async def _is_lost_when_silent(system: System) -> float:
    """The agent stands still until it is told as lost, and is live again afterwards; seconds of the first."""
    system.services["agent"].pause()
    try:
        seconds = await _until_state(system, "lost")
    finally:
        system.services["agent"].resume()
    await _until_state(system, "live")
    return seconds


async def _until_state(system: System, state: str) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (found := await _state(system)) != state:
        if loop.time() - began > LOST:
            raise Wrong(f"the agent is {found} after {LOST:.0f} s, and should be {state}")
        await asyncio.sleep(0.1)
    return loop.time() - began


async def _until_it_acts(system: System) -> None:
    """Its last word before this start was that it is read-only, and may be the one that is known yet."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (await system.call("GET", f"/agents/kubernetes/{CLUSTER}"))[1].get("read_only") is not False:
        if loop.time() - began > READY:
            raise Wrong(f"the agent is read-only after {READY:.0f} s")
        await asyncio.sleep(0.1)


async def _state(system: System) -> str:
    """Of the agent; empty when nobody knows it yet."""
    _, cluster = await system.call("GET", f"/clusters/{CLUSTER}")
    return str(cluster.get("state", ""))


async def _events_have_their_times(system: System) -> None:
    """Those that the API server has given them, in the rows' own columns too."""
    compared = 0
    for row in await system.rows("events"):
        body = row["object"]
        for column, name in (("first_seen", "firstTimestamp"), ("last_seen", "lastTimestamp")):
            if name in body:  # the API server's own Events have another one
                compared += 1
                if datetime.fromisoformat(row[column]) != datetime.fromisoformat(body[name]):
                    raise Wrong(f"Event {row['name']}: {column} is {row[column]}, {name} {body[name]}")
    if not compared:
        raise Wrong("no Event was compared")


# --- commands ----------------------------------------------------------------------------------------


class Workload:
    """A Deployment that nobody but commands changes: no controller runs."""

    NAMESPACE, NAME = "default", "clocks"
    _PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def prepare(self) -> None:
        """Harmless when it is there."""
        labels = {"app": self.NAME}
        pod = {"containers": [{"name": "main", "image": "registry.example/app:1"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.NAME}, "spec": spec}
        async with self._session.post(self._PATH, json=body) as answer:
            assert answer.status in (201, 409), await answer.text()

    async def generation(self) -> int:
        """How often it was changed."""
        async with self._session.get(f"{self._PATH}/{self.NAME}") as answer:
            answer.raise_for_status()
            return int((await answer.json())["metadata"]["generation"])


async def judge_commands(system: System, database: timedelta) -> None:
    """Commands end as if all clocks were right; the agent is stopped afterwards.

    `database`: by how much the database's clock is ahead of this process' own. Raises Wrong.
    """
    async with administrator(system.plane, connections=1, seconds=10.0) as session:
        workload = Workload(session)
        await workload.prepare()
        await _until_it_acts(system)
        await _is_done_once(system, workload, database)
        await _past_is_refused(system, database)
        before = await workload.generation()
        agent = system.services["agent"]
        agent.pause()  # what is handed out now lies in its socket until it is too late
        try:
            asked = await _ask(system, start_within=f"{WITHIN:g}s")
            await asyncio.sleep(WITHIN + 1.0)
        finally:
            agent.resume()
        _has_expired(await _end(system, asked))
        await agent.stop()
        began = asyncio.get_running_loop().time()
        asked = await _ask(system, start_within=f"{WITHIN:g}s")
        _has_expired(await _end(system, asked))
        seconds = asyncio.get_running_loop().time() - began
        if not WITHIN <= seconds <= WITHIN + SOON.total_seconds():
            raise Wrong(f"it was to be begun within {WITHIN:g} s, and ended after {seconds:.1f} s")
        if (after := await workload.generation()) != before:
            raise Wrong(f"what has expired was done: generation {after} after {before}")


async def _is_done_once(system: System, workload: Workload, database: timedelta) -> None:
    """One with all times by default: whenever it is asked for under its key, and however often."""
    before, key = await workload.generation(), str(uuid.uuid4())
    began = datetime.now(UTC) + database
    asked = await _ask(system, key)
    again = await _ask(system, key)
    ended = await _end(system, asked)
    over = datetime.now(UTC) + database
    if ended["state"] != "succeeded":
        raise Wrong(f"a command is {ended['state']}: {ended['error']}, {ended['note']}")
    later = await _ask(system, key)
    if {again["id"], later["id"]} != {asked["id"]}:
        raise Wrong(f"one key, several commands: {asked['id']}, {again['id']}, {later['id']}")
    if (after := await workload.generation()) != before + 1:
        raise Wrong(f"one command, and generation {after} after {before}")
    names = ("created_at", "sent_at", "received_at", "started_at", "executed_at", "finished_at")
    times = [began, *(datetime.fromisoformat(ended[name]) for name in names), over]
    if any(late < early - AGREE for early, late in pairwise(times)):
        told = ", ".join(f"{name} {ended[name]}" for name in names)
        raise Wrong(f"between {began} and {over} by the database's clock: {told}")


async def _past_is_refused(system: System, database: timedelta) -> None:
    """By the database's clock, with a problem that names it."""
    past = datetime.now(UTC) + database - timedelta(seconds=10)
    status, problem = await _post(system, start_by=past.isoformat())
    if status != 422 or "is past; it is" not in problem.get("detail", ""):
        raise Wrong(f"start_by {past} is answered by {status}: {problem}")


async def _ask(system: System, key: str = "", **times: str) -> dict[str, Any]:
    status, command = await _post(system, key, **times)
    if status not in (200, 202):  # repeated under its key, or new
        raise Wrong(f"a command is answered by {status}: {command}")
    return command


async def _post(system: System, key: str = "", **times: str) -> tuple[int, dict[str, Any]]:
    """One that has an effect each time: the number is another one for each key."""
    replicas = 1 + uuid.UUID(key).int % 1_000_000 if key else 0
    about = {"resource": "deployments", "namespace": Workload.NAMESPACE, "name": Workload.NAME}
    body = {"cluster_id": CLUSTER, "action": "scale", "object": about, "params": {"replicas": replicas}}
    headers = {"Idempotency-Key": key} if key else {}
    return await system.call("POST", "/commands", json=body | times, headers=headers)


async def _end(system: System, command: Mapping[str, Any]) -> dict[str, Any]:
    """As it is when it has ended, or should have."""
    status, found = await system.call("GET", f"/commands/{command['id']}", params={"wait": f"{ENDS:g}s"})
    if status != 200 or found["finished_at"] is None:
        raise Wrong(f"a command has not ended: {status} {found}")
    return dict(found)


def _has_expired(command: Mapping[str, Any]) -> None:
    error = command["error"] or {}
    if (command["state"], error.get("code")) != ("expired", "late"):
        raise Wrong(f"its time was over, and it is {command['state']}: {error}, {command['note']}")
    after = datetime.fromisoformat(command["finished_at"]) - datetime.fromisoformat(command["start_by"])
    if not timedelta(0) <= after <= SOON:
        raise Wrong(f"{after} after its start_by it has expired: {command}")
