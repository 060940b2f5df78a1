"""`GET /clusters/{id}/logs/…`: what containers have written, and write."""

import math
import re
from datetime import datetime
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from litestar.types import ASGIApp
from msgspec.structs import replace

from schemas.errors import ContractError
from schemas.ids import AgentKind
from schemas.logs import MAX_POD_WAIT, MAX_POSITIONS, LogPosition, LogsRequested
from services.api import examples, parameters
from services.api.http import problems
from services.api.logs.readers import LogReaders
from services.api.logs.stream import LogStream
from services.api.lookup import find_agent
from services.persistence.database.engine import Database
from services.runtime.settings import parse_duration

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LONGEST = 100 * 365 * 86400
"""Seconds; the API server counts in nanoseconds, which end after 292 years."""
MAX_CONTAINERS = 50

Namespace = Annotated[
    str, PathParameter(description="Namespace of the pods.", max_length=parameters.MAX_TEXT)
]
Container = Annotated[
    list[str] | None,
    QueryParameter(
        description="Only these containers, by name; given several times for several. Without it the one "
        "that the pod names as its default, else its first.",
        examples=[Example(value=["app"])],
    ),
]
AllContainers = Annotated[
    bool, QueryParameter(name="allContainers", description="All containers, also those of the start.")
]
Follow = Annotated[
    bool,
    QueryParameter(description="Go on with what is written, until the reader leaves or the container ends."),
]
Previous = Annotated[
    bool,
    QueryParameter(description="Of the container's run before this one; with `follow` it ends all the same."),
]
Tail = Annotated[
    int | None, QueryParameter(description="Lines from the end, of each container.", ge=0, le=2**31 - 1)
]
Since = Annotated[
    str | None,
    QueryParameter(
        description="Only what is not older than `5m` or `1h30m`, or than a time such as "
        "2026-11-21T08:00:00Z.",
        examples=[Example(value="5m")],
        max_length=64,
    ),
]
LimitBytes = Annotated[
    int | None,
    QueryParameter(name="limitBytes", description="Bytes at most, of each container.", ge=1, le=2**63 - 1),
]
Timestamps = Annotated[bool, QueryParameter(description="Begin each line with its time.")]
Prefix = Annotated[
    bool | None,
    QueryParameter(
        description="Begin each line with `[pod/<pod>/<container>] `. By default where there can be several."
    ),
]
IgnoreErrors = Annotated[
    bool,
    QueryParameter(
        name="ignoreErrors",
        description="What fails with one container is a line `error: …` among the others', and not the end.",
    ),
]
MaxLogRequests = Annotated[
    int | None,
    QueryParameter(
        name="maxLogRequests",
        description="Containers that may be followed at once; by default, and at most, 100.",
        ge=1,
        le=2**31 - 1,
    ),
]
PodRunningTimeout = Annotated[
    str,
    QueryParameter(
        name="podRunningTimeout",
        description="How long to wait for what has no log yet: for a pod that is being started, and, unless "
        f"it is followed, for the first pod of a workload. At most `{MAX_POD_WAIT / 60:g}m`.",
        max_length=64,
    ),
]
SkipTls = Annotated[
    bool,
    QueryParameter(
        name="insecureSkipTLSVerifyBackend",
        description="The API server need not check who the kubelet is, as where its certificate has expired: "
        "somebody between them could change the lines.",
    ),
]
Resume = Annotated[
    list[str] | None,
    QueryParameter(
        description="How much of a container's log the reader has: "
        "`<pod>/<container>@<second>,<lines since then>,<last time>,<bytes of the next line>,<bytes in all>`;"
        " given several times for several. What it has is left out, whatever else is asked for.",
        examples=[Example(value=["web-0/app@2026-11-21T08:00:00,17,2026-11-21T08:00:01.000000000,0,512"])],
    ),
]

_ANSWERS = problems.responses(
    problems.UNKNOWN_AGENT,
    problems.UNKNOWN_OBJECT,
    problems.NO_LOGS,
    problems.CLUSTER_REFUSES,
    problems.CLUSTER_FAILS,
    problems.NO_ANSWER,
    problems.TOO_MANY_LOG_READERS,
) | examples.text("The lines, as they come", examples.LOGS)


async def log_request(
    container: Container = None,
    all_containers: AllContainers = False,
    follow: Follow = False,
    previous: Previous = False,
    tail: Tail = None,
    since: Since = None,
    limit_bytes: LimitBytes = None,
    timestamps: Timestamps = False,
    prefix: Prefix = None,
    ignore_errors: IgnoreErrors = False,
    max_log_requests: MaxLogRequests = None,
    pod_running_timeout: PodRunningTimeout = "20s",
    insecure_skip_tls_verify_backend: SkipTls = False,
    resume: Resume = None,
) -> LogsRequested:
    """What is asked for, but not of which pods. Raises ProblemError."""
    if container and all_containers:
        raise problems.invalid("allContainers", "goes without container", "leave one of them out")
    seconds, time = _since(since)
    return LogsRequested(
        session="",
        containers=[_name("container", name) for name in _few("container", container, MAX_CONTAINERS)],
        all_containers=all_containers,
        follow=follow and not previous,  # what is over does not grow
        previous=previous,
        tail=tail,
        since_seconds=seconds,
        since_time=time,
        limit_bytes=limit_bytes,
        timestamps=timestamps,
        prefix=bool(prefix) if prefix is not None else all_containers or len(container or ()) > 1,
        ignore_errors=ignore_errors,
        max_log_requests=max_log_requests,
        pod_running_timeout=_wait(pod_running_timeout),
        skip_tls_verify_backend=insecure_skip_tls_verify_backend,
        positions=[_position(text) for text in _few("resume", resume, MAX_POSITIONS)],
    )


class LogController(Controller):
    """One long answer per reader."""

    path = "/clusters/{id:str}/logs"
    tags = ("logs",)
    dependencies = {"asked": Provide(log_request)}

    @get("/{namespace:str}/{pod:str}", summary="Logs of a pod", responses=_ANSWERS)
    async def get_logs(
        self,
        database: NamedDependency[Database],
        log_readers: NamedDependency[LogReaders],
        asked: NamedDependency[LogsRequested],
        id: parameters.AgentId,
        namespace: Namespace,
        pod: Annotated[str, PathParameter(description="The pod.", max_length=parameters.MAX_TEXT)],
    ) -> ASGIApp:
        """What `kubectl logs` shows, read live by the cluster's agent.

        The answer ends when all has been sent: with `follow` when the container has ended or the pod is gone.
        When the rest cannot be had it is broken off, so that nobody takes it for the whole, behind a line
        `error: …` where the cluster has said why; go on by `resume`, or by `since` with the time of the last
        line. A slow reader is waited for, and nobody
        else waits with it; one that takes nothing for a minute is cut off. `Warning` headers say what was
        chosen or left out. The lines are the container's own bytes, whatever these are.
        """
        where = replace(asked, namespace=_name("namespace", namespace), pod=_name("pod", pod))
        return await _stream(database, log_readers, id, where)

    @get("/{namespace:str}/{resource:str}/{name:str}", summary="Logs of a workload", responses=_ANSWERS)
    async def get_workload_logs(
        self,
        database: NamedDependency[Database],
        log_readers: NamedDependency[LogReaders],
        asked: NamedDependency[LogsRequested],
        id: parameters.AgentId,
        namespace: Namespace,
        resource: Annotated[
            str,
            PathParameter(
                description="`deployments`, `statefulsets`, `daemonsets`, `replicasets`, `jobs`, `services`.",
                max_length=63,
            ),
        ],
        name: Annotated[str, PathParameter(description="Its name.", max_length=parameters.MAX_TEXT)],
        prefix: Prefix = None,
    ) -> ASGIApp:
        """The logs of all its pods, one after the other; with `follow` as they come, each in its own order.

        Pods that come later are followed too, and those that go are not missed: such an answer has no end.
        The first container that cannot be read ends it, unless `ignoreErrors` is set. At most 100 containers
        are read at once.
        """
        where = replace(
            asked,
            namespace=_name("namespace", namespace),
            resource=_name("resource", resource),
            name=_name("name", name),
            prefix=prefix is not False,
        )
        return await _stream(database, log_readers, id, where)

    @get("/{namespace:str}", summary="Logs of pods by their labels", responses=_ANSWERS)
    async def get_selected_logs(
        self,
        database: NamedDependency[Database],
        log_readers: NamedDependency[LogReaders],
        asked: NamedDependency[LogsRequested],
        id: parameters.AgentId,
        namespace: Namespace,
        label_selector: parameters.LabelSelector = None,
        prefix: Prefix = None,
    ) -> ASGIApp:
        """The logs of all pods that have these labels, as those of a workload; `labelSelector` is needed."""
        if not label_selector:
            message = "is needed: a whole namespace is not read"
            raise problems.invalid("labelSelector", message, "name a pod in the path, or labels: app=web")
        where = replace(
            asked,
            namespace=_name("namespace", namespace),
            selector=label_selector,
            prefix=prefix is not False,
        )
        return await _stream(database, log_readers, id, where)


async def _stream(database: Database, readers: LogReaders, id: str, asked: LogsRequested) -> LogStream:
    target = parameters.target(AgentKind.KUBERNETES, id)
    async with database.read() as connection:
        await find_agent(connection, target)
    return LogStream(readers, target, asked)


def _name(parameter: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise problems.invalid(
            parameter, f"{text!r} is no name in Kubernetes", "write it as kubectl shows it"
        )
    return text


def _few(parameter: str, given: list[str] | None, limit: int) -> list[str]:
    if len(given or ()) > limit:
        raise problems.invalid(parameter, f"is given more than {limit} times", "ask for fewer at a time")
    return given or []


def _position(text: str) -> LogPosition:
    try:
        return LogPosition.parse(text)
    except ContractError as error:
        raise problems.invalid("resume", str(error), "leave it out, and use `since`") from error


def _since(text: str | None) -> tuple[int | None, str]:
    """Seconds, or a time as Kubernetes takes it."""
    if not text:
        return None, ""
    try:
        return min(math.ceil(parse_duration(text)), _LONGEST) or None, ""  # 0s is kubectl's word for all
    except ValueError:
        pass
    try:
        time = parameters.aware("since", datetime.fromisoformat(text))
    except ValueError:
        time = None
    if time is None:
        next_step = "write it as in 5m, 1h30m or 2026-11-21T08:00:00Z"
        raise problems.invalid("since", f"{text!r} is neither a duration nor a time", next_step)
    return None, f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _wait(text: str) -> float:
    """Seconds to wait for a pod. Raises ProblemError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        message = f"{text!r} is no duration higher than zero"
        raise problems.invalid("podRunningTimeout", message, "write it as in 5s, 2m or 1m30s")
    if seconds > MAX_POD_WAIT:
        message = f"{text!r} is longer than {MAX_POD_WAIT / 60:g}m, for which a pod is waited for at most"
        raise problems.invalid("podRunningTimeout", message, "ask for less, and again if it has not come")
    return seconds
