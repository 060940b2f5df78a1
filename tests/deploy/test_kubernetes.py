"""deploy/kubernetes on a real API server: the agent's rights are enough and none too many."""

import asyncio
import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from schemas.kubernetes import KINDS
from schemas.presence import Heartbeat
from services.agent.kubernetes.repository.access import IDENTITY, needed
from services.agent.kubernetes.repository.logs import LOGS
from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk import client
from services.agent.kubernetes.sdk.interfaces import Access
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.agent.fixtures import RunAgent
from tests.agent.test_collection import STATE_KINDS
from tests.deploy import manifests, settings
from tests.deploy.manifests import AGENT, NAME, SECRETS, Manifest, Right
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def agent() -> list[Manifest]:
    return manifests.render(AGENT)


@pytest.fixture(scope="module")
def with_secrets() -> list[Manifest]:
    return manifests.render(SECRETS)


@pytest.fixture
def applied(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster with deploy/kubernetes/overlays/secrets in it."""
    kubectl = control_plane.kubectl
    kubectl("apply", "--kustomize", str(SECRETS))
    kubectl("wait", "--for=create", "--timeout=50s", "-n", "atlhyper", "configmap/kube-root-ca.crt")
    yield control_plane
    kubectl("delete", "--kustomize", str(SECRETS), "--wait=false")
    kubectl("wait", "--for=delete", "--timeout=120s", "namespace/atlhyper", timeout=130)


def kubeconfig(plane: ControlPlane, namespace: str, account: str, path: Path) -> str:
    """A kubeconfig of a service account."""
    token = plane.kubectl("create", "token", account, "-n", namespace, "--duration=1h").strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"] = [{"name": entry["name"], "user": {"token": token}} for entry in config["users"]]
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return str(path)


def of_kinds(*left_out: str) -> set[Right]:
    """What the agent's code asks for."""
    kinds = [kind for kind in KINDS.values() if kind.resource not in left_out]
    wanted = [IDENTITY, LOGS, *(access for kind in kinds for access in needed(kind, []))]
    return {(access.verb, access.group, access.plural, access.name) for access in wanted}


def test_the_role_is_what_the_kinds_need(agent: list[Manifest], with_secrets: list[Manifest]) -> None:
    """Each right of the role is one that collecting the kinds takes, and the other way round."""
    plain, overlay = (
        manifests.rights(manifests.one(every, "ClusterRole")) for every in (agent, with_secrets)
    )
    assert sorted(plain) == sorted(of_kinds("secrets"))
    assert sorted(overlay) == sorted(of_kinds())
    (container,) = manifests.one(agent, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["agent", "kubernetes"]
    assert manifests.environment(agent)["AGENT_SECRETS"] == "off"
    assert manifests.environment(with_secrets)["AGENT_SECRETS"] == "metadata"


def test_variables_are_the_agents(agent: list[Manifest], with_secrets: list[Manifest]) -> None:
    """Each variable is one that the agent reads, and its value is accepted."""
    for every in (agent, with_secrets):
        settings.check(manifests.environment(every), ["agent", "kubernetes"])


def test_files_and_probes_are_where_they_are_looked_for(agent: list[Manifest]) -> None:
    """What variables and probes point to is mounted and listens; the token is one that ends."""
    pod = manifests.one(agent, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = manifests.environment(agent)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert sorted(mounts.values()) == sorted(volumes)
    for name in ("NATS_CREDENTIALS", "NATS_TLS_CA"):
        assert mounts[str(Path(variables[name]).parent)] == "credential"
    assert not pod["automountServiceAccountToken"]
    token = volumes[mounts["/var/run/secrets/kubernetes.io/serviceaccount"]]["projected"]["sources"][0]
    assert token["serviceAccountToken"] == {"path": "token", "expirationSeconds": 3600}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        program, address, path = container[probe]["exec"]["command"]
        assert (program, address) == ("ready", variables["AGENT_METRICS_LISTEN"])
        assert path in ("/livez", "/readyz")
    assert container["resources"]["limits"].keys() >= {"memory", "ephemeral-storage"}


@pytest.mark.timeout(400)
async def test_the_role_is_enough(
    applied: ControlPlane, with_secrets: list[Manifest], run_agent: RunAgent, tmp_path: Path
) -> None:
    """With the shipped account's token, and nothing else, every kind is collected and the cluster known."""
    path = await asyncio.to_thread(kubeconfig, applied, "atlhyper", NAME, tmp_path / "kubeconfig")
    secrets = manifests.environment(with_secrets)["AGENT_SECRETS"]
    async with run_agent(AGENT_KUBECONFIG=path, AGENT_SECRETS=secrets) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)

        def whole(beat: Heartbeat) -> bool:  # roles are learnt of in the authorizer's own time
            states = [item.state for item in beat.collection]
            return beat.health.healthy and states == ["synced"] * 17

        beat = await heard.until(lambda h: next(filter(whole, h.heartbeats), None))
    assert beat.instance


@pytest.mark.timeout(600)
async def test_no_right_is_too_many(
    control_plane: ControlPlane, namespace: str, with_secrets: list[Manifest], tmp_path: Path
) -> None:
    """An account that lacks one right of the shipped role, and only it, misses exactly this one: so each
    right of each rule is used, and a rule that nothing uses would be found."""
    rights = manifests.rights(manifests.one(with_secrets, "ClusterRole"))
    items: list[Manifest] = []
    for number, left_out in enumerate(rights):
        name = f"{namespace}-{number}"
        role = {"kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1"}
        items += [
            {
                "kind": "ServiceAccount",
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": namespace},
            },
            {
                **role,
                "metadata": {"name": name},
                "rules": [manifests.rule(right) for right in rights if right is not left_out],
            },
            {
                **role,
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            },
        ]
    at_once = asyncio.Semaphore(6)

    async def misses(number: int, right: Right) -> None:
        verb, group, plural, name = right
        account = f"{namespace}-{number}"
        async with at_once:
            path = await asyncio.to_thread(kubeconfig, control_plane, namespace, account, tmp_path / account)
            connection = await client.connect(path, timeout=30.0, user_agent="test")
            resources = KubernetesResources(connection, page_timeout=30.0)

            lacking: list[Access] = []

            async def lacks_just_this() -> bool:
                lacking[:] = await resources.lacking(list(KINDS.values()), [])
                return lacking == [Access(verb, group, plural, name=name)]

            try:
                await until(lacks_just_this, 60)  # the server's authorizer learns of roles in its own time
            except TimeoutError:
                raise AssertionError(f"without {' '.join(right)} an agent lacks {lacking}") from None
            finally:
                await connection.close()

    everything = json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
    await asyncio.to_thread(control_plane.kubectl, "create", "-f", "-", stdin=everything)
    try:
        await asyncio.gather(*(misses(number, right) for number, right in enumerate(rights)))
    finally:
        delete = [
            f"{kind}/{namespace}-{n}"
            for kind in ("clusterrole", "clusterrolebinding")
            for n in range(len(rights))
        ]
        await asyncio.to_thread(control_plane.kubectl, "delete", "--wait=false", *delete)


@pytest.mark.timeout(400)
def test_pods_are_admitted_as_restricted(applied: ControlPlane, with_secrets: list[Manifest]) -> None:
    """The real admission takes the agent's pod in its namespace, and refuses it with any lock open."""
    template = manifests.one(with_secrets, "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": template["spec"]}

    def admit(changed: Manifest) -> str:
        arguments = ("create", "--dry-run=server", "-n", "atlhyper", "-o", "name", "-f", "-")
        return applied.kubectl(*arguments, stdin=json.dumps(changed))

    assert admit(pod) == "pod/probe\n"
    for owner, lock in (
        ("pod", "runAsNonRoot"),
        ("pod", "seccompProfile"),
        ("container", "allowPrivilegeEscalation"),
        ("container", "capabilities"),
    ):
        opened = copy.deepcopy(pod)
        spec = opened["spec"] if owner == "pod" else opened["spec"]["containers"][0]
        del spec["securityContext"][lock]
        with pytest.raises(ControlPlaneError, match='violates PodSecurity "restricted:latest"'):
            admit(opened)
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_overlay_of_the_documentation(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The kustomization that the how-to shows renders: the credential gets its place, the agent its name."""
    page = (ROOT / "docs" / "how-to" / "deploy-the-agent.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    place = tmp_path / "prod-1"
    place.mkdir()
    shutil.copytree(manifests.FOLDER, tmp_path / "atlhyper" / "deploy" / "kubernetes")
    (place / "kustomization.yaml").write_text(text)
    (place / "agent.nk").write_text("seed")
    (place / "ca.crt").write_text("certificate")
    rendered = manifests.render(place)
    secret = manifests.one(rendered, "Secret")
    pod = manifests.one(rendered, "Deployment")["spec"]["template"]["spec"]
    assert secret["data"].keys() == {"agent.nk", "ca.crt"}
    assert secret["metadata"]["namespace"] == "atlhyper"
    assert secret["metadata"]["name"] in [
        volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume
    ]
    assert manifests.environment(rendered)["AGENT_CLUSTER_ID"] == "prod-1"
    settings.check(manifests.environment(rendered), ["agent", "kubernetes"])
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/atlhyper:0.1.0"
