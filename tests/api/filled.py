"""A database with something of everything, for requests that nobody has thought of."""

import base64
import json
from datetime import timedelta

from schemas.commands import Command, CommandObject, CommandState, TargetReference
from schemas.deadletter import DeadLetter
from schemas.ids import AgentKind
from schemas.kubernetes import KINDS
from schemas.kubernetes.base import KubeObject, OwnerReference
from services.persistence import dead_letters
from services.persistence.commands.accept import accept
from services.persistence.commands.states import advance
from services.persistence.database.engine import Database
from services.persistence.dead_letters import ReceivedDeadLetter
from tests.api.commanding import announce, end
from tests.api.fixtures import NOW, Fleet, meta
from tests.unit.kubernetes.samples import SAMPLES

CLUSTERS = ("prod-eu", "prod-us", "staging")
LOST_AT = NOW - timedelta(hours=2)


async def fill(database: Database) -> None:
    """Every kind in three clusters; of `staging` nothing was heard for hours, `prod-us` has a rival."""
    fleet = Fleet(database)
    await fleet.beats()
    for cluster in CLUSTERS:
        time = LOST_AT if cluster == "staging" else NOW
        epoch = await fleet.state(
            cluster,
            {resource: [_some(resource, n) for n in range(3)] for resource in KINDS if resource != "events"},
            time=time,
        )
        collection = dict.fromkeys(KINDS, ("synced", "")) | {
            "secrets": ("forbidden", "secrets is forbidden"),
            "widgets.example.io": ("failing", "500 Internal Server Error"),
        }
        await fleet.heartbeat(cluster, collection, epoch=epoch, time=time)
        for number in range(3):
            await fleet.event(cluster, f"web-{number}.17c2f1", minutes_ago=number)
    await fleet.heartbeat("prod-us", status="standby", last_error="another agent serves this cluster")
    await fleet.heartbeat("new")
    await announce(fleet, "prod-eu", time=NOW + timedelta(seconds=1))
    await _commands(database)
    await _dead_letters(database)


def _some(resource: str, number: int) -> KubeObject:
    kind = KINDS[resource]
    some = kind.decode(json.dumps(SAMPLES[resource].object).encode())
    metadata = meta(f"web-{number}", "shop" if kind.namespaced else "")
    metadata.labels = {"app": "web", "track": ("stable", "canary")[number % 2]}
    if number:
        metadata.owner_references = [
            OwnerReference(kind="ReplicaSet", name="web-0", uid="uid-shop-web-0", controller=True)
        ]
    some.metadata = metadata
    return some


async def _commands(database: Database) -> None:
    """One in each state."""
    for number, state in enumerate(CommandState):
        command = Command(
            id=f"019a9d2e-7a00-7000-8000-0000000000{number:02x}",
            target=TargetReference(kind=AgentKind.KUBERNETES, id=CLUSTERS[number % 2]),
            action="scale",
            object=CommandObject(resource="deployments", namespace="shop", name="web-0"),
            params={"replicas": 3},
            created_at=NOW,
            start_by=NOW + timedelta(days=300),
            finish_by=NOW + timedelta(days=301),
            actor="token/laptop",
        )
        await accept(database, command)
        if state.terminal:
            await end(database, command.id, state, data={"replicas": 3})
        elif state is not CommandState.ACCEPTED:
            async with database.write() as connection:
                await advance(connection, command.id, state, NOW)


async def _dead_letters(database: Database) -> None:
    letters = [
        ReceivedDeadLetter(
            id=f"{number}-1795248000000000",
            received_at=NOW - timedelta(minutes=number),
            sender="/atlhyper/core/master/master@core-1",
            letter=DeadLetter(
                reason="event type 'io.example.unknown.v1' is not known to this version",
                consumer="master",
                subject="atlhyper.up.kubernetes.prod-eu.heartbeat",
                stream="ATLHYPER_HEARTBEATS",
                stream_sequence=number,
                received_at=NOW,
                headers={"ce-type": "io.example.unknown.v1"},
                body=base64.b64encode(b"\x00\xffnot JSON"),
            ),
        )
        for number in range(1, 4)
    ]
    await dead_letters.store(database, letters)
