"""Random creates, updates and deletes of every kind, over several connections, at a steady rate."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from services.cli.cluster.control_plane import ControlPlane
from tests.faults.kube import administrator
from tests.faults.objects import LOAD_KINDS, NAMESPACE, LoadKind
from tests.faults.recorder import Outcome, Recorder

WORKERS = 6
FEWEST, MOST = 8, 24
"""Objects of each kind between which the load keeps itself."""
EVENTS_WEIGHT = 4
"""Changes of Events for each one of another kind: each version of an Event is a message of its own."""
TIMEOUT = 3.0
"""Seconds for one change."""
BYSTANDER = "bystander"
"""The object of each kind that nobody touches: it may never vanish from the rows."""
MARKER = "marker"
"""A ConfigMap that carries the harness' own notes through the whole system."""

_MERGE = {"Content-Type": "application/merge-patch+json"}
_JSON = {"Content-Type": "application/json"}


@dataclass(slots=True)
class _Population:
    """The objects of one kind as the load believes them to be. `busy` ones are in a worker's hands."""

    kind: LoadKind
    names: dict[str, int] = field(default_factory=dict)
    """With the number of changes so far."""
    made: int = 0


class Load:
    """`async with Load(…) as load: await load.prepare(); load.begin(); …; await load.end()`.

    `rate`: changes per second that are attempted. While the API server is away nothing is tried for long.
    """

    def __init__(self, plane: ControlPlane, recorder: Recorder, seed: int, rate: float) -> None:
        self._plane = plane
        self._recorder = recorder
        self._random = random.Random(seed)
        self._rate = rate
        self._populations = [_Population(kind) for kind in LOAD_KINDS]
        self._weights = [EVENTS_WEIGHT if kind.resource == "events" else 1 for kind in LOAD_KINDS]
        self._workers: list[asyncio.Task[None]] = []
        self._steps = self._counted()
        self._session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Load":
        session = administrator(self._plane, connections=WORKERS + 2, seconds=TIMEOUT)
        self._session = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self._stack.aclose()

    async def prepare(self) -> None:
        """The namespace, the bystanders and the marker. Harmless when they are there."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await self._must("POST", "/api/v1/namespaces", namespace)
        for kind in LOAD_KINDS:
            await self._must("POST", kind.collection, kind.manifest(BYSTANDER))
        marker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARKER}}
        await self._must("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", marker)

    async def mark(self, text: str) -> bool:
        """Write the marker; whether the API server has taken it."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{MARKER}"
        status, _ = await self._call("PATCH", path, {"metadata": {"labels": {"mark": text}}})
        return status == 200

    def begin(self) -> None:
        """Start, or go on."""
        self._workers = [asyncio.create_task(self._work(n), name=f"load {n}") for n in range(WORKERS)]

    async def end(self) -> None:
        """Stop; what is in flight is finished first."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # --- one change ----------------------------------------------------------------------------------

    def _counted(self) -> Iterator[int]:
        step = 0
        while True:
            step += 1
            yield step

    async def _work(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + number / self._rate
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + WORKERS / self._rate, loop.time() - 1.0)  # a pause is not made up for in a burst
            step = asyncio.ensure_future(self._step())
            try:
                await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait([step])
                raise

    async def _step(self) -> None:
        population = self._random.choices(self._populations, self._weights)[0]
        names = population.names
        dice = self._random.random()
        if len(names) < FEWEST or (dice < 1 / 3 and len(names) < MOST):
            population.made += 1
            await self._create(population, f"load-{population.made}")
            return
        name = self._random.choice(sorted(names))
        changes = names.pop(name)  # nobody else touches it meanwhile
        if dice < 2 / 3:
            await self._update(population, name, changes + 1)
        else:
            await self._delete(population, name, changes)

    async def _create(self, population: _Population, name: str) -> None:
        kind = population.kind
        status, text = await self._call("POST", kind.collection, kind.manifest(name))
        if status in (201, 409, 0):  # unknown: the next that touches it will see
            population.names[name] = 0
        self._note(kind, "create", status, text, fine=(201, 409))

    async def _update(self, population: _Population, name: str, changes: int) -> None:
        kind = population.kind
        status, text = await self._call("PATCH", kind.path(name), kind.patch(changes))
        if status != 404:
            population.names[name] = changes
        self._note(kind, "update", status, text, fine=(200,), none=(404,))

    async def _delete(self, population: _Population, name: str, changes: int) -> None:
        kind = population.kind
        status, text = 0, ""
        if kind.finalizers and kind.resource != "namespaces":
            await self._call("PATCH", kind.path(name), {"metadata": {"finalizers": None}})
        status, text = await self._call("DELETE", kind.path(name), {"propagationPolicy": "Background"})
        if kind.resource == "namespaces" and status in (200, 202, 409):
            end = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name},
                "spec": {"finalizers": []},
            }
            status, text = await self._call("PUT", f"{kind.path(name)}/finalize", end)
        if status not in (200, 202, 404):
            population.names[name] = changes  # once more, later
        self._note(kind, "delete", status, text, fine=(200, 202), none=(404,))

    def _note(
        self,
        kind: LoadKind,
        verb: str,
        status: int,
        text: str,
        fine: tuple[int, ...],
        none: tuple[int, ...] = (),
    ) -> None:
        """`none`: it was not there, which an unknown outcome before explains."""
        outcome = Outcome.ACKNOWLEDGED if status in fine else Outcome.REFUSED
        if status == 0 or status in none:
            outcome = Outcome.UNKNOWN
        now = asyncio.get_running_loop().time()
        self._recorder.note(now, kind.resource, verb, outcome, f"{status} {text}")

    # --- HTTP ----------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Status and, of a refusal, the text; 0 when there was no answer."""
        assert self._session is not None
        data = json.dumps(body).encode()
        headers = _MERGE if method == "PATCH" else _JSON
        try:
            async with self._session.request(method, path, data=data, headers=headers) as response:
                text = (
                    (await response.read())[:300].decode(errors="replace") if response.status >= 400 else ""
                )
                return response.status, text
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, ""

    async def _must(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Until it is there."""
        async with asyncio.timeout(30):
            while True:
                status, text = await self._call(method, path, body)
                if status in (200, 201, 409):
                    return
                if 400 <= status < 500 and status not in (403, 429):
                    raise AssertionError(f"{method} {path}: {status} {text}")
                with suppress(TimeoutError):
                    await asyncio.sleep(0.2)
