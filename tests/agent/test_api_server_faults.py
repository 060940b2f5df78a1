"""What may happen to an API server and its store, and to our credential: convergence without a hand."""

import asyncio
import json
import shutil
import signal
import stat
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.frames import Phase
from schemas.kubernetes import KINDS
from schemas.presence import CollectionState
from services.agent.kubernetes.sdk import client, credentials
from services.agent.kubernetes.service.reflector import REFUSED_CAP
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.backoff import Backoff
from services.runtime.errors import EXIT_TEMPORARY, UserError
from tests.agent.fixtures import Heard, RunAgent
from tests.agent.proxy import Fault, FaultProxy
from tests.agent.test_bad_answers import status
from tests.agent.test_collection import STATE_KINDS, kubeconfig_of, state_of

CONFIGMAPS = "configmaps"


def names(heard: Heard) -> set[str]:
    """ConfigMaps of the namespace `default` as a reader has them."""
    return {name for namespace, name in heard.objects(CONFIGMAPS) if namespace == "default"}


async def configmap(plane: ControlPlane, verb: str, name: str) -> None:
    """`kubectl create|delete configmap name`."""
    await asyncio.to_thread(plane.kubectl, verb, "configmap", name, "-n", "default")


def compact(plane: ControlPlane) -> None:
    """Have etcd forget everything but the present."""

    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            plane.layout.url("etcd") + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request, timeout=60))

    revision = post("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    post("/v3/kv/compaction", {"revision": revision, "physical": True})


async def test_compaction_behind_our_back(
    run_agent: RunAgent, own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """A version that etcd has forgotten means a new list: what vanished meanwhile is deleted, once."""
    plane = own_control_plane
    await configmap(plane, "create", "before")
    async with (
        FaultProxy(plane, tmp_path) as proxy,
        run_agent(
            AGENT_KUBECONFIG=str(proxy.kubeconfig),
            AGENT_TIMEOUT_WATCH="2s",
            AGENT_HEARTBEAT_INTERVAL="500ms",
        ) as heard,
    ):
        await heard.until(lambda h: h.synced() == STATE_KINDS and "before" in names(h))
        proxy.freeze()
        await configmap(plane, "delete", "before")
        for number in range(5):
            await configmap(plane, "create", f"during-{number}")
        await asyncio.to_thread(compact, plane)
        await asyncio.to_thread(plane.send_signal, "kube-apiserver", signal.SIGKILL)
        await asyncio.to_thread(plane.start_component, "kube-apiserver")
        proxy.thaw()
        await heard.until(lambda h: "before" not in names(h) and "during-4" in names(h))
        await heard.until(
            lambda h: {item.state for item in h.heartbeats[-1].collection} == {CollectionState.SYNCED}
        )
        relists = {item.resource: item.relists for item in heard.heartbeats[-1].collection}
        assert 2 <= relists[CONFIGMAPS] <= 6
    assert len(heard.phases(Phase.BEGIN)) == 1


async def test_a_store_that_was_set_back(
    run_agent: RunAgent, own_control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd restored from an older copy: the versions we hold lie in the future, and we list again."""
    # What is told lasts for a pause: so a heartbeat, twice a second, meets it.
    monkeypatch.setattr(Backoff, "delay", lambda _: 1.5)
    plane = own_control_plane
    await configmap(plane, "create", "kept")
    await asyncio.to_thread(plane.stop_component, "kube-apiserver")
    await asyncio.to_thread(plane.stop_component, "etcd")
    shutil.copytree(plane.folder / "etcd", tmp_path / "backup")
    for component in ("etcd", "kube-apiserver"):
        await asyncio.to_thread(plane.start_component, component)
    async with run_agent(
        AGENT_KUBECONFIG=str(plane.kubeconfig), AGENT_TIMEOUT_WATCH="2s", AGENT_HEARTBEAT_INTERVAL="500ms"
    ) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        for number in range(30):
            await configmap(plane, "create", f"lost-{number}")
        await heard.until(lambda h: "lost-29" in names(h))
        for component in ("kube-apiserver", "etcd"):
            await asyncio.to_thread(plane.stop_component, component)
        shutil.rmtree(plane.folder / "etcd")
        shutil.copytree(tmp_path / "backup", plane.folder / "etcd")
        for component in ("etcd", "kube-apiserver"):
            await asyncio.to_thread(plane.start_component, component)
        await configmap(plane, "create", "new")
        await heard.until(lambda h: "new" in names(h) and "lost-29" not in names(h))
        assert "kept" in names(heard)
    told = [i.reason for beat in heard.heartbeats for i in beat.collection if "Too large" in i.reason]
    assert told


async def test_a_server_that_has_not_read_its_rules_yet(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Right after its start an API server may refuse what is allowed: that is asked again within seconds, not
    only after the minute after which a right is looked for that is really missing.
    """
    async with (
        FaultProxy(control_plane, tmp_path) as proxy,
        run_agent(
            AGENT_KUBECONFIG=str(proxy.kubeconfig),
            AGENT_NAMESPACES=namespace,
            AGENT_TIMEOUT_WATCH="2s",
            AGENT_SNAPSHOT_INTERVAL="500ms",
        ) as heard,
    ):
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        refusing = proxy.add(Fault(CONFIGMAPS, answer=status(403, "configmaps is forbidden"), times=2))
        await heard.until(lambda _: refusing.done == refusing.times)
        began = time.monotonic()
        await asyncio.to_thread(control_plane.kubectl, "create", "configmap", "after", "-n", namespace)
        await heard.until(lambda h: (namespace, "after") in h.objects(CONFIGMAPS))
        assert time.monotonic() - began < REFUSED_CAP / 2


async def test_a_server_that_refuses_at_our_start(
    run_agent: RunAgent, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """It may be its start too: who keeps the agent running is told to begin again (EX_TEMPFAIL)."""
    async with FaultProxy(control_plane, tmp_path) as proxy:
        proxy.add(Fault("version", answer=status(403, "User cannot get path /version")))
        with pytest.raises(UserError, match="cannot get path /version") as refused:
            async with run_agent(AGENT_KUBECONFIG=str(proxy.kubeconfig)) as heard:
                await heard.until(lambda h: h.frames)
    assert refused.value.exit_code == EXIT_TEMPORARY


@pytest.mark.parametrize("how", ["tokenFile", "exec"])
async def test_a_token_that_is_replaced(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token that ends is told; the next one is found where it comes from, without a restart."""
    monkeypatch.setattr(client, "RENEW_PAUSE", 0.2)
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": verbs} for kind in KINDS.values()
    ]
    path = kubeconfig_of(control_plane, namespace, tmp_path, rules)
    config = yaml.safe_load(path.read_text())
    user = config["users"][0]["user"]
    token = tmp_path / "token"
    token.write_text(user.pop("token"))
    account = json.loads(control_plane.kubectl("get", "serviceaccounts", "-n", namespace, "-o", "json"))
    name = next(i["metadata"]["name"] for i in account["items"] if i["metadata"]["name"] != "default")
    if how == "exec":
        user["exec"] = plugin(tmp_path, token)
    else:
        user["tokenFile"] = str(token)
    path.write_text(yaml.safe_dump(config))
    async with run_agent(
        AGENT_KUBECONFIG=str(path),
        AGENT_NAMESPACES=namespace,
        AGENT_TIMEOUT_WATCH="2s",
        AGENT_HEARTBEAT_INTERVAL="500ms",
    ) as heard:
        await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
        # A token is bound to its account's UID: it ends with the account, and with the server's cache.
        for verb in ("delete", "create"):
            await asyncio.to_thread(control_plane.kubectl, verb, "serviceaccount", name, "-n", namespace)
        await heard.until(
            lambda h: state_of(h, "pods")[0] == CollectionState.FAILING and "401" in state_of(h, "pods")[1]
        )
        new = await asyncio.to_thread(
            control_plane.kubectl, "create", "token", name, "-n", namespace, "--duration=1h"
        )
        token.write_text(new.strip())
        await asyncio.to_thread(control_plane.kubectl, "create", "configmap", "after", "-n", namespace)
        await heard.until(lambda h: (namespace, "after") in h.objects(CONFIGMAPS))
        await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
    assert len(heard.phases(Phase.BEGIN)) == 1
    assert new.strip().encode() not in b"".join(heard.raw)


def plugin(folder: Path, token: Path) -> dict[str, Any]:
    """A credential plug-in that gives what is in a file, and hangs while the file `hang` is there."""
    program = folder / "give-token"
    version = "client.authentication.k8s.io/v1"
    answer = f'{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":"%s"}}}}'
    program.write_text(
        f"#!/bin/sh\n[ -e {folder}/hang ] && {{ sleep 600; exit 1; }}\nprintf '{answer}' \"$(cat {token})\"\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "apiVersion": version,
        "command": str(program),
        "interactiveMode": "Never",
    }


async def test_a_plugin_that_hangs(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A credential plug-in has a time limit and is told by its name, at the start and later on."""
    monkeypatch.setattr(client, "RENEW_PAUSE", 0.2)
    monkeypatch.setattr(credentials, "PLUGIN_TIMEOUT", 8.0)
    async with FaultProxy(control_plane, tmp_path) as proxy:
        config = yaml.safe_load(proxy.kubeconfig.read_text())
        token = tmp_path / "token"
        token.write_text(config["users"][0]["user"].pop("token"))
        config["users"][0]["user"]["exec"] = plugin(tmp_path, token)
        proxy.kubeconfig.write_text(yaml.safe_dump(config))
        variables = {
            "AGENT_KUBECONFIG": str(proxy.kubeconfig),
            "AGENT_NAMESPACES": namespace,
            "AGENT_TIMEOUT_WATCH": "2s",
            "AGENT_HEARTBEAT_INTERVAL": "500ms",
        }
        hang = tmp_path / "hang"
        hang.touch()
        with pytest.raises(UserError, match="the credential plug-in give-token gave nothing within 8 s"):
            async with run_agent(**variables) as heard:
                await heard.until(lambda h: h.frames)
        hang.unlink()
        async with run_agent(**variables) as heard:
            await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
            hang.touch()
            expired = proxy.add(Fault("pods", answer=status(401, "Unauthorized")))
            await heard.until(lambda h: "plug-in give-token gave nothing" in state_of(h, "pods")[1])
            assert state_of(heard, CONFIGMAPS)[0] == CollectionState.SYNCED
            hang.unlink()
            expired.times = 0
            await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
