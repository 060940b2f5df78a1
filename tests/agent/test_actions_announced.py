"""What an agent announces, and what it refuses without asking anybody."""

from pathlib import Path

import pytest

from schemas.actions import ACTIONS as OF_KINDS
from schemas.commands import ErrorCode
from schemas.ids import AgentKind
from schemas.presence import ActionSchemas
from services.agent.capability import Refused
from services.agent.kubernetes.service.actions.allowing import AllowList
from tests.agent.acting import Cluster, Doing, acting, command, refusal
from tests.agent.fixtures import Heard, RunAgent

ACTIONS = OF_KINDS[AgentKind.KUBERNETES]
READ = AllowList.parse(["read:*"])


async def test_what_is_announced(cluster: Cluster, tmp_path: Path) -> None:
    """Each action that settings and role allow on something; a read-only agent only what reads."""
    async with acting(cluster.plane.kubeconfig, dynamic=READ) as doing:
        assert list(await doing.actions.announce()) == [f"act:{name}" for name in ACTIONS]
    async with acting(cluster.plane.kubeconfig, dynamic=READ, read_only=True) as doing:
        assert list(await doing.actions.announce()) == ["act:get_logs", "act:dynamic"]
    async with acting(cluster.plane.kubeconfig, read_only=True) as doing:
        assert list(await doing.actions.announce()) == ["act:get_logs"]
    nothing = await cluster.kubeconfig_of("nobody", tmp_path / "kubeconfig", [])
    async with acting(nothing, dynamic=READ) as doing:
        assert list(await doing.actions.announce()) == []


async def test_an_agent_tells_it(cluster: Cluster, run_agent: RunAgent) -> None:
    """The heartbeat names the actions beside what is observed, and says what their parameters are."""
    async with run_agent(AGENT_KUBECONFIG=str(cluster.plane.kubeconfig), AGENT_READ_ONLY="false") as heard:
        wanted = {"observe:pods", "act:scale", "act:drain", "act:dynamic"}
        await heard.until(lambda h: any(wanted <= set(beat.capabilities) for beat in h.heartbeats))
        assert await announced(heard) == {
            name: action.params.model_json_schema() for name, action in ACTIONS.items()
        }


async def test_a_read_only_agent_tells_what_it_can_do(cluster: Cluster, run_agent: RunAgent) -> None:
    """Of what it would refuse, it announces neither names nor parameters."""
    async with run_agent(AGENT_KUBECONFIG=str(cluster.plane.kubeconfig), AGENT_READ_ONLY="true") as heard:
        assert await announced(heard) == {
            name: ACTIONS[name].params.model_json_schema() for name in ("get_logs", "dynamic")
        }


async def announced(heard: Heard) -> ActionSchemas:
    """The parameters that an agent has told, once it has."""
    found: list[ActionSchemas] = await heard.until(
        lambda h: [beat.actions for beat in h.heartbeats if beat.actions is not None]
    )
    return found[-1]


async def test_an_unknown_action(doing: Doing) -> None:
    """It is refused by its name."""
    with pytest.raises(Refused) as caught:
        await doing.actions.check(command("format", "nodes", "", "node-1"))
    assert caught.value.error.code == ErrorCode.UNKNOWN_ACTION


@pytest.mark.parametrize(
    "resource",
    ["", "Pods", "pods/exec", "../pods", "pods.v1.a/b", "pods%2f", "pods..", "widgets.v1.example.com/x"],
)
async def test_a_resource_that_is_none(doing: Doing, resource: str) -> None:
    """Nothing reaches a path that is not the name of a resource."""
    code, status, _ = await refusal(doing, "delete", resource, "default", "x")
    assert (code, status) in {(ErrorCode.INVALID, 0), (ErrorCode.NOT_FOUND, 0)}
