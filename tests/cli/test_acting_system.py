"""The commands of the command line on the whole system: what they do is there in a real API server."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.cluster.control_plane import ControlPlane
from services.cli.cluster.nodes import node_manifest, schedulable_nodes
from tests.cli.command import ATLHYPER, environment, run
from tests.e2e.system import System

pytestmark = [pytest.mark.timeout(600), pytest.mark.cluster]

Do = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def system(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, as the agent `acted`, with writes allowed."""
    home = tmp_path_factory.mktemp("acting") / "home"
    with System(home, control_plane.kubeconfig, "acted", AGENT_READ_ONLY="false") as running:
        running.until(lambda: running.get("/clusters/acted")["state"] == "live")
        yield running


@pytest.fixture
def do(system: System, tmp_path: Path) -> Do:
    """Runs a command line, which finds API and token by itself."""

    def do(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, folder=tmp_path, variables={"ATLHYPER_HOME": str(system.home)}, timeout=90)

    return do


def well(done: subprocess.CompletedProcess[str]) -> str:
    """Its output, of a command that has succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def deployment(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    """`web`, one replica of `app`."""
    labels = {"app": "web"}
    containers = [{"name": "app", "image": "example.com/web:1"}]
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }
    control_plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    return manifest


def read(plane: ControlPlane, namespace: str, what: str, path: str) -> str:
    """A field of an object, from the API server itself."""
    return plane.kubectl("-n", namespace, "get", what, f"-o=jsonpath={path}")


@pytest.mark.usefixtures("deployment")
def test_a_workload(do: Do, control_plane: ControlPlane, namespace: str) -> None:
    """Scaled, given another image, rolled back, restarted."""
    where = ("-n", namespace)
    # There is a revision to go back to only once its controller has seen the first template.
    control_plane.kubectl(*where, "rollout", "status", "--timeout=60s", "deploy/web")
    told = well(do("scale", "deploy/web", "--replicas", "3", *where))
    assert "replicas 1 → 3" in told
    assert read(control_plane, namespace, "deploy/web", "{.spec.replicas}") == "3"
    image = "{.spec.template.spec.containers[0].image}"
    told = well(do("set-image", "deploy/web", "app=example.com/web:2", *where))
    assert "app example.com/web:1 → example.com/web:2" in told
    assert read(control_plane, namespace, "deploy/web", image) == "example.com/web:2"
    control_plane.kubectl(*where, "rollout", "status", "--timeout=60s", "deploy/web")
    assert "revision 1" in well(do("rollback", "deploy/web", *where))
    assert read(control_plane, namespace, "deploy/web", image) == "example.com/web:1"
    well(do("restart", "deploy", "web", *where))
    annotations = read(control_plane, namespace, "deploy/web", "{.spec.template.metadata.annotations}")
    assert "kubectl.kubernetes.io/restartedAt" in annotations


@pytest.mark.usefixtures("deployment")
def test_a_dry_run_changes_nothing(do: Do, control_plane: ControlPlane, namespace: str) -> None:
    """The API server has tried it, and says so."""
    before = read(control_plane, namespace, "deploy/web", "{.metadata.resourceVersion}")
    told = well(do("scale", "deploy/web", "--replicas", "5", "-n", namespace, "--dry-run"))
    assert "(dry run)" in told
    well(do("delete", "deploy/web", "-n", namespace, "--dry-run"))
    assert read(control_plane, namespace, "deploy/web", "{.spec.replicas}") == "1"
    assert before


def test_what_is_not_there(do: Do, namespace: str) -> None:
    """Exit code 3, in the API server's own words."""
    done = do("restart", "deploy/none", "-n", namespace)
    assert done.returncode == 3, done.stdout + done.stderr
    assert 'deployments.apps "none" not found' in done.stderr
    assert f"atlhyper get deployments -n {namespace} --cluster acted" in done.stderr


@pytest.mark.usefixtures("deployment")
def test_pods_are_deleted_and_evicted(
    do: Do, system: System, control_plane: ControlPlane, namespace: str
) -> None:
    """The one that was named or selected is gone; its Deployment has made another one."""
    where = ("-n", namespace)

    def names() -> set[str]:
        listed = control_plane.kubectl(
            *where, "get", "pods", "-o", "name", "--field-selector=status.phase=Running"
        )
        return set(listed.split())

    def another(gone: str) -> Callable[[], bool]:
        return lambda: bool(names()) and gone not in names()

    system.until(names)
    (first,) = names()
    well(do("delete", first, *where, "-y", "--now"))
    system.until(another(first))
    (second,) = names()
    well(do("delete", second, *where, "-y", "--evict"))
    system.until(another(second))
    (third,) = names()
    # What is selected are rows: one of a pod that has gone would be a command for nothing.
    system.until(lambda: [row["name"] for row in system.rows("pods", namespace=namespace)] == [third[4:]])
    well(do("delete", "pods", "-l", "app=web", *where, "-y"))
    system.until(another(third))


@pytest.mark.usefixtures("deployment")
def test_anything_is_deleted(do: Do, system: System, control_plane: ControlPlane, namespace: str) -> None:
    """With what it owns, unless that is to be left; and a resource that is not collected."""
    where = ("-n", namespace)
    control_plane.kubectl(*where, "wait", "--for=create", "--timeout=60s", "rs", "-l", "app=web")
    well(do("delete", "deploy/web", *where, "-y", "--cascade", "orphan"))
    # It ends when the garbage collector has let go of what it owned.
    system.until(lambda: control_plane.kubectl(*where, "get", "deploy", "-o", "name") == "")
    assert control_plane.kubectl(*where, "get", "rs", "-o", "name") != ""
    control_plane.kubectl(*where, "create", "serviceaccount", "robot")
    done = do("delete", "serviceaccounts.v1/robot", "-y")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "need a namespace" in done.stderr
    well(do("delete", "serviceaccounts.v1/robot", *where, "-y"))
    assert "robot" not in control_plane.kubectl(*where, "get", "sa", "-o", "name")


def test_apply(do: Do, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Created, configured, unchanged; fields of another manager only by --force-conflicts."""
    where = ("-n", namespace)
    file = tmp_path / "a.yaml"
    settings: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"level": "1"},
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r"},
        "rules": [],
    }
    of_the_cluster = role | {"kind": "ClusterRole", "metadata": {"name": namespace}}

    def applied(*arguments: str) -> subprocess.CompletedProcess[str]:
        file.write_text(yaml.safe_dump_all([settings, role, of_the_cluster]))
        return do("apply", "-f", str(file), *where, *arguments)

    assert well(applied("--dry-run")).count("(dry run)") == 3
    assert control_plane.kubectl(*where, "get", "role", "-o", "name") == ""
    assert well(applied()).count("created") == 3
    assert well(applied()).count("unchanged") == 3
    settings["data"]["level"] = "2"
    told = well(applied())
    assert (told.count("configured"), told.count("unchanged")) == (1, 2)
    assert read(control_plane, namespace, "cm/settings", "{.data.level}") == "2"
    control_plane.kubectl(*where, "patch", "cm", "settings", "-p", '{"data":{"level":"3"}}')
    refused = applied()
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert "conflict" in refused.stderr.lower()
    assert "--force-conflicts" in refused.stderr
    well(applied("--force-conflicts"))
    assert read(control_plane, namespace, "cm/settings", "{.data.level}") == "2"
    well(do("delete", f"clusterroles.v1.rbac.authorization.k8s.io/{namespace}", "-y"))


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[str]:
    """A node of the test's own, Ready."""
    name = "to-be-drained"
    control_plane.kubectl("create", "-f", "-", stdin=json.dumps(node_manifest(name)))
    control_plane.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"node/{name}")
    yield name
    control_plane.kubectl("delete", "node", name)


def test_a_node(
    do: Do, system: System, control_plane: ControlPlane, namespace: str, node: str, tmp_path: Path
) -> None:
    """Cordoned, uncordoned, drained: its pods are gone, the progress is told, it takes no further ones."""
    unschedulable = ("node", node, "-o=jsonpath={.spec.unschedulable}")
    well(do("cordon", node))
    assert control_plane.kubectl("get", *unschedulable) == "true"
    well(do("uncordon", node))
    assert control_plane.kubectl("get", *unschedulable) == ""
    system.until(lambda: node in schedulable_nodes(control_plane.kubectl("get", "nodes", "-o", "json")))
    for number in range(3):
        overrides = json.dumps({"spec": {"nodeName": node}})
        control_plane.kubectl(
            *("-n", namespace, "run", f"p{number}", "--image=example.com/p:1", f"--overrides={overrides}")
        )
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pods", "--all")
    # Other tests may have DaemonSets, whose pods are on every node.
    refused = do("drain", node, "-y", "--ignore-daemonsets")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "p0" in refused.stderr
    # A disruption budget holds it up, until it is seen that the progress is told.
    budget = ("poddisruptionbudget", "all", "-n", namespace)
    control_plane.kubectl("create", *budget, "--selector=run", "--min-available=3")
    told = tmp_path / "told"
    with told.open("w") as output:
        draining = subprocess.Popen(
            [ATLHYPER, "drain", node, "-y", "--ignore-daemonsets", "--force"],
            env=environment(tmp_path, {"ATLHYPER_HOME": str(system.home)}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        system.until(lambda: re.search(rf"acted drain node/{node}: .* is held: .* \(0/3\)", told.read_text()))
        control_plane.kubectl("delete", *budget)
        assert draining.wait(120) == 0, told.read_text()
    finally:
        draining.kill()
        draining.wait()
    assert "3 pods evicted" in told.read_text()
    assert control_plane.kubectl("-n", namespace, "get", "pods", "-o", "name") == ""
    assert control_plane.kubectl("get", *unschedulable) == "true"


@pytest.mark.usefixtures("deployment")
def test_live(do: Do, control_plane: ControlPlane, namespace: str) -> None:
    """The whole object as the API server has it, also of a resource that is not collected."""
    shown = yaml.safe_load(well(do("get", "deploy/web", "-n", namespace, "--live", "-o", "yaml")))
    kept = json.loads(control_plane.kubectl("-n", namespace, "get", "deploy", "web", "-o", "json"))
    assert shown["metadata"]["uid"] == kept["metadata"]["uid"]
    assert shown["spec"] == kept["spec"]
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "robot")
    robot = yaml.safe_load(
        well(do("get", "serviceaccounts.v1/robot", "-n", namespace, "--live", "-o", "yaml"))
    )
    kept = json.loads(control_plane.kubectl("-n", namespace, "get", "serviceaccount", "robot", "-o", "json"))
    assert (robot["kind"], robot["metadata"]["uid"]) == ("ServiceAccount", kept["metadata"]["uid"])


@pytest.mark.usefixtures("deployment")
def test_commands_are_listed(do: Do, namespace: str) -> None:
    """With who asked for them: the user of the token that `up` has made."""
    made = well(do("restart", "deploy/web", "-n", namespace, "-o", "name")).strip()
    assert made in well(do("commands", "--action", "restart", "-o", "name")).split()
    assert "State:           succeeded" in well(do("commands", "show", made))
