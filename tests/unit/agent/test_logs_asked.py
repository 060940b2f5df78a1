"""What is asked of the API server for a reader's logs, and what the reader is told of its answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from schemas.kubernetes.pod import Pod
from schemas.logs import LogPosition, LogsRequested
from services.agent.capability import LogsUnavailable
from services.agent.kubernetes.repository.interfaces import ChangeType
from services.agent.kubernetes.sdk.interfaces import Absent, Answer, Invalid, KubernetesError, Unreachable
from services.agent.kubernetes.service.logs import KubernetesLogs
from tests.waiting import until

LINE = b"2026-11-21T08:00:00.000000000Z text\n"
RUNNING = {"running": {"startedAt": "2026-11-21T08:00:00Z"}}


def pod(name: str, state: dict[str, Any] | None, node: str = "a", phase: str = "Pending") -> Pod:
    """A pod with one container in that state."""
    statuses = [{"name": "app", "state": state}] if state else []
    document = {
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "none"}]},
        "status": {"phase": phase, "containerStatuses": statuses},
    }
    return Pod.decode(msgspec.json.encode(document))


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


class Cluster:
    """A LogRepository: `seen` are the pods of each look, the last ones for ever; `logs` by pod."""

    def __init__(self, *seen: list[Pod], **logs: list[bytes | KubernetesError]) -> None:
        self.looks = 0
        self.queries: list[Mapping[str, str]] = []
        self._seen = seen
        self._logs = logs

    async def readable(self) -> bool:
        return True

    async def pods(self, namespace: str, selection: Mapping[str, str]) -> tuple[list[Pod], str]:
        found = self._seen[min(self.looks, len(self._seen) - 1)]
        self.looks += 1
        return found, "1"

    async def watch(
        self, namespace: str, selection: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[ChangeType, Pod], None]:
        return
        yield

    async def selector(self, resource: str, namespace: str, name: str) -> str:
        return "app=web"

    async def read(self, namespace: str, pod: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        self.queries.append(query)
        answers = self._logs.get(pod, [LINE])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, KubernetesError):
            raise answer
        yield answer


class Reader:
    """A LogSink."""

    def __init__(self) -> None:
        self.warnings: list[str] | None = None
        self.text = b""

    def opened(self, warnings: Sequence[str]) -> None:
        self.warnings = list(warnings)

    async def put(self, data: bytes, position: LogPosition) -> None:
        self.text += data


async def read(cluster: Cluster, **asked: Any) -> Reader:
    reader = Reader()
    request = LogsRequested(session="", namespace="shop", **asked)
    await KubernetesLogs(cluster).read_logs(request, reader)
    return reader


async def test_options_of_the_api_server() -> None:
    """The kubelet is checked unless that is to be skipped; what is over is read to its end, not followed."""
    cluster = Cluster([pod("web", RUNNING)])
    await read(cluster, pod="web")
    await read(cluster, pod="web", skip_tls_verify_backend=True)
    await read(cluster, pod="web", previous=True, follow=True)
    assert cluster.queries == [
        {"container": "app", "timestamps": "true"},
        {"container": "app", "timestamps": "true", "insecureSkipTLSVerifyBackend": "true"},
        {"container": "app", "timestamps": "true", "previous": "true"},
    ]


@pytest.mark.parametrize("follow", [False, True])
async def test_a_pod_that_is_being_started(follow: bool) -> None:
    """It is waited for: until it is on a node, and its container runs."""
    ended = pod("web", {"terminated": {"exitCode": 0}}, phase="Succeeded")
    cluster = Cluster([pod("web", None, node="")], [pod("web", waiting("ContainerCreating"))], [ended])
    assert (await read(cluster, pod="web", follow=follow)).text.endswith(b"text\n")
    assert cluster.looks >= 3


@pytest.mark.parametrize(
    "asked",
    [
        {"pod_running_timeout": 0.1},
        {"previous": True},
        {"positions": [LogPosition(pod="web", container="app", lines=1)]},
    ],
)
async def test_waiting_has_an_end(asked: dict[str, Any]) -> None:
    """Then the API server is asked all the same; and at once where waiting has no use."""
    error = Invalid('400 container "app" in pod "web" is waiting to start: ContainerCreating')
    cluster = Cluster([pod("web", waiting("ContainerCreating"))], web=[error])
    with pytest.raises(LogsUnavailable, match="is waiting to start"):
        await read(cluster, pod="web", **asked)
    assert (cluster.looks > 1) == ("pod_running_timeout" in asked)


async def test_so_long_is_waited_for_at_most() -> None:
    """Whatever an API asks for: more is refused before anything is looked at."""
    cluster = Cluster([pod("web", RUNNING)])
    with pytest.raises(LogsUnavailable, match="at most 10m, not 601s") as raised:
        await read(cluster, pod="web", pod_running_timeout=601.0)
    assert (raised.value.error.code, cluster.looks) == ("invalid", 0)
    assert (await read(cluster, pod="web", pod_running_timeout=600.0)).text == b"text\n"


async def test_what_is_not_waited_for() -> None:
    """A pod that does not exist, or cannot start; and pods of a workload of which one runs."""
    with pytest.raises(LogsUnavailable) as raised:
        await read(none := Cluster([]), pod="web")
    assert (raised.value.error.code, none.looks) == ("not_found", 1)
    error = Invalid('400 container "app" in pod "web" is waiting to start: ImagePullBackOff')
    failing = Cluster([pod("web", waiting("ImagePullBackOff"))], web=[error])
    with pytest.raises(LogsUnavailable, match="ImagePullBackOff"):
        await read(failing, pod="web")
    some = Cluster([pod("a", waiting("ContainerCreating")), pod("b", RUNNING, phase="Running")])
    reader = await read(some, resource="deployments", name="web")
    assert reader.warnings == ["pod/a/app has not started: ContainerCreating"]
    nothing = Cluster([])
    assert (await read(nothing, selector="app=web")).warnings
    assert [cluster.looks for cluster in (failing, some, nothing)] == [1, 1, 1]


async def test_the_first_pod_of_a_workload() -> None:
    """It is waited for, for as long as that may take."""
    ready = Cluster([], [pod("a", waiting("PodInitializing"))], [pod("a", RUNNING, phase="Running")])
    assert (await read(ready, resource="deployments", name="web")).text == b"text\n"
    assert ready.looks == 3
    reader = await read(Cluster([]), resource="deployments", name="web", pod_running_timeout=0.1)
    assert reader.warnings == ["there are no pods of it in namespace shop now"]


GONE = Absent('404 pods "b" not found', answer=Answer(404, 'pods "b" not found'))
DOWN = Unreachable("the API server can't be reached")


@pytest.mark.parametrize(
    ("error", "code", "message", "line"),
    [
        (GONE, "not_found", 'pod/b/app: 404 pods "b" not found', b'error: pods "b" not found\n'),
        (DOWN, "failed", f"pod/b/app: {DOWN.reason}", f"error: pod/b/app: {DOWN.reason}\n".encode()),
    ],
)
async def test_an_error_in_turn(error: KubernetesError, code: str, message: str, line: bytes) -> None:
    """It ends what is read, or is told between the others' lines where errors are ignored."""

    def cluster() -> Cluster:
        return Cluster([pod(name, RUNNING, phase="Running") for name in "abc"], b=[error])

    with pytest.raises(LogsUnavailable) as raised:
        await read(cluster(), selector="app=web")
    assert (raised.value.error.code, raised.value.error.message) == (code, message)
    assert (
        await read(cluster(), selector="app=web", ignore_errors=True)
    ).text == b"text\n" + line + b"text\n"


async def test_an_error_of_a_single_pod_that_is_ignored() -> None:
    """It is all that there is to be read, followed or not."""
    for follow in (False, True):
        cluster = Cluster([pod("b", RUNNING, phase="Running")], b=[GONE])
        reader = await read(cluster, pod="b", follow=follow, ignore_errors=True)
        assert (reader.warnings, reader.text) == ([], b'error: pods "b" not found\n')


async def test_what_fails_for_a_moment_is_tried_again() -> None:
    """A log that is followed is asked for anew, and nothing stands between its lines."""
    running, ended = pod("b", RUNNING, phase="Running"), pod("b", {"terminated": {"exitCode": 0}})
    cluster = Cluster([running], [running], [ended], b=[DOWN, LINE, b""])
    reader = await read(cluster, pod="b", follow=True, ignore_errors=True)
    assert reader.text == b"text\n"
    assert reader.warnings == [f"pod/b/app: {DOWN.reason}"]


@pytest.mark.parametrize("first", [DOWN, LINE])
async def test_a_refusal_of_what_has_been_read(first: KubernetesError | bytes) -> None:
    """One pod's 400 of a moment ends nothing once its log was there, whatever was wrong at first."""
    starting = Invalid('400 container "app" in pod "a" is waiting to start: ContainerCreating')
    later = LINE.replace(b":00.", b":01.").replace(b"text", b"later")
    pods = [pod(name, RUNNING, phase="Running") for name in "ab"]
    cluster, reader = Cluster(pods, a=[first, LINE, starting, later], b=[b""]), Reader()
    asked = LogsRequested(session="", namespace="shop", selector="app=web", follow=True)
    following = asyncio.create_task(KubernetesLogs(cluster).read_logs(asked, reader))
    try:
        await until(lambda: following.done() or b"later" in reader.text)
        assert not following.done(), following.exception()
        assert reader.text == b"text\nlater\n"
    finally:
        following.cancel()
        await asyncio.wait([following])


async def test_half_a_line_before_an_error() -> None:
    """The error has a line of its own."""
    cluster = Cluster([pod(name, RUNNING, phase="Running") for name in "ab"], a=[LINE[:-1]], b=[GONE])
    reader = await read(cluster, selector="app=web", ignore_errors=True)
    assert reader.text == b'text\nerror: pods "b" not found\n'


def follows(count: int, **asked: Any) -> Callable[[], Any]:
    pods = [pod(f"web-{number}", RUNNING, phase="Running") for number in range(count)]
    return lambda: read(Cluster(pods), selector="app=web", follow=True, **asked)


async def test_so_many_at_once() -> None:
    """As many as are asked for, and 100 whatever is asked for."""
    with pytest.raises(LogsUnavailable, match=r"follow 4 log streams.* is 3, use --max-log-requests"):
        await follows(4, max_log_requests=3)()
    for asked in ({}, {"max_log_requests": 500}):
        with pytest.raises(LogsUnavailable, match=r"follow 101 log streams.* is 100$"):
            await follows(101, **asked)()
