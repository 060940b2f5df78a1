"""One example of each answer, for the OpenAPI document. Without nulls: Litestar leaves them out."""

from datetime import UTC, datetime
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import Struct, to_builtins

from schemas.kubernetes import KINDS
from schemas.snapshot import ClusterSummary, Workloads
from services.api import fleet_models, models

_TIME = datetime(2026, 11, 21, 8, tzinfo=UTC)
_POSITION = "v1." + "-".join(["0"] * 11 + ["2fa"] + ["0"] * 4)
_ETAG = 'W/"9d1c0e5f7a3b2c4d6e8f0a1b"'
_TOKEN = "WyIzYTRiMDJkMzA1ZDlhMDE4Iiwic2hvcCIsIndlYi0wIl0"  # noqa: S105 - where a page ends, no secret

_PODS = models.CollectionStatus(
    resource="pods", state="synced", objects=5000, relists=1, last_event_at=_TIME, synced_at=_TIME
)
_SECRETS = models.CollectionStatus(
    resource="secrets", state="forbidden", reason='secrets is forbidden: User "agent" cannot list them'
)
AGENT = models.Agent(
    kind="kubernetes",
    id="prod-eu",
    state="live",
    version=48213,
    as_of=_TIME,
    last_seen=_TIME,
    agent_version="0.1.0",
    platform="v1.36.3",
    instance="0d9a4b7e-6f0c-4c8e-9a51-2f8f6d1f7a10",
    epoch="019a9d2e-7a00-7000-8000-000000000001",
    read_only=True,
    capabilities=["observe:pods"],
    labels={"env": "prod"},
    health=models.AgentHealth(healthy=True, status="running", start_time=_TIME),
    in_sync=True,
    resync_reason="",
    collection=[_PODS, _SECRETS],
    summary=ClusterSummary(
        nodes={"Ready": 3},
        pods={"Running": 4998, "CrashLoopBackOff": 2},
        workloads={"deployments": Workloads(count=40, desired=120, ready=118)},
        events={"Normal": 310, "Warning": 12},
    ),
)
_CLOCK = models.Clock(as_of=_TIME, continuous_since=_TIME)
AGENTS = models.AgentList(items=[AGENT], clock=_CLOCK, as_of=_TIME)
_CORDON = {"type": "object", "properties": {}, "additionalProperties": False}
ONE_AGENT = to_builtins(AGENT) | {"actions": {"cordon": _CORDON}, "clock": to_builtins(_CLOCK)}

_ROW: dict[str, Any] = {
    "cluster": "prod-eu",
    "kind": "Pod",
    "name": "web-0",
    "namespace": "shop",
    "uid": "5a1f8c0e-1b7e-4a55-8a0e-3d8f0f0c9b21",
    "node": "node-1",
    "owner": "StatefulSet/web",
    "created_at": "2026-11-21T07:56:48Z",
    "ready": "1/1",
    "status": "Running",
    "restarts": 0,
    "ip": "10.0.0.17",
    "nominated_node": "",
    "readiness_gates": "",
}
RESOURCES = {
    "items": [_ROW],
    "continue": _TOKEN,
    "remaining": 4999,
    "as_of": "2026-11-21T08:00:00Z",
    "position": _POSITION,
    "collection": to_builtins(_PODS),
}
_LOST = fleet_models.ClusterCollection(
    cluster="prod-us", agent="lost", state="synced", reason="its agent is lost", as_of=_TIME
)
FLEET = {
    "items": [_ROW],
    "continue": _TOKEN,
    "remaining": 99999,
    "as_of": "2026-11-21T08:00:00Z",
    "position": _POSITION,
    "collections": [to_builtins(_LOST)],
    "incomplete": 1,
}
SUMMARY = fleet_models.Summary(
    items=[
        fleet_models.Group(count=4998, desired=5100, ready=5100, cluster="prod-eu", state="Running"),
        fleet_models.Group(count=2, desired=2, ready=0, cluster="prod-eu", state="CrashLoopBackOff"),
    ],
    remaining=0,
    as_of=_TIME,
    position=_POSITION,
    collections=[_LOST],
    incomplete=1,
)
OBJECT = _ROW | {
    "object": {"metadata": {"name": "web-0", "namespace": "shop"}, "status": {"phase": "Running"}},
    "updated_at": "2026-11-21T07:57:03Z",
    "as_of": "2026-11-21T08:00:00Z",
}

_EVENT = models.Event(
    cluster_id="prod-eu",
    uid="b0c2a5de-7d34-4a0e-93c6-0a4a6f7b1d55",
    namespace="shop",
    name="web-0.17c2f1",
    type="Warning",
    reason="BackOff",
    message="Back-off restarting failed container",
    count=4,
    first_seen=_TIME,
    last_seen=_TIME,
    involved=models.Involved(kind="Pod", namespace="shop", name="web-0", uid=_ROW["uid"]),
    component="kubelet",
    host="node-1",
)
EVENTS = fleet_models.EventList(
    items=[_EVENT],
    continue_=_TOKEN,
    remaining=321,
    as_of=_TIME,
    position=_POSITION,
    collections=[],
    incomplete=0,
)
EVENT = to_builtins(_EVENT) | {
    "object": {"metadata": {"name": "web-0.17c2f1", "namespace": "shop"}, "reason": "BackOff", "count": 4},
    "as_of": "2026-11-21T08:00:00Z",
}

SNAPSHOT: dict[str, Any] = {
    "cluster_id": "prod-eu",
    "version": AGENT.version,
    "fetched_at": "2026-11-21T08:00:00Z",
    "as_of": "2026-11-21T08:00:00Z",
    "position": _POSITION,
    "collection": to_builtins(AGENT.collection),
    "summary": to_builtins(AGENT.summary),
    **{resource: [] for resource in KINDS},
    "pods": [OBJECT["object"]],
    "events": [EVENT["object"]],
    "generic": {"certificates.cert-manager.io": [{"metadata": {"name": "web", "namespace": "shop"}}]},
}

_DEAD_LETTER = models.DeadLetter(
    id="17-1795248000000000",
    received_at=_TIME,
    sender="/atlhyper/core/master/master@core-1",
    reason="event type 'io.example.unknown.v1' is not known to this version",
    consumer="master",
    subject="atlhyper.up.kubernetes.prod-eu.heartbeat",
    stream="ATLHYPER_HEARTBEATS",
    stream_sequence=4711,
    original_at=_TIME,
    headers={"ce-type": "io.example.unknown.v1"},
)
DEAD_LETTERS = models.DeadLetterList(items=[_DEAD_LETTER], continue_=_TOKEN, remaining=2, as_of=_TIME)
DEAD_LETTER = to_builtins(_DEAD_LETTER) | {"body": "e30="}


_COMMAND: dict[str, Any] = {
    "id": "019a9d2e-7a00-7000-8000-0000000000c1",
    "target": {"kind": "kubernetes", "id": "prod-eu"},
    "cluster_id": "prod-eu",
    "action": "scale",
    "object": {"resource": "deployments", "namespace": "shop", "name": "web", "uid": ""},
    "params": {"replicas": 3},
    "dry_run": False,
    "actor": "token/laptop",
    "created_at": "2026-11-21T08:00:00Z",
    "start_by": "2026-11-21T08:05:00Z",
    "finish_by": "2026-11-21T08:07:00Z",
    "state": "accepted",
    "attempts": 0,
    "warnings": [],
    "cancel_reason": "",
    "note": "",
}
ACCEPTED_COMMAND = _COMMAND | {"note": "its agent is lost; it waits until 2026-11-21T08:05:00Z"}
_ENDED_COMMAND = _COMMAND | {
    "state": "succeeded",
    "sent_at": "2026-11-21T08:00:00.004Z",
    "received_at": "2026-11-21T08:00:00.006Z",
    "started_at": "2026-11-21T08:00:00.009Z",
    "executed_at": "2026-11-21T08:00:00.019Z",
    "finished_at": "2026-11-21T08:00:00.024Z",
    "attempts": 1,
    "success": True,
}
COMMAND = _ENDED_COMMAND | {"data": {"replicas": 3}}
COMMANDS = {"items": [_ENDED_COMMAND], "continue": _TOKEN}

_LIVE_OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-0", "namespace": "shop", "resourceVersion": "4711"},
    "status": {"phase": "Running"},
}
LIVE = {
    "object": _LIVE_OBJECT,
    "read_at": "2026-11-21T08:00:00.019Z",
    "age": 0.004,
    "command_id": _COMMAND["id"],
}
LIVE_YAML = """\
# kubernetes/prod-eu, 2026-11-21T08:00:00Z, 0.004s ago, command 019a9d2e-7a00-7000-8000-0000000000c1
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  resourceVersion: '4711'
status:
  phase: Running
"""

_OPERATION: dict[str, Any] = {
    "id": "019a9d2e-7a00-7000-8000-0000000000d1",
    "action": "restart",
    "object": {"resource": "deployments", "namespace": "shop", "name": "web", "uid": ""},
    "params": {},
    "dry_run": False,
    "strategy": {"max_unavailable": 1, "max_failures": 0, "timeout": 600.0},
    "actor": "token/laptop",
    "created_at": "2026-11-21T08:00:00Z",
    "state": "running",
    "reason": "",
    "updated_at": "2026-11-21T08:00:00Z",
    "counts": {"waiting": 1, "succeeded": 1},
}
OPERATIONS = {"items": [_OPERATION], "continue": _TOKEN}
OPERATION = _OPERATION | {
    "targets": [
        {
            "target": {"kind": "kubernetes", "id": "prod-eu"},
            "command_id": _COMMAND["id"],
            "state": "succeeded",
            "started_at": "2026-11-21T08:00:00.004Z",
            "finished_at": "2026-11-21T08:00:00.024Z",
            "error": None,
        },
        {
            "target": {"kind": "kubernetes", "id": "prod-us"},
            "command_id": None,
            "state": None,
            "started_at": None,
            "finished_at": None,
            "error": None,
        },
    ]
}

_KEY = {"agent_kind": "kubernetes", "cluster": "prod-eu", "resource": "pods", "namespace": "shop"}
_GONE: dict[str, Any] = _KEY | {"name": "web-0", "uid": _ROW["uid"], "rev": 762}
WATCH: dict[str, Any] = {
    "put": _GONE | {"item": _ROW},
    "delete": _GONE,
    "synced": {"as_of": "2026-11-21T08:00:00Z"},
    "resync": {"reason": "your position is older than the removals that are still known"},
    "bye": {"reason": "this replica of the api is stopping; continue on another"},
}
"""The data of each kind of message."""


LOGS = "[pod/web-0/app] 2026-11-21T08:00:00.123456789Z listening on :8080\n"

PARAMETERS: dict[str, Any] = {
    "id": "prod-eu",
    "kind": "kubernetes",
    "cluster": "prod-eu",
    "resource": "pods",
    "namespace": "shop",
    "name": "web-0",
    "uid": _EVENT.uid,
    "limit": 500,
    "continue": _TOKEN,
    "view": "full",
    "type": "Warning",
    "reason": "BackOff",
    "since": "2026-11-21T07:00:00Z",
    "until": "2026-11-21T08:00:00Z",
    "q": "back-off",
    "labelSelector": "app=web,tier in (front,back),!canary",
    "fieldSelector": "metadata.namespace=shop,metadata.name!=web-0",
    "owner": "Deployment/web",
    "node": "node-1",
    "sort": "-name",
    "initial": True,
    "Last-Event-ID": _POSITION,
    "lastEventId": _POSITION,
    "If-None-Match": _ETAG,
    "verbose": "",
    "depth": 2,
    "pod": "web-0",
    "allContainers": True,
    "follow": True,
    "previous": True,
    "tail": 100,
    "limitBytes": 1_000_000,
    "ignoreErrors": True,
    "maxLogRequests": 20,
    "podRunningTimeout": "20s",
    "insecureSkipTLSVerifyBackend": False,
    "timestamps": True,
    "prefix": True,
    "wait": "10s",
    "format": "yaml",
    "action": "scale",
    "actor": "token/laptop",
    "operation": "019a9d2e-7a00-7000-8000-0000000000d1",
    "Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}
"""An example of each parameter, by its name; one that means something else elsewhere has its own there."""


def answer(shape: type[Struct], description: str, example: Any, status: int = 200) -> dict[int, ResponseSpec]:
    """What OpenAPI says of an operation that goes well."""
    examples = [Example(value=to_builtins(example, builtin_types=()))]
    return {status: ResponseSpec(shape, description=description, generate_examples=False, examples=examples)}


def text(description: str, example: str, media_type: str = "text/plain") -> dict[int, ResponseSpec]:
    """What OpenAPI says of an operation's 200 that is text."""
    examples = [Example(value=example)]
    spec = ResponseSpec(
        str, description=description, media_type=media_type, generate_examples=False, examples=examples
    )
    return {200: spec}


def stream(shape: Any, description: str, data: dict[str, Any]) -> dict[int, ResponseSpec]:
    """What OpenAPI says of a 200 that is a stream: one message of each kind."""
    examples = [
        Example(summary=event, value={"event": event, "id": _POSITION, "data": some})
        for event, some in data.items()
    ]
    return {
        200: ResponseSpec(
            shape,
            description=description,
            media_type="text/event-stream",
            generate_examples=False,
            examples=examples,
        )
    }
