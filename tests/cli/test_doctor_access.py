"""What `atlhyper doctor` says of an agent that may not do all it should, on a real API server."""

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest

from services.cli.cluster.control_plane import ControlPlane
from tests.agent.test_collection import kubeconfig_of
from tests.cli.command import run
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)  # the command is run twice or more, and kubectl many times

LIST = {
    "": "pods nodes services configmaps namespaces persistentvolumes persistentvolumeclaims",
    "apps": "deployments statefulsets daemonsets replicasets",
    "networking.k8s.io": "ingresses",
    "batch": "jobs cronjobs",
    "autoscaling": "horizontalpodautoscalers",
}
"""Everything that is collected but Secrets and Events."""
WELL = "ok    access    may list and watch all {} resources, and read logs"
RULES = [
    {"apiGroups": [group], "resources": names.split(), "verbs": ["list", "watch"]}
    for group, names in LIST.items()
]


def access_of(kubeconfig: Path, folder: Path, **variables: str) -> list[tuple[str, str]]:
    """The findings about access: each with what to do."""
    done = run("doctor", folder=folder, variables={"AGENT_KUBECONFIG": str(kubeconfig), **variables})
    assert done.returncode == 1, done.stdout  # there is neither a broker nor a database nor an API
    lines = done.stdout.splitlines()
    return [
        (line, lines[index + 1].partition("next: ")[2] if index + 1 < len(lines) else "")
        for index, line in enumerate(lines)
        if re.match(r"\w+\s+access\s", line)
    ]


async def access_when(kubeconfig: Path, folder: Path, words: str, **variables: str) -> list[tuple[str, str]]:
    """The findings once these words are among them: the API server follows its own rules by a watch."""
    found: list[tuple[str, str]] = []

    async def said() -> bool:
        nonlocal found
        found = await asyncio.to_thread(lambda: access_of(kubeconfig, folder, **variables))
        return any(words in line for line, _ in found)

    try:
        await until(said, 90)
    except TimeoutError:
        raise AssertionError(f"not {words!r} in {found}") from None
    return found


def as_administrator(plane: ControlPlane, command: str) -> None:
    """Run what the advice says."""
    for part in command.split(" && "):
        words = shlex.split(part)
        assert words.pop(0) == "kubectl"
        plane.kubectl(*words)


async def test_what_is_missing_and_the_commands_that_grant_it(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Each missing right is named with what it costs; run as they stand, the printed commands mend all."""
    kubeconfig = await asyncio.to_thread(kubeconfig_of, control_plane, namespace, tmp_path, RULES)
    user = json.loads(
        await asyncio.to_thread(
            control_plane.kubectl, f"--kubeconfig={kubeconfig}", "auth", "whoami", "-o", "json"
        )
    )["status"]["userInfo"]["username"]
    found = await access_when(kubeconfig, tmp_path, "may not list and watch secrets, events: ")
    assert [line for line, _ in found] == [
        (
            f"warn  access    {user} may not get namespaces kube-system: "
            "the cluster's UID is unknown, so another cluster under the same id is not told"
        ),
        (
            f"warn  access    {user} may not list and watch secrets, events: "
            "not collected: secrets; AGENT_SECRETS=off if that is meant; no Kubernetes Events are recorded"
        ),
        f"warn  access    {user} may not get pods/log: no logs of pods can be read",
    ]
    for _, advice in found:
        await asyncio.to_thread(as_administrator, control_plane, advice)
    after = await access_when(kubeconfig, tmp_path, WELL.format(17))
    assert [line for line, _ in after] == [WELL.format(17)]


async def test_one_verb_in_one_namespace(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """With AGENT_NAMESPACES rights are asked for there; a verb that is missing is named alone."""
    rules = [rule | {"resources": [name for name in rule["resources"] if name != "pods"]} for rule in RULES]
    rules += [
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    ]
    kubeconfig = await asyncio.to_thread(kubeconfig_of, control_plane, namespace, tmp_path, rules)
    variables = {"AGENT_NAMESPACES": namespace, "AGENT_SECRETS": "off"}
    found = await access_when(kubeconfig, tmp_path, "may not watch pods in namespace", **variables)
    (line, advice), (logs, logs_advice) = found
    assert f"may not get pods/log in namespace {namespace}: no logs of pods can be read" in logs
    assert f"may not watch pods in namespace {namespace}: not collected: pods" in line
    assert (
        f"kubectl create role atlhyper-watch-pods --verb=watch --resource=pods --namespace={namespace}"
        in advice
    )
    for words in (advice, logs_advice):
        await asyncio.to_thread(as_administrator, control_plane, words)
    after = await access_when(kubeconfig, tmp_path, WELL.format(16), **variables)
    assert [line for line, _ in after] == [WELL.format(16)]
