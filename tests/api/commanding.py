"""What tests of commands share: an agent that takes them, requests, and what a master makes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import sqlalchemy as sa

from schemas.actions import ACTIONS, capability
from schemas.commands import Command, CommandCompleted, CommandError, CommandState
from schemas.ids import AgentKind, kubernetes
from schemas.presence import ActionSchemas, Health, Heartbeat
from services.persistence import tables
from services.persistence.commands.states import advance
from services.persistence.database.engine import Database
from services.persistence.presence.store import Sign
from tests.api.fixtures import NOW, Fleet

COMMANDS = "/api/v1/commands"
ALL = [capability(action) for action in ACTIONS[AgentKind.KUBERNETES]]
SCALE = {
    "cluster_id": "prod-eu",
    "action": "scale",
    "resource": "deployments",
    "namespace": "shop",
    "name": "web",
    "params": {"replicas": 3},
}
RESTART = {"cluster_id": "prod-eu", "action": "restart", "kind": "deploy", "namespace": "shop", "name": "web"}


async def announce(
    fleet: Fleet,
    *clusters: str,
    capabilities: list[str] = ALL,
    read_only: bool = False,
    journal: str = "journal-1",
    labels: dict[str, str] | None = None,
    actions: ActionSchemas | None = None,
    version: str = "0.1.0",
    time: datetime = NOW,
) -> None:
    """A heartbeat of an agent that takes commands, or of several; without a name, of `prod-eu`."""

    def said(cluster: str) -> Heartbeat:
        return Heartbeat(
            version=version,
            instance=f"instance-{cluster}",
            platform="v1.36.3",
            interval=15,
            capabilities=capabilities,
            journal=journal,
            labels=labels or {},
            actions=actions,
            read_only=read_only,
            health=Health(healthy=True, status="running", start_time=NOW),
        )

    signs = [Sign(kubernetes(cluster), said(cluster), time) for cluster in clusters or ("prod-eu",)]
    await fleet._presence(signs, [])


async def ask(api: httpx.AsyncClient, body: dict[str, Any] = SCALE, **more: Any) -> dict[str, Any]:
    """An accepted command."""
    answer = await api.post(COMMANDS, json=body, **more)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{COMMANDS}/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


async def stored(database: Database) -> list[Command]:
    """Every command there is."""
    async with database.read() as connection:
        found = await connection.execute(sa.select(tables.table_of(tables.Command).c.body))
        return [Command.model_validate_json(row.body) for row in found]


def config_map(characters: int) -> dict[str, Any]:
    """A command that applies a ConfigMap with so much in it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"a": "x" * characters},
    }
    return {
        "cluster_id": "prod-eu",
        "action": "apply",
        "params": {"manifest": manifest, "namespace": "shop"},
    }


async def end(
    database: Database,
    id: str,
    state: CommandState = CommandState.SUCCEEDED,
    *,
    data: Any = None,
    error: CommandError | None = None,
    parts: int = 0,
    warnings: list[str] | None = None,
) -> None:
    """What a master stores when an agent has told the end of a command."""
    now = datetime.now(UTC)
    result = CommandCompleted(
        command_id=id,
        state=state,
        success=state is CommandState.SUCCEEDED,
        data=data,
        error=error,
        parts=parts,
        warnings=warnings or [],
        executed_at=now - timedelta(milliseconds=5),
    )
    async with database.write() as connection:
        assert await advance(
            connection,
            id,
            state,
            now,
            result=result.model_dump_json().encode(),
            executed_at=result.executed_at,
        )
