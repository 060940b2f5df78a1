"""What a watch or a list may answer: told within ten seconds, nobody else concerned, and over by itself."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from schemas.frames import Phase
from schemas.presence import CollectionState
from services.agent.kubernetes.repository.resources import CONFIRM_TIMEOUT, WATCH_GRACE
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.fixtures import Heard, RunAgent
from tests.agent.proxy import Cut, Fault, FaultProxy

pytestmark = pytest.mark.alone

TOLD = 10.0
FUTURE = "999999999999"


def status(code: int, message: str = "", **headers: str) -> Callable[[web.Request], web.Response]:
    """An answer as an API server words it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return lambda _: web.json_response(
        body, status=code, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def page(_: web.Request) -> web.Response:
    """What a captive portal says to everything."""
    return web.Response(text="<html>Please log in</html>", content_type="text/html")


def event(type_: str, obj: object) -> Callable[[bytes], bytes]:
    """Another event instead of the real one."""
    return lambda _: json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def half(line: bytes) -> bytes:
    """The line is cut, and so is the watch."""
    raise Cut(line[: len(line) // 2])


def from_the_future(line: bytes) -> bytes:
    """The object's version is one that the server will not reach for years; then the watch ends."""
    changed = json.loads(line)
    changed["object"]["metadata"]["resourceVersion"] = FUTURE
    raise Cut(json.dumps(changed).encode() + b"\n")


def without_metadata(line: bytes) -> bytes:
    """The object has lost its metadata."""
    changed = json.loads(line)
    return json.dumps(changed | {"object": changed["object"] | {"metadata": {}}}).encode() + b"\n"


def nested(_: bytes) -> bytes:
    """JSON deeper than any reader goes."""
    return b'{"type":"ADDED","object":{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}}\n"


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (2)"}
BUSY = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcdserver: leader changed"}
CONFIGMAPS = "configmaps"

FAULTS = {
    "garbage": (Fault(CONFIGMAPS, lines=lambda _: b"\x00\xff<garbage>\n"), "can't be read"),
    "truncated JSON": (Fault(CONFIGMAPS, lines=lambda line: line[:40] + b"\n"), "can't be read"),
    "a cut line": (Fault(CONFIGMAPS, lines=half), "inside of an event"),
    "an empty object": (Fault(CONFIGMAPS, lines=lambda _: b"{}\n"), "can't be read"),
    "no object": (Fault(CONFIGMAPS, lines=event("ADDED", None)), "can't be read"),
    "an unknown type": (Fault(CONFIGMAPS, lines=event("RENAMED", {})), "can't be read"),
    "nesting without end": (Fault(CONFIGMAPS, lines=nested), "can't be read"),
    "a line without end": (Fault(CONFIGMAPS, lines=lambda _: b"x" * (17 * 2**20)), "can't be read"),
    "no metadata": (Fault(CONFIGMAPS, lines=without_metadata), "no name in its metadata"),
    "a version from the future": (
        Fault(CONFIGMAPS, lines=from_the_future, on_watch=True),
        "Too large resource version",
    ),
    "410 inside a watch": (Fault(CONFIGMAPS, lines=event("ERROR", GONE)), "410 too old resource version"),
    "500 inside a watch": (Fault(CONFIGMAPS, lines=event("ERROR", BUSY)), "leader changed"),
    "410 for a watch": (Fault(CONFIGMAPS, answer=status(410, "gone"), on_watch=True), "410 gone"),
    "410 for lists": (Fault(CONFIGMAPS, answer=status(410, "gone")), "410 gone"),
    "429": (Fault(CONFIGMAPS, answer=status(429, "slow down", Retry_After="1")), "429 slow down"),
    "503": (Fault(CONFIGMAPS, answer=status(503, "not now", Retry_After="86400")), "503 not now"),
    "a proxy's page": (Fault(CONFIGMAPS, answer=page), "can't be read"),
    "a proxy's 404": (Fault(CONFIGMAPS, answer=status(404, "nothing here")), "404 nothing here"),
}


SLOW_LISTS = Fault(CONFIGMAPS, on_watch=False, pause=1.0)
"""A list that succeeds ends what is told: so that a heartbeat, twice a second, meets it before."""
SLOW_DISCOVERY = Fault("v1", pause=1.0)
"""The same: who is told 404 asks whether there is such a resource, and if so begins anew."""


@pytest.mark.parametrize("name", FAULTS)
async def test_told_and_survived(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason is in a heartbeat within ten seconds, other kinds stay synced, and it ends by itself."""
    monkeypatch.setattr("services.agent.kubernetes.sdk.answers.MAX_RETRY_AFTER", 3.0)
    fault, reason = FAULTS[name]
    fault.done = 0

    def told(heard: Heard) -> str:
        found = [i.reason for beat in heard.heartbeats for i in beat.collection if i.resource == CONFIGMAPS]
        return next((text for text in found if reason in text), "")

    def now(heard: Heard) -> dict[str, tuple[str, str]]:
        return {i.resource: (i.state, i.reason) for i in heard.heartbeats[-1].collection}

    async def create(name: str) -> None:
        await asyncio.to_thread(control_plane.kubectl, "create", "configmap", name, "-n", namespace)

    async with (
        FaultProxy(control_plane, tmp_path) as proxy,
        run_agent(
            AGENT_KUBECONFIG=str(proxy.kubeconfig),
            AGENT_NAMESPACES=namespace,
            AGENT_HEARTBEAT_INTERVAL="500ms",
            AGENT_TIMEOUT_WATCH="2s",
        ) as heard,
    ):
        await heard.until(lambda h: h.heartbeats and set(now(h).values()) == {(CollectionState.SYNCED, "")})
        seen = len(heard.heartbeats)
        proxy.add(fault)
        proxy.add(SLOW_DISCOVERY)
        if fault.on_watch:
            proxy.add(SLOW_LISTS)
        await create("during")
        await heard.until(told, TOLD)
        proxy.faults.clear()
        await create("after")
        both = {(namespace, "during"), (namespace, "after")}
        await heard.until(lambda h: both <= set(h.objects(CONFIGMAPS)))
        await heard.until(lambda h: now(h)[CONFIGMAPS] == (CollectionState.SYNCED, ""))
        assert len(heard.phases(Phase.BEGIN)) == 1
    assert fault.done
    others = {
        (item.resource, item.state)
        for beat in heard.heartbeats[seen:]
        for item in beat.collection
        if item.resource != CONFIGMAPS
    }
    assert {state for _, state in others} == {CollectionState.SYNCED}


async def test_an_object_that_stays_unreadable(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """One object without metadata in each list is left out and named; the others are there."""
    for name in ("good", "bad"):
        control_plane.kubectl("create", "configmap", name, "-n", namespace)

    def spoil(line: bytes) -> bytes:
        return without_metadata(line) if b'"name":"bad"' in line else line

    async with FaultProxy(control_plane, tmp_path) as proxy:
        fault = proxy.add(Fault(CONFIGMAPS, lines=spoil))
        async with run_agent(AGENT_KUBECONFIG=str(proxy.kubeconfig), AGENT_NAMESPACES=namespace) as heard:
            await heard.until(lambda _: fault.done)
            told = await heard.until(
                lambda h: [
                    item.reason
                    for beat in h.heartbeats
                    for item in beat.collection
                    if item.resource == CONFIGMAPS and "can't be read" in item.reason
                ],
                TOLD,
            )
            await heard.until(lambda h: CONFIGMAPS in h.synced())
            assert (namespace, "good") in heard.objects(CONFIGMAPS)
            assert (namespace, "bad") not in heard.objects(CONFIGMAPS)
            proxy.faults.clear()
            await heard.until(lambda h: (namespace, "bad") in h.objects(CONFIGMAPS))
    assert "no name in its metadata" in told[0]


async def test_a_network_that_goes_silent(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Half-open connections are told as failing in the time the settings give, and replaced afterwards."""
    async with (
        FaultProxy(control_plane, tmp_path) as proxy,
        run_agent(
            AGENT_KUBECONFIG=str(proxy.kubeconfig),
            AGENT_NAMESPACES=namespace,
            AGENT_HEARTBEAT_INTERVAL="500ms",
            AGENT_TIMEOUT_WATCH="3s",
        ) as heard,
    ):
        await heard.until(
            lambda h: (
                h.heartbeats
                and {item.state for item in h.heartbeats[-1].collection} == {CollectionState.SYNCED}
            )
        )
        proxy.freeze()
        await heard.until(
            lambda h: (
                {item.state for item in h.heartbeats[-1].collection} == {CollectionState.FAILING}
                and "sent nothing for" in h.heartbeats[-1].collection[0].reason
            ),
            max(3 + WATCH_GRACE, CONFIRM_TIMEOUT) + 15,  # the default is beyond
        )
        await asyncio.to_thread(control_plane.kubectl, "create", "configmap", "unseen", "-n", namespace)
        proxy.thaw()
        await heard.until(lambda h: (namespace, "unseen") in h.objects(CONFIGMAPS))
        await heard.until(
            lambda h: {item.state for item in h.heartbeats[-1].collection} == {CollectionState.SYNCED}
        )


async def test_a_quiet_watch_is_no_failure(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """TIMEOUT_WATCH is how long the server is asked to keep a watch; it's resumed, not listed again."""
    async with (
        FaultProxy(control_plane, tmp_path) as proxy,
        run_agent(
            AGENT_KUBECONFIG=str(proxy.kubeconfig),
            AGENT_NAMESPACES=namespace,
            AGENT_HEARTBEAT_INTERVAL="500ms",
            AGENT_TIMEOUT_WATCH="2s",
        ) as heard,
    ):

        def watches(_: Heard) -> bool:
            asked = [r for r in proxy.requests if r.path.endswith("/services") and "watch" in r.query]
            return len([r for r in asked if r.query["timeoutSeconds"] == "2"]) >= 4

        await heard.until(watches)
        told = {
            (item.state, item.relists)
            for beat in heard.heartbeats
            for item in beat.collection
            if item.resource == "services"
        }
    assert told <= {(CollectionState.LISTING, 0), (CollectionState.LISTING, 1), (CollectionState.SYNCED, 1)}
