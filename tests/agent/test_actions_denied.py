"""An API server that does what it is asked for, and then says that it has not."""

from pathlib import Path

import pytest
from aiohttp import web

from schemas.commands import CommandState
from tests.agent.acting import Cluster, acting, command, deployment
from tests.agent.commands.desk import order
from tests.agent.proxy import Fault, FaultProxy
from tests.agent.test_actions_unanswered import agent
from tests.faults.commands.effects import AuditLog

REASONS = {409: "Conflict", 500: "InternalError", 504: "Timeout"}


@pytest.mark.parametrize("status", REASONS)
async def test_an_error_after_the_effect(cluster: Cluster, tmp_path: Path, status: int) -> None:
    """The agent looks, and the command has succeeded: with one effect, whatever it has sent once more."""
    where = ("deployments", cluster.namespace)
    scale = command("scale", *where, "scaled", replicas=2)
    restart = command("restart", *where, "restarted")
    await cluster.create(*(deployment(name, replicas=0) for name in ("scaled", "restarted")))
    for name in ("scaled", "restarted"):
        await cluster.settled("deployments", name)
    words = {"kind": "Status", "message": "it was not done", "reason": REASONS[status], "code": status}

    def deny(_: web.Request) -> web.Response:
        return web.json_response(words, status=status)

    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig) as doing,
        agent(tmp_path, doing.actions) as (journal, gateway),
    ):
        faults = [
            proxy.add(Fault(path, method="PATCH", denied=deny, times=1))
            for path in ("scaled/scale", "deployments/restarted")
        ]
        gateway.hand_out(order(scale, journal.id), order(restart, journal.id))
        ends = [await gateway.end(about, seconds=60) for about in (scale, restart)]
    assert [fault.done for fault in faults] == [1, 1]
    assert [end.state for end in ends] == [CommandState.SUCCEEDED] * 2, ends
    effects = AuditLog(cluster.plane.layout.audit_log).of_commands([scale.id, restart.id])
    assert len(effects[scale.id]) == 1
    # What a conflict is about has changed, so it is done on what there is now; the same again is no change.
    assert len(effects[restart.id]) == (2 if status == 409 else 1)
    for name in ("scaled", "restarted"):
        assert (await cluster.get("deployments", name))["metadata"]["generation"] == 2
