"""One run: a system, a load, faults in turn by a seed, and what must hold afterwards."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.faults import invariants
from tests.faults.catalogue import FAULTS, IN_TURN
from tests.faults.fault import Needs, Wrong
from tests.faults.load import MARKER, Load
from tests.faults.objects import LOAD_KINDS, NAMESPACE
from tests.faults.report import ENOUGH, FaultRow, Result
from tests.faults.system import CLUSTER, SHORT, System
from tests.postgres.server import Postgres

RESUMES = 10.0
"""Seconds within which work goes on when one of several replicas is killed."""
LOOK = 2.5
"""Seconds before a fault over which the load's rate is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run goes. Seconds."""

    faults: Sequence[str] = IN_TURN
    shuffled: bool = True
    outage: tuple[float, float] = (2.0, 4.0)
    calm: float = 2.5
    """Between a recovery and the next fault, at least."""
    recovery: float = 60.0
    """Limit of one recovery."""
    convergence: float = 60.0
    """After the last fault, until everything is equal and nothing waits."""
    load: float = 2.5
    """Under load before the first fault."""
    rate: float = 100.0
    """Changes per second that the load attempts."""
    patience: float = 20.0
    """For which a fault waits at most until it meets enough load, then lasts longer until it has met enough,
    and the load goes on until it has touched every kind: a machine that stood still needs it."""
    replicas: int = 1
    """Of master and api."""
    variables: Mapping[str, str] = field(default_factory=lambda: SHORT)
    """Settings of the services."""


Say = Callable[[str], None]


async def run(
    folder: Path,
    seed: int,
    plan: Plan,
    say: Say = print,
    *,
    modules: Mapping[str, str] | None = None,
    postgres: Postgres | None = None,
) -> Result:
    """The whole; never raises for what the system does wrong, that is in the result."""
    say(f"seed {seed}")
    dice = random.Random(seed)
    needs = frozenset[Needs]().union(*(FAULTS[name].needs for name in plan.faults))
    async with (
        System(
            folder,
            seed,
            plan.variables,
            modules=modules,
            replicas=plan.replicas,
            postgres=postgres,
            disks=Needs.DISKS in needs,
            shimmed=Needs.SHIM in needs,
        ) as system,
        Load(system.plane, system.recorder, seed, plan.rate) as load,
    ):
        return await Scenario(system, load, plan, dice, Result(seed), say).run()


class Scenario:
    """The course of one run."""

    def __init__(
        self, system: System, load: Load, plan: Plan, dice: random.Random, result: Result, say: Say
    ) -> None:
        self._system = system
        self._load = load
        self._plan = plan
        self._dice = dice
        self._result = result
        self._say = say
        self._began = 0.0
        self._mended = 0.0
        """The end of the last fault."""
        self._marks = 0

    async def run(self) -> Result:
        """Load, faults, convergence, invariants."""
        loop = asyncio.get_running_loop()
        await self._load.prepare()
        self._load.begin()
        self._began = loop.time()
        await asyncio.sleep(self._plan.load)
        await self._recovery(self._plan.recovery)
        faults = list(self._plan.faults)
        if self._plan.shuffled:
            self._dice.shuffle(faults)
        for name in faults:
            await self._fault(name)
        await self._until(lambda _: not self._untouched(), self._plan.patience)
        await self._load.end()
        self._result.changes = len(self._system.recorder.acknowledged)
        self._result.untouched += self._untouched()
        await self._converge(self._mended or loop.time())
        return self._result

    async def _fault(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        fault = FAULTS[name]
        await asyncio.sleep(self._plan.calm)
        recorder = self._system.recorder
        patience = self._plan.patience
        start = await self._until(lambda now: recorder.rate(now - LOOK, now) >= ENOUGH, patience)
        seconds = min(self._dice.uniform(*self._plan.outage), fault.longest)
        resumed: float | None = None
        choice, broken = "", start
        try:
            async with fault.breaking(self._system, self._dice) as choice:
                broken = loop.time()
                if fault.replicated:  # the others go on meanwhile
                    resumed = await self._recovery(RESUMES)
                await asyncio.sleep(max(0.0, broken + seconds - loop.time()))
                end = loop.time()
                if not fault.stops_load:
                    more = min(patience, broken + fault.longest - end)
                    end = await self._until(lambda now: recorder.rate(broken, now) >= ENOUGH, more)
        except (Wrong, TimeoutError, aiohttp.ClientError) as wrong:
            self._result.violations.append(f"{name}: {str(wrong) or type(wrong).__name__}")
            end = loop.time()
        self._mended = mended = loop.time()
        row = FaultRow(
            name=name,
            choice=choice,
            began=start - self._began,
            outage=mended - start,
            rate_before=recorder.rate(start - LOOK, start),
            rate_during=None if fault.stops_load else recorder.rate(broken, end),
        )
        self._result.rows.append(row)
        recovered = await self._recovery(self._plan.recovery)
        row.recovered = resumed if fault.replicated else recovered
        self._say(
            f"  {name} {choice}: {row.outage:.1f} s, {row.rate_before:.0f}/s before, "
            + ("never recovered" if row.recovered is None else f"recovered in {row.recovered:.1f} s")
        )

    async def _until(self, holds: Callable[[float], bool], seconds: float) -> float:
        """The time at which it holds, or so many seconds are over."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + seconds
        while not holds(now := loop.time()) and now < limit:
            await asyncio.sleep(0.05)
        return now

    async def _recovery(self, limit: float) -> float | None:
        """Seconds until a change written now is visible over REST; None: not within the limit."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self._marks += 1
        text = f"m{self._marks}"
        written = False
        while loop.time() - start < limit:
            written = written or await self._load.mark(text)
            if written and await self._shown_mark() == text:
                return loop.time() - start
            await asyncio.sleep(0.05)
        self._result.violations.append(f"a change was not visible within {limit:.0f} s")
        return None

    async def _shown_mark(self) -> str:
        try:
            async with asyncio.timeout(5):
                row = await self._system.get(f"/clusters/{CLUSTER}/configmaps/{NAMESPACE}/{MARKER}")
        except (aiohttp.ClientError, TimeoutError):
            return ""
        return str(row["object"]["metadata"].get("labels", {}).get("mark", ""))

    def _untouched(self) -> list[str]:
        """A load that left out a kind proves nothing about it."""
        kinds = {kind.resource for kind in LOAD_KINDS}
        return [
            f"no {verb} of {resource} succeeded"
            for verb in ("create", "update", "delete")
            for resource in sorted(kinds - self._system.recorder.resources(verb))
        ]

    async def _converge(self, healed: float) -> None:
        loop = asyncio.get_running_loop()
        system = self._system
        wanted = await invariants.truth(system)
        while True:
            told = await self._compare(wanted)
            over = loop.time() - healed >= self._plan.convergence
            if told and not over:
                await asyncio.sleep(0.2)
                continue
            equal = loop.time()
            before, wanted = wanted, await invariants.truth(system)
            if over or wanted == before:
                break  # else what its author waited for no longer was done after all: compared once more
        if told:
            self._result.violations += [
                f"not equal after {self._plan.convergence:.0f} s: {text}" for text in told
            ]
        else:
            self._result.converged = equal - healed
        if wanted != before:
            self._result.violations.append("the harness: the cluster changed after the load had ended")
        steps = await system.audit.steps()
        self._result.violations += [
            *invariants.sequence_whole(steps),
            *invariants.never_mended(steps),
            *await invariants.never_swept(system),
            *invariants.alive(system),
            *await self._drain(healed),
        ]

    async def _compare(self, wanted: dict[str, dict[invariants.Key, object]]) -> list[str]:
        try:
            different = await invariants.equal(self._system, wanted)
            return different + await invariants.events_kept(self._system, wanted["events"])
        except (aiohttp.ClientError, TimeoutError) as error:
            return [f"the API does not answer: {type(error).__name__} {error}"]

    async def _drain(self, healed: float) -> list[str]:
        loop = asyncio.get_running_loop()
        while (
            told := await invariants.drained(self._system)
        ) and loop.time() - healed < self._plan.convergence:
            await asyncio.sleep(0.5)
        return told
