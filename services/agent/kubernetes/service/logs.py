"""Logs of a pod, or of all pods of a workload or with some labels: what `kubectl logs` shows."""

import asyncio
from contextlib import aclosing

from schemas.kubernetes.pod import Pod
from schemas.logs import MAX_POD_WAIT, LogError, LogPosition, LogsRequested
from services.agent.capability import LogSink, LogsUnavailable
from services.agent.kubernetes.repository.interfaces import ChangeType, LogRepository
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Forbidden,
    Invalid,
    KubernetesError,
    Unauthorized,
)
from services.agent.kubernetes.service.log_containers import chosen, default_of, names_of, standing
from services.agent.kubernetes.service.log_pods import find, selection_of
from services.agent.kubernetes.service.log_stream import LogStream, Shared
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.tasks import cancelled, set_within

_log = logs.get_logger(__name__)

MAX_LOGS = 100
"""Containers that are read at once for one reader: each is a connection to the API server. With
`max_log_requests` it may be fewer; kubectl's own default is 5."""
OPEN_WAIT = 1.5
"""Seconds until a log counts as open from which nothing has come: there may be no line yet."""
REST_WAIT = 5.0
"""Seconds in which the line has to end whose beginning the reader has, before others are read."""
STEADY = 20.0
"""Seconds after which a watch has worked."""


class KubernetesLogs:
    """Logs of one cluster."""

    def __init__(self, repository: LogRepository) -> None:
        self._repository = repository

    async def announce(self) -> list[str]:
        """`logs`, where we may read them. Raises KubernetesError."""
        return ["logs"] if await self._repository.readable() else []

    async def read_logs(self, asked: LogsRequested, sink: LogSink) -> None:
        reading = _Reading(Shared(self._repository, asked, sink))
        try:
            await reading.run()
        except KubernetesError as error:
            raise LogsUnavailable(_told(error)) from error
        finally:
            await reading.close()


class _Reading:
    """One session."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._asked = shared.asked
        self._positions: dict[tuple[str, str], LogPosition] = {
            (position.pod, position.container): position for position in shared.asked.positions
        }
        self._streams: dict[tuple[str, str], LogStream] = {}
        """By the pod's uid and the container."""
        self._tasks: dict[LogStream, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._told_too_many = False

    async def run(self) -> None:
        """Raises KubernetesError and LogsUnavailable."""
        asked, repository = self._asked, self._shared.repository
        if asked.pod_running_timeout > MAX_POD_WAIT:
            message = (
                f"a pod is waited for at most {MAX_POD_WAIT / 60:g}m, not {asked.pod_running_timeout:g}s"
            )
            raise LogsUnavailable(LogError(code="invalid", message=message))
        selection = await selection_of(repository, asked)
        pods, version = await find(repository, asked, selection)
        if asked.pod and not pods:
            if asked.positions:
                return  # it has gone since the reader was there
            raise LogsUnavailable(LogError(code="not_found", message=f'pods "{asked.pod}" not found'))
        if asked.pod and not pods[0].spec.node_name:  # the API server would say nothing, and no line
            message = f'pod "{asked.pod}" is not on a node yet: {standing(pods[0], "").why_not}'
            raise LogsUnavailable(LogError(code="invalid", message=message))
        warnings = self._add(pods)
        if not self._follows:
            await self._read_in_turn(warnings)
        else:
            await self._follow(selection, version, warnings)

    async def close(self) -> None:
        """End whatever is still read."""
        tasks = [*self._tasks.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # seen: of several that fail one is told

    @property
    def _follows(self) -> bool:
        """What is over does not grow: its end is the end, also for who follows it."""
        return self._asked.follow and not self._asked.previous

    @property
    def _limit(self) -> int:
        """Containers that are followed at once."""
        return min(self._asked.max_log_requests or MAX_LOGS, MAX_LOGS)

    def _add(self, pods: list[Pod]) -> list[str]:
        """A stream for each container that is meant and has a log; what a person should know of it."""
        asked, warnings = self._asked, list[str]()
        for pod in sorted(pods, key=lambda pod: pod.metadata.name):
            for container in chosen(pod, asked):
                state = standing(pod, container)
                # Of one pod alone the API server says it, in its own words.
                if state.started or asked.pod:
                    self._new(pod, container, fresh=False)
                else:
                    name = f"pod/{pod.metadata.name}/{container}"
                    warnings.append(f"{name} has not started: {state.why_not}")
        if self._follows and len(self._streams) > self._limit:
            message = (
                f"you are attempting to follow {len(self._streams)} log streams, "
                f"but maximum allowed concurrency is {self._limit}"
            )
            if self._limit < MAX_LOGS:
                message += ", use --max-log-requests to increase the limit"
            raise LogsUnavailable(LogError(code="invalid", message=message))
        if len(self._streams) > MAX_LOGS:
            message = f"these are {len(self._streams)} containers, more than {MAX_LOGS} at once"
            raise LogsUnavailable(LogError(code="too_many", message=message))
        if asked.pod and not asked.all_containers and not asked.containers and len(names_of(pods[0])) > 1:
            names = ", ".join(names_of(pods[0]))
            warnings.append(f'defaulted container "{default_of(pods[0])}" out of: {names}')
        if not pods:
            warnings.append(f"there are no pods of it in namespace {asked.namespace} now")
        return warnings

    def _new(self, pod: Pod, container: str, *, fresh: bool) -> LogStream:
        # Once: of a pod that is made again by the same name nothing has been read.
        resume = self._positions.pop((pod.metadata.name, container), None)
        stream = LogStream(self._shared, pod, container, resume=resume, fresh=fresh)
        self._streams[pod.metadata.uid, container] = stream
        return stream

    # --- what there is -------------------------------------------------------------------------------

    async def _read_in_turn(self, warnings: list[str]) -> None:
        """One container after the other, up to the first error unless these are ignored, as kubectl does."""
        opened, sink = False, self._shared.sink
        for stream in list(self._streams.values()):
            task = self._tasks[stream] = asyncio.create_task(stream.read(), name=f"read {stream.name}")
            settled = asyncio.create_task(stream.settled.wait())
            try:
                await asyncio.wait([task, settled], return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancelled(settled)
            if not opened and (stream.settled.is_set() or task.exception() is None):
                opened = True
                sink.opened(warnings)
            try:
                await task
            except KubernetesError as error:
                if not self._asked.ignore_errors:
                    raise self._unavailable(stream, error) from error
                if not opened:
                    opened = True
                    sink.opened(warnings)
                await stream.tell(_words(error))
        if not opened:
            sink.opened(warnings)

    # --- what comes ----------------------------------------------------------------------------------

    async def _follow(self, selection: dict[str, str], version: str, warnings: list[str]) -> None:
        streams = list(self._streams.values())
        for stream in sorted(streams, key=lambda stream: stream.whole.is_set()):
            self._start(stream)
            await set_within(stream.whole, REST_WAIT)  # the rest of a line that the reader has half of
        tasks = list(self._tasks.values())
        self._watching = asyncio.create_task(self._watch(selection, version), name="pods of a log")
        settling = [asyncio.create_task(stream.settled.wait()) for stream in streams]
        if settling:
            try:
                await asyncio.wait(settling, timeout=OPEN_WAIT)
            finally:
                for one in settling:
                    await cancelled(one)
        failed = [stream for stream in streams if stream.error is not None]
        if not self._asked.ignore_errors:
            ends = failed if len(failed) == len(streams) else [one for one in failed if _ends(one)]
            for stream in ends[:1]:
                assert stream.error is not None
                raise self._unavailable(stream, stream.error) from stream.error
        tried_again = [stream for stream in streams if not stream.is_refused]
        warnings += [f"{stream.name}: {stream.trouble.reason}" for stream in tried_again if stream.trouble]
        self._shared.sink.opened(warnings)
        if not self._asked.pod:
            tasks.append(self._watching)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def _unavailable(self, stream: LogStream, error: KubernetesError) -> LogsUnavailable:
        told = _told(error)
        if len(self._streams) > 1:  # the API server does not always say of which one it speaks
            told.message = f"{stream.name}: {told.message}"
        return LogsUnavailable(told)

    def _start(self, stream: LogStream) -> None:
        before = [self._tasks[one] for one in self._streams.values() if stream.replaces(one)]
        self._tasks[stream] = asyncio.create_task(self._run(stream, before), name=f"follow {stream.name}")

    async def _run(self, stream: LogStream, before: list[asyncio.Task[None]]) -> None:
        """`before`: what is read of a pod that had its name, and comes first.

        Raises LogsUnavailable where kubectl ends as well: what is asked for is refused.
        """
        if before:
            await asyncio.wait(before)
        try:
            await stream.follow()
        except Exception:  # noqa: BLE001 - a bug in one log must not cost the others
            _log.exception("log failed", log=stream.name)
        if (error := stream.error) is None or not stream.is_refused:
            return
        if _ends(stream) and not self._asked.ignore_errors:
            raise self._unavailable(stream, error) from error
        await stream.tell(_words(error))

    async def _watch(self, selection: dict[str, str], version: str) -> None:
        """See which pods come and go, until cancelled."""
        loop, backoff = asyncio.get_running_loop(), Backoff(base=1.0, cap=30.0)
        repository, namespace = self._shared.repository, self._asked.namespace
        while True:
            started = loop.time()
            try:
                async with aclosing(repository.watch(namespace, selection, version)) as changes:
                    async for kind, pod in changes:
                        if kind is ChangeType.DELETED:
                            self._vanished(pod.metadata.uid)
                        else:
                            self._see(pod)
                if loop.time() - started > STEADY:
                    backoff.reset()
                await backoff.sleep()
                pods, version = await repository.pods(namespace, selection)
            except KubernetesError as error:
                _log.info("pods of a log are looked for again", reason=error.reason)
                await backoff.sleep()
                try:
                    pods, version = await repository.pods(namespace, selection)
                except KubernetesError:
                    continue
            present = {pod.metadata.uid for pod in pods}
            for uid in {uid for uid, _ in self._streams} - present:
                self._vanished(uid)
            for pod in pods:
                self._see(pod)

    def _vanished(self, uid: str) -> None:
        for (of, _), stream in self._streams.items():
            if of == uid:
                stream.gone.set()
        for key in [key for key, stream in self._streams.items() if self._is_over(stream)]:
            del self._tasks[self._streams.pop(key)]

    def _is_over(self, stream: LogStream) -> bool:
        task = self._tasks.get(stream)
        return stream.gone.is_set() and task is not None and task.done() and not self._asked.pod

    def _see(self, pod: Pod) -> None:
        """Follow what has started, and what has started again."""
        if self._asked.pod:
            return  # one pod is followed until its containers end, as by kubectl
        for container in chosen(pod, self._asked):
            state = standing(pod, container)
            stream = self._streams.get((pod.metadata.uid, container))
            if not state.started:
                continue
            if stream is None:
                running = sum(not (task.done() or one.gone.is_set()) for one, task in self._tasks.items())
                if running >= self._limit:
                    if not self._told_too_many:
                        _log.warning("more containers than one reader may follow", limit=self._limit)
                    self._told_too_many = True
                    continue
                self._start(self._new(pod, container, fresh=True))
            elif self._tasks[stream].done() and state.running and stream.may_go_on(state.restarts):
                stream.restarts = state.restarts
                self._start(stream)


def _ends(stream: LogStream) -> bool:
    """Whether it ends the others unless errors are ignored: no pod that has just gone, or come."""
    return isinstance(stream.error, Forbidden | Invalid) and not stream.fresh


def _words(error: KubernetesError) -> str:
    """The API server's own, where it has any."""
    return error.answer.message if error.answer and error.answer.message else error.reason


def _told(error: KubernetesError) -> LogError:
    match error:
        case Absent():
            code = "not_found"
        case Forbidden() | Unauthorized():
            code = "forbidden"
        case Invalid():
            code = "invalid"
        case _:
            code = "failed"
    return LogError(code=code, message=error.reason)
