"""One complete message of each event type, with fixed ids and times."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas import registry, subjects
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandError,
    CommandObject,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    CommandState,
    ResultPart,
    TargetReference,
)
from schemas.control import (
    CancelRequested,
    CommandsChanged,
    Confirmed,
    Nudge,
    ResultsConfirmed,
    Resync,
    Superseded,
)
from schemas.deadletter import DeadLetter
from schemas.envelope import Envelope, sequence_text
from schemas.frames import Delete, Frame, Phase, Put, ResourceDigest, Scope
from schemas.ids import AgentKind, kubernetes
from schemas.kubernetes.base import ObjectMeta
from schemas.kubernetes.event import EventSource, KubernetesEvent, ObjectReference
from schemas.logs import LogError, LogPiece, LogPosition, LogsPublished, LogsRequested, LogsTaken
from schemas.presence import Collection, CollectionState, Health, Heartbeat, ServiceHeartbeat
from schemas.snapshot import ClusterSummary, Workloads

TIME = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
EPOCH = "019a9d2e-7a00-7000-8000-000000000001"
CLUSTER = kubernetes("local")
AGENT = subjects.agent_source(CLUSTER)
API = subjects.service_source("api", "a-1")
MASTER = subjects.service_source("master", "m-1")


def message(
    event_type: registry.EventType[Any],
    body: Any,
    source: str,
    *,
    subject: str | None = None,
    **extensions: str,
) -> Envelope:
    """An envelope whose id depends on the type alone."""
    number = list(registry.ALL).index(event_type.name)
    return Envelope(
        type=event_type.name,
        source=source,
        data=event_type.encode(body),
        id=f"019a9d2e-7a00-7000-8000-{number:012d}",
        time=TIME,
        subject=subject,
        extensions=extensions,
    )


FRAME = Frame(
    epoch=EPOCH,
    sequence=7,
    phase=Phase.DATA,
    instance="0d9a4b7e-0000-4000-8000-000000000000",
    scope=Scope(resources=["pods"], namespaces=["shop"]),
    items=[
        Put(resource="pods", namespace="shop", name="web-0", uid="u-1", body=msgspec.Raw(b'{"metadata":{}}')),
        Delete(resource="pods", namespace="shop", name="web-1", uid="u-2"),
    ],
    synced=["pods"],
    digest={"pods": ResourceDigest(count=1, sum=17_592_186_044_415)},
    summary=ClusterSummary(
        nodes={"Ready": 3},
        pods={"Running": 1},
        workloads={"deployments": Workloads(count=1, desired=1, ready=1)},
        events={"Normal": 2},
    ),
)

COMMAND_ID = "019a9d2e-7a00-7000-8000-0000000000c1"
JOURNAL = "019a9d2e-7a00-7000-8000-0000000000f1"
COMMAND = Command(
    id=COMMAND_ID,
    target=TargetReference(kind=AgentKind.KUBERNETES, id="local"),
    instance="0d9a4b7e-0000-4000-8000-000000000000",
    action="scale",
    object=CommandObject(resource="deployments", namespace="shop", name="web"),
    params={"replicas": 3},
    created_at=TIME,
    start_by=TIME + timedelta(minutes=5),
    finish_by=TIME + timedelta(minutes=10),
    actor="token/cli",
)

SESSION = "0f3b9a1c5d7e2468ace013579bdf0246"
POSITION = LogPosition(
    pod="web-0",
    container="app",
    since="2026-11-21T08:29:59",
    lines=17,
    last="2026-11-21T08:30:00.123456789",
    total=512,
)

MESSAGES: dict[str, tuple[str, Envelope]] = {
    envelope.type: (subject, envelope)
    for subject, envelope in (
        (
            subjects.snapshot(CLUSTER),
            message(
                registry.FRAME_PUBLISHED,
                FRAME,
                AGENT,
                subject="data",
                epoch=EPOCH,
                sequence=sequence_text(7),
            ),
        ),
        (
            subjects.event(CLUSTER, "shop", "Pod"),
            message(
                registry.EVENT_OBSERVED,
                KubernetesEvent(
                    metadata=ObjectMeta(
                        name="web-0.17a", namespace="shop", uid="u-9", creation_timestamp=TIME
                    ),
                    involved_object=ObjectReference(kind="Pod", namespace="shop", name="web-0", uid="u-1"),
                    type="Warning",
                    reason="BackOff",
                    message="Back-off restarting failed container",
                    count=4,
                    first_timestamp=TIME,
                    last_timestamp=TIME,
                    source=EventSource(component="kubelet", host="node-1"),
                ),
                AGENT,
                epoch=EPOCH,
                sequence=sequence_text(1),
            ),
        ),
        (
            subjects.heartbeat(CLUSTER),
            message(
                registry.HEARTBEAT_SENT,
                Heartbeat(
                    version="0.1.0",
                    instance="0d9a4b7e-0000-4000-8000-000000000000",
                    platform="v1.36.3",
                    epoch=EPOCH,
                    interval=15,
                    capabilities=["observe:pods", "act:cordon"],
                    actions={"cordon": {"type": "object", "additionalProperties": False}},
                    health=Health(healthy=True, status="running", start_time=TIME),
                    collection=[
                        Collection(
                            resource="pods",
                            state=CollectionState.SYNCED,
                            objects=1,
                            relists=1,
                            last_event_at=TIME,
                        )
                    ],
                    counters={"frames_published": 7},
                ),
                AGENT,
            ),
        ),
        (
            subjects.service_heartbeat("master", "m-1"),
            message(
                registry.SERVICE_HEARTBEAT_SENT,
                ServiceHeartbeat(
                    version="0.1.0",
                    interval=5,
                    health=Health(healthy=True, status="running", start_time=TIME),
                ),
                MASTER,
            ),
        ),
        (
            subjects.service_dead("master"),
            message(
                registry.MESSAGE_REJECTED,
                DeadLetter(
                    reason="not a CloudEvent: no header ce-id",
                    consumer="master",
                    subject=subjects.snapshot(CLUSTER),
                    stream="ATLHYPER_SNAPSHOTS",
                    stream_sequence=12,
                    received_at=TIME,
                    headers={"Nats-Msg-Id": "x"},
                    body=b"bm90IGpzb24=",
                ),
                MASTER,
            ),
        ),
        (
            subjects.dead(CLUSTER),
            message(
                registry.AGENT_MESSAGE_REJECTED,
                DeadLetter(
                    reason="event type 'x' does not belong here",
                    consumer="agent",
                    subject=subjects.control(CLUSTER, "resync"),
                    body=b"e30=",
                ),
                AGENT,
            ),
        ),
        (
            subjects.control(CLUSTER, "resync"),
            message(registry.RESYNC_REQUESTED, Resync(epoch=EPOCH, reason="sequence 5 is missing"), MASTER),
        ),
        (
            subjects.control(CLUSTER, "superseded"),
            message(registry.EPOCH_SUPERSEDED, Superseded(epoch=EPOCH, by="another"), MASTER),
        ),
        (
            subjects.control(CLUSTER, "confirmed"),
            message(registry.EVENTS_CONFIRMED, Confirmed(epoch=EPOCH, sequence=41), MASTER),
        ),
        (subjects.nudge(3), message(registry.ROWS_CHANGED, Nudge(shard=3, rev=9), MASTER)),
        (
            subjects.command(CLUSTER, "scale"),
            message(
                registry.COMMAND_SENT,
                COMMAND,
                MASTER,
                journal=JOURNAL,
                expirytime="2026-11-21T08:35:00Z",
            ),
        ),
        *(
            (subjects.result(CLUSTER, COMMAND_ID), message(event_type, body, AGENT))
            for event_type, body in (
                (
                    registry.COMMAND_RECEIVED,
                    CommandReceived(command_id=COMMAND_ID, journal=JOURNAL, at=TIME),
                ),
                (registry.COMMAND_STARTED, CommandStarted(command_id=COMMAND_ID, at=TIME)),
                (
                    registry.COMMAND_PROGRESSED,
                    CommandProgressed(
                        command_id=COMMAND_ID,
                        sequence=1,
                        at=TIME,
                        message="evicted shop/web-0",
                        done=1,
                        total=4,
                    ),
                ),
                (
                    registry.PART_PUBLISHED,
                    ResultPart(command_id=COMMAND_ID, index=0, count=2, data='{"items":['),
                ),
                (
                    registry.COMMAND_COMPLETED,
                    CommandCompleted(
                        command_id=COMMAND_ID,
                        state=CommandState.FAILED,
                        success=False,
                        error=CommandError(
                            code="not_found",
                            message='404 deployments.apps "web" not found',
                            status=404,
                            reason="NotFound",
                        ),
                        executed_at=TIME,
                    ),
                ),
            )
        ),
        (
            subjects.control(CLUSTER, "results"),
            message(registry.RESULTS_CONFIRMED, ResultsConfirmed(command_ids=[COMMAND_ID]), MASTER),
        ),
        (
            subjects.control(CLUSTER, "cancel"),
            message(
                registry.CANCEL_REQUESTED,
                CancelRequested(command_id=COMMAND_ID, reason="asked for by token/cli"),
                MASTER,
            ),
        ),
        (
            subjects.COMMANDS_CHANGED,
            message(registry.COMMANDS_CHANGED, CommandsChanged(command_ids=[COMMAND_ID]), MASTER),
        ),
        (
            subjects.control(CLUSTER, "logs"),
            message(
                registry.LOGS_REQUESTED,
                LogsRequested(
                    session=SESSION,
                    run=2,
                    namespace="shop",
                    resource="deployments",
                    name="web",
                    containers=["app"],
                    follow=True,
                    timestamps=True,
                    prefix=True,
                    ignore_errors=True,
                    max_log_requests=20,
                    pod_running_timeout=60.0,
                    skip_tls_verify_backend=True,
                    positions=[POSITION],
                ),
                API,
            ),
        ),
        (
            subjects.call(CLUSTER, "logs", SESSION),
            message(
                registry.LOGS_PUBLISHED,
                LogsPublished(
                    session=SESSION,
                    run=2,
                    sequence=3,
                    opened=True,
                    pieces=[LogPiece(data=b"[pod/web-0/app] listening\n", position=POSITION)],
                    ended=True,
                    error=LogError(code="failed", message="500 kubelet is not there"),
                ),
                AGENT,
            ),
        ),
        (
            subjects.call(CLUSTER, "logs", SESSION),
            message(registry.LOGS_TAKEN, LogsTaken(sequence=4, credit=262_144), API),
        ),
    )
}
"""Subject and envelope of one message per event type."""
