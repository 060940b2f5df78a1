"""Faults of an API server that come one upon the other, as an action tells of them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.commands import Command, CommandObject, ErrorCode, TargetReference
from schemas.ids import AgentKind, uuid7
from services.agent.capability import Doubtful, Incomplete, Refused
from services.agent.kubernetes.repository.interfaces import Json, Written
from services.agent.kubernetes.sdk.interfaces import Answer, KubernetesError, Unanswered, Unreachable
from services.agent.kubernetes.service.actions import actions as actions_module
from services.agent.kubernetes.service.actions import draining
from services.agent.kubernetes.service.actions.actions import Allowance, KubernetesActions

FAULT = KubernetesError("500", answer=Answer(500, "etcdserver: request timed out", "InternalError"))
LOST = Unanswered("the connection broke")
METADATA = {"uid": "u", "resourceVersion": "1", "name": "web", "namespace": "shop"}


class Objects:
    """An ObjectRepository that fails as it is told to: each write, and each read, by its turn."""

    def __init__(self, *writes: Exception) -> None:
        self._writes = list(writes)
        self.reads: list[Exception] = []

    async def read(self, path: str, query: Mapping[str, str] | None = None, **_: Any) -> Json:
        if self.reads:
            raise self.reads.pop(0)
        obj = {"metadata": METADATA, "spec": {"replicas": 1, "unschedulable": True, "containers": []}}
        owner = {"kind": "ReplicaSet", "controller": True}
        return obj | {"items": [obj | {"metadata": METADATA | {"ownerReferences": [owner]}}]}

    async def write(self, *_: Any, **__: Any) -> Written:
        raise self._writes.pop(0)


def command(action: str, resource: str, namespace: str = "", **params: Any) -> Command:
    now = datetime.now(UTC)
    return Command(
        id=uuid7(),
        target=TargetReference(kind=AgentKind.KUBERNETES, id="a"),
        action=action,
        object=CommandObject(resource=resource, namespace=namespace, name="web"),
        params=params,
        created_at=now,
        start_by=now + timedelta(minutes=1),
        finish_by=now + timedelta(minutes=2),
    )


async def told(message: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(("away", "error"), [(True, Doubtful), (False, Refused)])
async def test_a_fault_and_then_nobody_there(
    monkeypatch: pytest.MonkeyPatch, away: bool, error: type[Exception]
) -> None:
    """After a fault inside the server nothing is certain until it has been asked what is there."""
    monkeypatch.setattr(actions_module, "SETTLED", 0.0)
    objects = Objects(FAULT)
    actions = KubernetesActions(objects, Allowance(), {})  # type: ignore[arg-type]
    about = command("scale", "deployments", "shop", replicas=2)
    seen = await actions.look(about)
    if away:
        objects.reads.append(Unreachable("no connection"))
    with pytest.raises(error) as caught:
        await actions.perform(about, seen, told)
    assert caught.value.error.code == ErrorCode.SERVER  # type: ignore[attr-defined]


async def test_a_pod_that_is_left_after_its_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only faults inside the server count, whatever else happens between them."""
    monkeypatch.setattr(draining, "RETRY", 0.01)
    monkeypatch.setattr(draining, "LOOK", 0.01)
    objects = Objects(FAULT, FAULT, FAULT, LOST, FAULT)
    actions = KubernetesActions(objects, Allowance(), {})  # type: ignore[arg-type]
    about = command("drain", "nodes")
    with pytest.raises(Incomplete) as caught:
        await actions.perform(about, await actions.look(about), told)
    assert caught.value.error.code == ErrorCode.SERVER
    assert [pod["pod"] for pod in caught.value.data["failed"]] == ["shop/web"]
