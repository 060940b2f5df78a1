"""What tests of commands share: an agent that takes them, requests, and what a master makes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from schemas.actions import ACTIONS, capability
from schemas.commands import CommandCompleted, CommandError, CommandState
from schemas.ids import AgentKind, kubernetes
from schemas.presence import ActionSchemas, Health, Heartbeat
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
    cluster: str = "prod-eu",
    *,
    capabilities: list[str] = ALL,
    read_only: bool = False,
    journal: str = "journal-1",
    labels: dict[str, str] | None = None,
    actions: ActionSchemas | None = None,
    version: str = "0.1.0",
    time: datetime = NOW,
) -> None:
    """A heartbeat of an agent that takes commands."""
    body = Heartbeat(
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
    await fleet._presence([Sign(kubernetes(cluster), body, time)], [])


async def ask(api: httpx.AsyncClient, body: dict[str, Any] = SCALE, **more: Any) -> dict[str, Any]:
    """An accepted command."""
    answer = await api.post(COMMANDS, json=body, **more)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{COMMANDS}/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


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
    async with database.write() as session:
        assert await advance(
            await session.connection(),
            id,
            state,
            now,
            result=result.model_dump_json().encode(),
            executed_at=result.executed_at,
        )
