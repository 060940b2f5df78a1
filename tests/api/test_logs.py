"""`GET /clusters/{id}/logs/…`: what kubectl shows, through api, broker and agent."""

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.agent.kubernetes.service import log_stream
from services.api.logs import session
from tests.logs.fixtures import LogPlane, LogSystem

pytestmark = pytest.mark.timeout(180)


async def test_the_log_of_a_pod(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """Without options it is what kubectl prints, as text."""
    namespace, [pod] = await log_plane.ready()
    pod.log().write("one", "two", "three")
    answer = await log_reading.get(namespace, pod.name)
    assert answer.status_code == 200, answer.text
    assert answer.content == b"one\ntwo\nthree\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == await asyncio.to_thread(log_plane.plane.kubectl, "-n", namespace, "logs", pod.name)


async def test_kubectls_options(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """tail, since, limitBytes, timestamps, prefix, previous and container mean what they mean there."""
    namespace, [pod] = await log_plane.ready(containers=("app", "sidecar"))
    now = datetime.now(UTC).replace(microsecond=0)
    pod.log().write("old", at=now - timedelta(hours=2))
    pod.log().write("one", "two", at=now)
    pod.log().write_previous("before")
    pod.log("sidecar").write("beside", at=now)

    async def read(**parameters: Any) -> str:
        answer = await log_reading.get(namespace, pod.name, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.text

    time = f"{now:%Y-%m-%dT%H:%M:%S}"
    assert await read(tail=1) == "two\n"
    assert await read(tail=0) == ""
    assert await read(since="1h") == "one\ntwo\n"
    assert await read(since=f"{time}Z") == "one\ntwo\n"
    assert await read(since="1h30m") == "one\ntwo\n"
    assert await read(since="0s") == "old\none\ntwo\n"
    assert await read(previous=True) == "before\n"
    assert await read(previous=True, follow=True, tail=1) == "before\n"  # it ends
    assert await read(tail=1, insecureSkipTLSVerifyBackend=True, ignoreErrors=True) == "two\n"
    assert await read(container="sidecar") == "beside\n"
    assert await read(tail=1, timestamps=True) == f"{time}.000000000Z two\n"
    assert await read(tail=1, prefix=True) == f"[pod/{pod.name}/app] two\n"
    assert await read(limitBytes=6) == "old\non"
    assert await read(allContainers=True, since="1h") == (
        f"[pod/{pod.name}/app] one\n[pod/{pod.name}/app] two\n[pod/{pod.name}/sidecar] beside\n"
    )
    answer = await log_reading.get(namespace, pod.name)
    assert answer.headers["warning"] == '299 - "defaulted container \\"app\\" out of: app, sidecar"'


async def test_a_log_is_followed_as_it_grows(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """What is there comes first, then each line as it is written; also where there is none yet."""
    namespace, [pod, silent] = await log_plane.ready(2)
    pod.log().write("one")
    async with (
        log_reading.follow(namespace, pod.name) as reader,
        log_reading.follow(namespace, silent.name, tail=0) as other,
    ):
        await reader.until(lambda reader: reader.lines == [b"one"])
        pod.log().write("two")
        await reader.until(lambda reader: reader.lines == [b"one", b"two"])
        await log_plane.reads(silent)
        silent.log().write("at last")
        await other.until(lambda reader: reader.lines == [b"at last"])


async def test_the_end_of_a_pod_ends_the_answer(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that vanishes while it is followed: all it has written, and a clean end."""
    monkeypatch.setattr(log_stream, "DRAIN", 5.0)
    namespace, [pod] = await log_plane.ready()
    pod.log().write("one")
    async with log_reading.follow(namespace, pod.name) as reader:
        await reader.until(lambda reader: reader.lines == [b"one"])
        pod.log().write("last words")
        await asyncio.to_thread(
            log_plane.plane.kubectl, "-n", namespace, "delete", "pod", pod.name, "--grace-period=0", "--force"
        )
        await reader.until(lambda reader: reader.ended)
        assert reader.lines == [b"one", b"last words"]
        assert reader.broken is None


async def test_the_end_of_a_pod_whose_reader_is_slow(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that ends is whole: what the pod had written comes, however late it is taken."""
    monkeypatch.setattr(log_stream, "DRAIN", 3.0)
    namespace, [pod] = await log_plane.ready()
    pod.log().write(*(f"{number:05} {'x' * 1000}" for number in range(20_000)))  # more than lies on the way
    async with log_reading.follow(namespace, pod.name) as reader:
        await reader.until(lambda reader: reader.data)
        reader.flowing.clear()
        await asyncio.to_thread(
            log_plane.plane.kubectl, "-n", namespace, "delete", "pod", pod.name, "--grace-period=0", "--force"
        )
        await asyncio.sleep(3 * log_stream.DRAIN)
        reader.flowing.set()
        await reader.until(lambda reader: reader.ended)
        assert reader.broken is None
        assert [int(line[:5]) for line in reader.lines] == list(range(20_000))


async def test_all_pods_of_a_workload(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """By labels, and by the workload's selector: pods that come are followed too, the others may go."""
    namespace, pods = await log_plane.ready(3)
    await asyncio.to_thread(
        log_plane.plane.kubectl, "-n", namespace, "create", "service", "clusterip", "web", "--tcp=80"
    )
    for number, pod in enumerate(pods):
        pod.log().write(f"line of {number}")
    expected = [f"[pod/{pod.name}/app] line of {number}".encode() for number, pod in enumerate(pods)]
    answer = await log_reading.get(namespace, "services", "web")
    assert answer.content.splitlines() == expected
    answer = await log_reading.get(namespace, labelSelector="app in (web)", prefix=False)
    assert answer.content.splitlines() == [b"line of 0", b"line of 1", b"line of 2"]
    async with log_reading.follow(namespace, "services", "web") as reader:
        await reader.until(lambda reader: sorted(reader.lines) == sorted(expected))
        [late] = await asyncio.to_thread(lambda: log_plane.pods(namespace, 1, labels={"app": "web"}))
        late.log().write("late")
        await reader.until(lambda reader: f"[pod/{late.name}/app] late".encode() in reader.lines)
        await asyncio.to_thread(
            log_plane.plane.kubectl, "-n", namespace, "delete", "pod", pods[0].name, "--force"
        )
        pods[1].log().write("still here")
        await reader.until(lambda reader: f"[pod/{pods[1].name}/app] still here".encode() in reader.lines)
        assert not reader.ended


async def test_what_cannot_be_read_is_a_problem(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """In the API server's own words where it has any."""
    namespace, [pod] = await log_plane.ready()

    async def problem(status: int, name: str, *parts: str, **parameters: Any) -> str:
        answer = await log_reading.get(*parts, **parameters)
        body = answer.json()
        assert (answer.status_code, body["type"]) == (status, f"urn:atlhyper:problem:{name}"), body
        assert body["next"]
        return str(body["detail"])

    assert "not found" in await problem(404, "unknown-object", namespace, "nobody")
    assert "not found" in await problem(404, "unknown-object", namespace, "deployments", "nobody")
    assert "it has app" in await problem(400, "no-logs", namespace, pod.name, container="other")
    assert "have" in await problem(400, "no-logs", namespace, "configmaps", "some")
    await problem(400, "invalid-parameter", namespace)
    await problem(400, "invalid-parameter", namespace, pod.name, podRunningTimeout="0s")
    too_long = await problem(400, "invalid-parameter", namespace, pod.name, podRunningTimeout="601s")
    assert "longer than 10m" in too_long
    assert (await log_reading.get(namespace, pod.name, podRunningTimeout="10m")).status_code == 200
    await problem(400, "invalid-parameter", namespace, pod.name, maxLogRequests=0)
    await problem(400, "invalid-parameter", namespace, pod.name, since="yesterday")
    await problem(400, "invalid-parameter", namespace, pod.name, resume="nonsense")
    await problem(400, "invalid-parameter", namespace, "Bad_Name")
    waiting = {"spec": {"nodeSelector": {"there": "none"}}}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waiting", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "none"}], **waiting["spec"]},
    }
    await asyncio.to_thread(lambda: log_plane.plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest)))
    told = await problem(400, "no-logs", namespace, "waiting", podRunningTimeout="1s")
    assert "is not on a node yet: Pending" in told


async def test_one_container_that_cannot_be_read(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """It ends the answer, which says why and is not taken for the whole; errors that are ignored do not."""
    namespace, pods = await log_plane.ready(3)
    first, second, third = pods
    for pod in pods:
        pod.log().write_previous("before")
    second.log().previous.unlink()  # kwok answers 400, as a kubelet does of a container that never restarted

    async with log_reading.follow(namespace, labelSelector="app=web", previous=True) as reader:
        await reader.until(lambda reader: reader.ended)
    assert reader.broken is not None
    assert reader.lines[0] == f"[pod/{first.name}/app] before".encode()
    assert reader.lines[1].startswith(f"error: pod/{second.name}/app: 400 failed to".encode())
    assert len(reader.lines) == 2

    answer = await log_reading.get(namespace, labelSelector="app=web", previous=True, ignoreErrors=True)
    before, error, after = answer.text.splitlines()
    assert (before, after) == (f"[pod/{first.name}/app] before", f"[pod/{third.name}/app] before")
    assert error.startswith("error: failed to")
    assert second.name in error

    answer = await log_reading.get(namespace, second.name, previous=True)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:atlhyper:problem:no-logs")
    answer = await log_reading.get(namespace, second.name, previous=True, ignoreErrors=True)
    assert (answer.status_code, answer.text) == (200, f"{error}\n")


async def test_one_container_that_cannot_be_followed(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """It is a problem before the first line; when errors are ignored a line, and the others go on."""
    namespace, pods = await log_plane.ready(2)
    first, second = pods
    first.log().write("one")
    second.log().path.unlink()
    answer = await log_reading.get(namespace, labelSelector="app=web", follow=True)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:atlhyper:problem:no-logs")
    assert second.name in answer.json()["detail"]
    async with log_reading.follow(namespace, labelSelector="app=web", ignoreErrors=True) as reader:
        await reader.until(lambda reader: len(reader.lines) == 2)
        assert any(line.startswith(b"error: failed to") for line in reader.lines)
        first.log().write("two")
        await reader.until(lambda reader: f"[pod/{first.name}/app] two".encode() in reader.lines)
        assert not reader.ended


async def test_so_many_are_followed_at_once(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """More than `maxLogRequests` are refused in kubectl's words; those that are read in turn are not."""
    namespace, pods = await log_plane.ready(2)
    for pod in pods:
        pod.log().write("one")
    answer = await log_reading.get(namespace, labelSelector="app=web", follow=True, maxLogRequests=1)
    assert answer.status_code == 400
    assert answer.json()["detail"] == (
        "you are attempting to follow 2 log streams, but maximum allowed concurrency is 1, "
        "use --max-log-requests to increase the limit"
    )
    answer = await log_reading.get(namespace, labelSelector="app=web", maxLogRequests=1, prefix=False)
    assert answer.text == "one\none\n"


async def test_a_pod_that_is_being_started_is_waited_for(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """It has no node at first; as soon as it runs its log comes."""
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = log_plane.names(namespace, 1)
    spec = {"nodeSelector": {"there": namespace}}
    await asyncio.to_thread(log_plane.create, [pod], **spec)
    pod.log().write("at last")
    asking = asyncio.create_task(log_reading.get(namespace, pod.name, podRunningTimeout="1m30s"))
    await asyncio.sleep(1)
    assert not asking.done()
    kubectl = log_plane.plane.kubectl
    await asyncio.to_thread(kubectl, "label", "node", "--all", f"there={namespace}", "--overwrite")
    answer = await asking
    assert (answer.status_code, answer.text) == (200, "at last\n")


async def test_an_agent_that_does_not_answer(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the answer is a problem that says so."""
    monkeypatch.setattr(session, "ANSWER", 1.5)
    await log_reading.stop_agent()
    answer = await log_reading.get("default", "web-0")
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:atlhyper:problem:no-answer")
    log_reading.start_agent()


async def test_lines_are_bytes(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """Binary content, a line of 10 MB and one without its end arrive as they were written."""
    namespace, [pod] = await log_plane.ready()
    binary = bytes(byte for byte in range(256) if byte != 0x0A)
    long = secrets.token_bytes(10_000_000).replace(b"\n", b" ")
    pieces = [long[at : at + 16_384] for at in range(0, len(long), 16_384)]
    pod.log().write(binary)
    pod.log().write(*pieces[:-1], tag="P")  # as a container runtime writes it
    pod.log().write(pieces[-1])
    pod.log().write("after")
    pod.log().write("no end", tag="P")
    answer = await log_reading.get(namespace, pod.name)
    assert answer.content == binary + b"\n" + long + b"\nafter\nno end"
