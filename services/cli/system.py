"""What `atlhyper up` runs: broker, master, api, agent, and a local control plane where no cluster is.

Started from the broker upwards, stopped the other way round, so that nobody loses what it stands on.
"""

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from services.cli import context, token_files
from services.cli.cluster.components import COMPONENTS
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError, ensure_up
from services.cli.plan import Plan
from services.cli.readiness import Progress, next_steps, wait_synced
from services.cli.supervisor import Child, Say, run_once
from services.persistence.database.engine import Database
from services.runtime.backoff import Backoff
from services.runtime.bus import credentials, topology
from services.runtime.bus.broker import Broker, BrokerExited
from services.runtime.bus.client import BusError, connect
from services.runtime.errors import UserError
from services.runtime.lifecycle import STEADY
from services.runtime.settings import BusSettings, StoreSettings, load

CLUSTER_STOP_DEADLINE = 60.0
"""Seconds for the control plane to end; each of its processes has 10."""
OWNER = "local"
"""Whose the token is that is made: what is done with it is done by `token/local`."""
SYNC_PATIENCE = 120.0
"""Seconds after which a cluster that is not synced is told as it is, and `up` goes on."""


class System:
    """The running whole. `run` returns after Ctrl-C or SIGTERM, and raises UserError when it cannot go on."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._stopping = asyncio.Event()
        self._error: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._children: list[Child] = []
        self._broker = Broker(plan.broker)
        self._kubeconfig = ""
        self._stops: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        """How to stop what was started, in the order of starting."""
        self._started: set[str] = set()
        """What ran: only of these it is said that they stopped."""

    async def run(self) -> None:
        """Start, tell how it goes, run until told to stop, stop in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            self._keep("start", self._start())
            await self._stopping.wait()
        finally:
            await self._stop()
        if self._error is not None:
            raise self._error

    # --- starting ------------------------------------------------------------------------------------

    async def _start(self) -> None:
        plan = self._plan
        self._stops.append(("broker", self._broker.stop))
        await self._broker.prepare()
        kubeconfig, _ = await asyncio.gather(self._cluster(), self._foundation())
        token = await self._token()
        env = self._environment(kubeconfig)
        for name, arguments in (("master", ["master"]), ("api", ["api"]), ("agent", ["agent", "kubernetes"])):
            log = plan.home / "logs" / f"{name}.log"
            child = Child(name, arguments, env, log, self._say, self._note_pids)
            self._children.append(child)
            self._stops.append((name, child.stop))
            self._started.add(name)
            self._keep(name, child.keep_running())
        self._kubeconfig = kubeconfig
        self._write_state()
        mode = "read-only" if plan.read_only else "writes allowed"
        self._say(
            "agent", f"context {plan.attachment.context}, cluster id {plan.attachment.cluster_id}, {mode}"
        )
        url, progress = plan.api_url, Progress(self._say)
        agent = await wait_synced(url, token, plan.attachment.cluster_id, progress, SYNC_PATIENCE)
        next_steps(url, plan.home, plan.attachment, plan.read_only, agent)

    async def _foundation(self) -> None:
        """Database and broker, with tables, streams and the agent's credential."""
        plan = self._plan
        upgrade = asyncio.create_task(run_once("database", ["db", "upgrade"], self._environment("")))
        try:
            credentials.issue(plan.home, f"kubernetes_{plan.attachment.cluster_id}")
            await self._broker.start()
            self._started.add("broker")
            where = self._broker.url
            wanted = plan.broker.nats_listen
            moved = not where.endswith(wanted) and not wanted.endswith(":0")
            self._say("broker", where + (f" ({wanted} is in use)" if moved else ""))
            await self._apply()
            self._say("database", await upgrade)
        finally:
            upgrade.cancel()
            with suppress(asyncio.CancelledError, UserError):
                await upgrade
        self._keep("broker", self._keep_broker())

    async def _token(self) -> str:
        """Of whoever runs this, for the API; a new one when the database does not know it, or no longer."""
        path = context.token_file(self._plan.home)
        async with Database(load(StoreSettings).database_url, "up") as database:
            if await token_files.ensure(database, path, OWNER):
                self._say("api", f"made a token for you: {path}")
        return context.read_token(path)

    async def _cluster(self) -> str:
        """The kubeconfig for the agent; starts the local control plane where there is none."""
        attachment = self._plan.attachment
        if not attachment.is_local:
            return attachment.kubeconfig
        control_plane = ControlPlane(self._plan.home / "cluster")
        if any(control_plane.pid(name) for name in COMPONENTS):
            self._say("cluster", "no kubeconfig found: the local control plane, which runs already and stays")
        else:
            self._say(
                "cluster",
                "no kubeconfig found: starting a local control plane (the first build takes minutes)",
            )
            await self._guard(control_plane.folder)
        try:
            kubeconfig = await ensure_up(self._plan.home, lambda line: self._say("cluster", line))
        except ControlPlaneError as error:
            raise UserError(f"cluster: {error}", "`make cluster-status` shows its components") from error
        self._started.add("cluster")
        return str(kubeconfig)

    async def _guard(self, folder: Path) -> None:
        """A process that stops the control plane when its standard input ends: we stop, or are killed."""
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.cli.cluster.guard", str(folder)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

        async def stop() -> None:
            if guard.stdin is not None:
                guard.stdin.close()
            try:
                async with asyncio.timeout(CLUSTER_STOP_DEADLINE):
                    code = await guard.wait()
            except TimeoutError:
                raise ControlPlaneError(
                    f"not ended after {CLUSTER_STOP_DEADLINE:g}s; `make cluster-status` shows what runs"
                ) from None
            if code:
                raise ControlPlaneError(f"exit code {code}; `make cluster-status` shows what runs")

        self._stops.insert(0, ("cluster", stop))

    async def _apply(self) -> None:
        """Streams as this version needs them."""
        settings = load(BusSettings, home=self._plan.home, nats_url=self._broker.url, credentials=None)
        async with connect(settings, "operator", name="atlhyper up") as bus:
            for change in await topology.apply(bus):
                self._say("broker", f"stream {change.stream} {change.action}d")

    async def _keep_broker(self) -> None:
        backoff = Backoff(base=0.5, cap=10.0)
        while True:
            started = time.monotonic()
            try:
                await self._broker.run()
            except BrokerExited as error:
                self._say("broker", f"{error}; starts again")
            if time.monotonic() - started > STEADY:
                backoff.reset()
            while True:
                await backoff.sleep()
                try:
                    await self._broker.start()
                    self._note_pids()
                    await self._apply()
                    self._say("broker", f"{self._broker.url} again")
                    break
                except (UserError, BusError) as error:
                    self._say("broker", f"not started: {error}")

    def _environment(self, kubeconfig: str) -> dict[str, str]:
        """What our processes inherit: the person's variables, with ours over them."""
        plan = self._plan
        ours = {
            "ATLHYPER_HOME": str(plan.home),
            "NATS_CREDENTIALS": "",
            "API_LISTEN": plan.api_listen,
            "MASTER_METRICS_LISTEN": plan.master_metrics,
            "AGENT_METRICS_LISTEN": plan.agent_metrics,
            "AGENT_CLUSTER_ID": plan.attachment.cluster_id,
            "AGENT_READ_ONLY": str(plan.read_only).lower(),
        }
        if kubeconfig:
            ours |= {
                "NATS_URL": self._broker.url,
                "AGENT_MASTER_URL": self._broker.url,
                "AGENT_KUBECONFIG": kubeconfig,
            }
        return {**os.environ, **ours}

    def _note_pids(self) -> None:
        """A process has another pid: `up.json` says so, where it can be written."""
        try:
            if self._children:
                self._write_state()
        except OSError as error:
            self._say("up", f"up.json keeps old process ids: {error}")

    def _write_state(self) -> None:
        pids = {child.name: child.pid for child in self._children} | {"broker": self._broker.pid}
        context.Running(
            pid=os.getpid(),
            api=self._plan.api_url,
            nats=self._broker.url,
            target=f"kubernetes/{self._plan.attachment.cluster_id}",
            kubeconfig=self._kubeconfig,
            processes={name: pid for name, pid in pids.items() if pid is not None},
        ).write(self._plan.home)

    # --- stopping ------------------------------------------------------------------------------------

    def _keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the others; an exception ends the whole."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self._stopping.set()

    async def _stop(self) -> None:
        if self._stops and self._error is None:
            self._say("up", "stopping; a second Ctrl-C kills")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name, stop in reversed(self._stops):
            try:
                await stop()
            except Exception as error:  # noqa: BLE001 the others are stopped all the same
                self._say(name, f"could not be stopped: {str(error) or type(error).__name__}")
            else:
                if name in self._started:
                    self._say(name, "stopped")
        context.forget(self._plan.home)

    def _on_signal(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            return
        self._say("up", "killed")
        for child in self._children:
            child.kill()
        if self._broker.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._broker.pid, signal.SIGKILL)
        context.forget(self._plan.home)
        os._exit(130)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One `up` per home: two would share a database, a broker's store and ports."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise UserError(
                f"another `atlhyper up` (pid {pid}) runs in {home}",
                "use that one, stop it, or give this one a folder of its own: ATLHYPER_HOME=…",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
