"""An API server that does what it is asked for and then says nothing, for longer than a request may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.commands import Command, CommandState, ErrorCode
from schemas.ids import kubernetes
from services.agent.capability import Actions
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from tests.agent.acting import Cluster, acting, command, deployment
from tests.agent.commands.desk import MemoryGateway, order
from tests.agent.commands.running import running
from tests.agent.proxy import Fault, FaultProxy
from tests.faults.commands.effects import AuditLog, Change

pytestmark = pytest.mark.alone

LIMIT = 6.0
"""Seconds that one request to the API server may take."""


class Case(NamedTuple):
    """A command, and the one change that it is to make."""

    command: Command
    method: str
    path: str
    """The end of the write's."""
    verb: str
    """In the API server's audit log, as the next two."""
    resource: str
    name: str
    state: CommandState = CommandState.SUCCEEDED


def config_map(name: str, value: str, **metadata: Any) -> dict[str, Any]:
    about = {"name": name, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"a": value}}


def cases(namespace: str) -> list[Case]:
    """Each on an object of its own; only a JSON patch leaves nothing behind that says whose it was."""

    def manifest(name: str) -> dict[str, Any]:
        return config_map(name, "2", namespace=namespace)

    def named(name: str) -> dict[str, str]:
        return {"resource": "configmaps", "namespace": namespace, "name": name}

    merge, json = {"data": {"b": "1"}}, [{"op": "add", "path": "/data/b", "value": "1"}]
    scale = command("scale", "deployments", namespace, "scaled", replicas=2)
    restart = command("restart", "deployments", namespace, "restarted")
    delete = command("delete", "configmaps", namespace, "deleted")
    evict = command("delete_pod", "pods", namespace, "evicted", evict=True)
    create, change = (command("apply", manifest=manifest(name), force=True) for name in ("new", "applied"))
    patch = command("dynamic", verb="patch", body=merge, **named("patched"))
    unmarked = command("dynamic", verb="patch", patch_type="json", body=json, **named("unmarked"))
    return [
        Case(scale, "PATCH", "scaled/scale", "patch", "deployments/scale", "scaled"),
        Case(restart, "PATCH", "deployments/restarted", "patch", "deployments", "restarted"),
        Case(delete, "DELETE", "configmaps/deleted", "delete", "configmaps", "deleted"),
        Case(evict, "POST", "evicted/eviction", "create", "pods/eviction", "evicted"),
        Case(create, "PATCH", "configmaps/new", "patch", "configmaps", "new"),
        Case(change, "PATCH", "configmaps/applied", "patch", "configmaps", "applied"),
        Case(patch, "PATCH", "configmaps/patched", "patch", "configmaps", "patched"),
        Case(
            unmarked, "PATCH", "configmaps/unmarked", "patch", "configmaps", "unmarked", CommandState.UNKNOWN
        ),
    ]


async def arrange(cluster: Cluster) -> None:
    """What the cases are about."""
    pod = {"containers": [{"name": "app", "image": "registry.example/app:1"}]}
    await cluster.create(
        *(deployment(name, replicas=0) for name in ("scaled", "restarted")),
        *(config_map(name, "1") for name in ("deleted", "applied", "patched", "unmarked")),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "evicted"}, "spec": pod},
    )
    await cluster.settled("deployments", "scaled")
    await cluster.settled("deployments", "restarted")
    await cluster.kubectl("wait", "--for=condition=Ready", "pod/evicted", "--timeout=40s")


@asynccontextmanager
async def agent(folder: Path, actions: Actions) -> AsyncIterator[tuple[Journal, MemoryGateway]]:
    """The whole of an agent's commands: its journal and what it says."""

    def now() -> datetime:
        return datetime.now(UTC)

    gateway = MemoryGateway()
    async with StateFile(folder / "agent.db", journal_rows.TABLES) as file:
        journal = Journal(file, now)
        target = kubernetes("test")
        scheduler = CommandScheduler(
            target, "", actions, journal, gateway, read_only=False, patience=5.0, now=now
        )
        async with running(scheduler):
            yield journal, gateway


async def test_a_write_that_is_never_answered(cluster: Cluster, tmp_path: Path) -> None:
    """The agent waits for as long as a request may take, looks, and finds its own effect; it does nothing
    twice. Where nobody can say whose the change was, the command ends as unknown, and says why.
    """
    await arrange(cluster)
    all_ = cases(cluster.namespace)
    begun = asyncio.get_running_loop().time()
    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig, timeout=LIMIT, dynamic=AllowList.parse(["patch:*"])) as doing,
        agent(tmp_path, doing.actions) as (journal, gateway),
    ):
        faults = [proxy.add(Fault(case.path, method=case.method, hang=True)) for case in all_]
        gateway.hand_out(*(order(case.command, journal.id) for case in all_))
        ends = {case.name: await gateway.end(case.command, seconds=60) for case in all_}
        writes = sorted(request.path for request in proxy.requests if request.method != "GET")
    assert asyncio.get_running_loop().time() - begun > LIMIT
    assert {name: end.state for name, end in ends.items()} == {case.name: case.state for case in all_}
    assert [fault.done for fault in faults] == [1] * len(all_)
    assert len(writes) == len(all_), writes
    assert (ends["scaled"].data["replicas"], ends["scaled"].data["changed"]) == (2, True)
    assert ends["deleted"].data["gone"]
    assert (ends["new"].data["operation"], ends["applied"].data["operation"]) == (
        "created",
        "configured",
    )
    error = ends["unmarked"].error
    assert error
    assert (error.code, f"sent nothing for {LIMIT:.0f} s" in error.message) == (ErrorCode.TIMEOUT, True)
    effects = AuditLog(cluster.plane.layout.audit_log).of_commands([case.command.id for case in all_])
    for case in all_:
        change = Change(case.verb, case.resource, cluster.namespace, case.name)
        assert [effect.change for effect in effects[case.command.id]] == [change]
    assert (await cluster.get("deployments", "scaled"))["metadata"]["generation"] == 2
