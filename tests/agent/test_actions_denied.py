"""An API server that does what it is asked for, and then says that it has not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from schemas.commands import CommandState, ErrorCode
from services.agent.capability import Refused
from services.agent.kubernetes.service.actions.allowing import AllowList
from tests.agent.acting import Cluster, acting, command, deployment
from tests.agent.commands.desk import order
from tests.agent.proxy import Fault, FaultProxy
from tests.agent.test_actions_unanswered import agent, arrange, cases
from tests.faults.commands.effects import AuditLog, Change

BUSY = "Too many requests, please try again later."
"""What priority and fairness answers, as plain text."""


def denial(status: int, reason: str = "") -> Callable[[web.Request], web.Response]:
    """A metav1.Status with that reason; without one, plain text."""
    words = {"kind": "Status", "message": "it was not done", "reason": reason, "code": status}

    def deny(_: web.Request) -> web.Response:
        if not reason:
            return web.Response(status=status, text=f"{BUSY}\n", headers={"Retry-After": "1"})
        return web.json_response(words, status=status)

    return deny


@pytest.mark.parametrize(
    ("status", "reason"),
    [(409, "Conflict"), (429, "TooManyRequests"), (429, ""), (500, "InternalError"), (504, "Timeout")],
)
async def test_an_error_after_the_effect(cluster: Cluster, tmp_path: Path, status: int, reason: str) -> None:
    """The agent looks, and the command has succeeded: with one effect, whatever it has sent once more."""
    where = ("deployments", cluster.namespace)
    scale = command("scale", *where, "scaled", replicas=2)
    restart = command("restart", *where, "restarted")
    await cluster.create(*(deployment(name, replicas=0) for name in ("scaled", "restarted")))
    for name in ("scaled", "restarted"):
        await cluster.settled("deployments", name)
    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig) as doing,
        agent(tmp_path, doing.actions) as (journal, gateway),
    ):
        faults = [
            proxy.add(Fault(path, method="PATCH", denied=denial(status, reason), times=1))
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


async def test_too_many_requests_after_the_effect(cluster: Cluster, tmp_path: Path) -> None:
    """Whatever the action was, an eviction too: it has succeeded, with one write, or what became of it is
    unknown where nobody can say whose the change was. It has not failed.
    """
    await arrange(cluster)
    all_ = cases(cluster.namespace)
    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig, dynamic=AllowList.parse(["patch:*"])) as doing,
        agent(tmp_path, doing.actions) as (journal, gateway),
    ):
        faults = [proxy.add(Fault(case.path, method=case.method, denied=denial(429))) for case in all_]
        gateway.hand_out(*(order(case.command, journal.id) for case in all_))
        ends = {case.name: await gateway.end(case.command, seconds=60) for case in all_}
    assert {name: end.state for name, end in ends.items()} == {case.name: case.state for case in all_}
    assert [fault.done for fault in faults] == [1] * len(all_)
    error = ends["unmarked"].error
    assert error
    assert (error.code, error.status, BUSY in error.message) == (ErrorCode.THROTTLED, 429, True)
    effects = AuditLog(cluster.plane.layout.audit_log).of_commands([case.command.id for case in all_])
    for case in all_:
        change = Change(case.verb, case.resource, cluster.namespace, case.name)
        assert [effect.change for effect in effects[case.command.id]] == [change]


async def test_looks_that_are_throttled_too(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing was done, and that can be seen only later: it is looked at again, and then it has failed."""
    await cluster.create(deployment(replicas=0))
    await cluster.settled("deployments", "web")
    scale = command("scale", "deployments", cluster.namespace, "web", replicas=2)
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        seen = await doing.actions.look(scale)
        write = proxy.add(Fault("web/scale", method="PATCH", answer=denial(429)))
        looks = proxy.add(Fault("deployments/web", method="GET", answer=denial(429), times=2))
        with pytest.raises(Refused) as caught:
            await doing.perform(scale, seen)
    assert (caught.value.error.code, caught.value.error.message) == (ErrorCode.THROTTLED, BUSY)
    assert (write.done, looks.done) == (1, 2)
    assert (await cluster.get("deployments", "web"))["metadata"]["generation"] == 1


@pytest.mark.parametrize("reason", ["TooManyRequests", ""])
async def test_too_many_requests_and_no_effect(cluster: Cluster, tmp_path: Path, reason: str) -> None:
    """As by priority and fairness: the command has failed, in those words, and is not sent once more."""
    await cluster.create(deployment(replicas=0))
    await cluster.settled("deployments", "web")
    scale = command("scale", "deployments", cluster.namespace, "web", replicas=2)
    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig) as doing,
        agent(tmp_path, doing.actions) as (journal, gateway),
    ):
        write = proxy.add(Fault("web/scale", method="PATCH", answer=denial(429, reason)))
        gateway.hand_out(order(scale, journal.id))
        end = await gateway.end(scale, seconds=60)
    assert (end.state, write.done) == (CommandState.FAILED, 1)
    assert end.error
    assert (end.error.code, end.error.status) == (ErrorCode.THROTTLED, 429)
    assert end.error.message == ("it was not done" if reason else BUSY)
    assert (await cluster.get("deployments", "web"))["metadata"]["generation"] == 1
