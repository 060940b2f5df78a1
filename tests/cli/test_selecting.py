"""`atlhyper get`, `describe` and `events` by selectors, names and order, as kubectl's habits are."""

import pytest

from schemas.kubernetes.base import KubeObject, LabelSelector, OwnerReference
from schemas.kubernetes.config import ConfigMap
from schemas.kubernetes.network import Service, ServiceSpec
from schemas.kubernetes.pod import ContainerStatus, Pod, PodSpec, PodStatus
from schemas.kubernetes.workload import Deployment, DeploymentSpec, ReplicaSet
from tests.api.fixtures import Fleet, meta
from tests.cli.conftest import Run, words


def pod(name: str, restarts: int = 0, node: str = "n1", phase: str = "Running", **labels: str) -> Pod:
    made = meta(name, "default")
    made.labels = labels
    made.owner_references = [OwnerReference(kind="ReplicaSet", name="web-1", controller=True)]
    status = PodStatus(phase=phase, container_statuses=[ContainerStatus(name="c", restart_count=restarts)])
    return Pod(metadata=made, spec=PodSpec(node_name=node), status=status)


@pytest.fixture
async def labelled(fleet: Fleet) -> None:
    """`eu` with three pods of one Deployment, `us` with one."""
    replicas = ReplicaSet(metadata=meta("web-1", "default"))
    replicas.metadata.owner_references = [OwnerReference(kind="Deployment", name="web", controller=True)]
    eu = {
        "pods": [
            pod("a", 3, app="web", tier="front"),
            pod("b", 11, "n2", app="web"),
            pod("c", 0, phase="Failed", app="db"),
        ],
        "replicasets": [replicas],
        "deployments": [Deployment(metadata=meta("web", "default"))],
    }
    await fleet.beats()
    for cluster, objects in (("eu", eu), ("us", {"pods": [pod("d", 7, app="web")]})):
        epoch = await fleet.state(cluster, objects)
        await fleet.heartbeat(cluster, dict.fromkeys([*objects, "events"], ("synced", "")), epoch=epoch)


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("-l", "app=web"), ["a", "b", "d"]),
        (("-l", "app in (web,db),!tier", "--cluster", "eu"), ["b", "c"]),
        (("--field-selector", "status.phase!=Running"), ["c"]),
        (("--node", "n2"), ["b"]),
        (("--owner", "Deployment/web", "--cluster", "eu"), ["a", "b", "c"]),
        (("-q", "N2"), ["b"]),
        (("--sort-by", "restarts"), ["c", "a", "d", "b"]),
        (("--sort-by=-restarts", "--limit", "2"), ["b", "d"]),
        (("--sort-by", "{.metadata.name}"), ["a", "b", "c", "d"]),
        (("--sort-by=-RESTARTS", "--limit", "2"), ["b", "d"]),
        (("--sort-by", "AGE", "--limit", "1"), ["d"]),
    ],
)
async def test_rows_that_were_asked_for(atlhyper: Run, arguments: tuple[str, ...], names: list[str]) -> None:
    """Selectors, filters and order are the API's; the fleet is asked as a whole."""
    result = await atlhyper("get", "pods", *arguments, "-o", "name")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == [f"pod/{name}" for name in names]


@pytest.mark.usefixtures("labelled")
async def test_labels_as_columns(atlhyper: Run) -> None:
    """-L gives one a column under its last part, --show-labels all of them in one."""
    table = words(
        (await atlhyper("get", "pods", "--cluster", "eu", "-L", "app,tier", "--show-labels")).stdout
    )
    assert table[0][-3:] == ["APP", "TIER", "LABELS"]
    assert [row[-3:] for row in table[1:]] == [
        ["web", "front", "app=web,tier=front"],
        ["web", "<none>", "app=web"],
        ["db", "<none>", "app=db"],
    ]
    bare = words((await atlhyper("get", "pods", "--cluster", "eu", "--no-headers")).stdout)
    assert [row[0] for row in bare] == ["a", "b", "c"]


@pytest.mark.usefixtures("labelled")
async def test_several_names(atlhyper: Run) -> None:
    """As kubectl: behind one kind, or each with its own; of what is missing each is told."""
    assert [row[1] for row in words((await atlhyper("get", "pods", "a", "d")).stdout)[1:]] == ["a", "d"]
    mixed = await atlhyper("get", "pod/a", "deploy/web", "--cluster", "eu", "-o", "name")
    assert mixed.stdout.split() == ["pod/a", "deployment.apps/web"]
    partly = await atlhyper("get", "pods", "a", "x", "--cluster", "eu", "-o", "name")
    assert (partly.exit_code, partly.stdout.split()) == (5, ["pod/a"])
    assert "kubernetes/eu has no pods default/x" in partly.stderr


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "pods", "-l", "app==="), 2, "labelSelector"),
        (("get", "pods", "--field-selector", "spec.nope=1"), 2, "spec.nope"),
        (("get", "pods", "--sort-by", "nope"), 2, "restarts"),
        (("get", "pods", "--owner", "web"), 2, "owner"),
        (("get", "pod/a", "b"), 2, "kind/name"),
        (("get", "pods,svc", "a"), 2, "kind/name"),
        (("get", "pods", "-w", "--owner", "Deployment/web"), 2, "cannot be followed"),
        (("get", "agents", "-w"), 2, "cannot be followed"),
        (("events", "--types", "Odd"), 2, "Normal and Warning"),
        (("events", "--for", "web"), 2, "kind/name"),
        (("events", "--since", "soon"), 2, "30m"),
        (("events", "-w", "--until", "1h"), 2, "exclude"),
        (("describe", "pod", "x", "--cluster", "eu"), 3, "has no pods default/x"),
    ],
)
async def test_mistakes(atlhyper: Run, arguments: tuple[str, ...], code: int, text: str) -> None:
    """Each is told with its place and the next step; nothing is shown as if it were the answer."""
    result = await atlhyper(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("labelled")
async def test_describe(fleet: Fleet, atlhyper: Run) -> None:
    """One object in words: fields, labels, what it is connected with, Events."""
    await fleet.event("eu", "e1", namespace="default", reason="Pulling")
    told = await atlhyper("describe", "pod", "a", "--cluster", "eu")
    assert told.exit_code == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    for expected in (
        ["Name:", "a"],
        ["Cluster:", "eu"],
        ["Labels:", "app=web"],
        ["Controlled", "By:", "ReplicaSet/web-1"],
    ):
        assert expected in lines
    assert any(line[:3] == ["owns", "(from)", "ReplicaSet"] for line in lines), told.stdout
    assert "As Of: 2026-11-21T08:00:00Z" in told.stdout


async def test_described_names_and_order(fleet: Fleet, atlhyper: Run) -> None:
    """Names that somebody gave stay as they are; Events are in the order of time, and name their object."""
    labels = LabelSelector(match_labels={"app": "web"})
    made = Deployment(metadata=meta("web", "default"), spec=DeploymentSpec(selector=labels, replicas=1))
    service = Service(
        metadata=meta("web", "default"), spec=ServiceSpec(selector={"app": "web"}, cluster_ip="10.0.0.1")
    )
    owned = Pod(metadata=meta("web-0", "shop"))
    owned.metadata.owner_references = [OwnerReference(kind="ReplicaSet", name="web-1", controller=True)]
    replicas = ReplicaSet(metadata=meta("web-1", "shop"))
    settings = ConfigMap(metadata=meta("web", "default"), data={"currency": "EUR"})
    kinds = ("deployments", "services", "replicasets", "pods", "configmaps")
    made_of: list[KubeObject] = [made, service, replicas, owned, settings]
    await fleet.state("eu", {kind: [each] for kind, each in zip(kinds, made_of, strict=True)})
    assert "\n  currency: 3 bytes\n" in (await atlhyper("describe", "cm", "web")).stdout
    told = (await atlhyper("describe", "deployment", "web")).stdout
    assert "  Selector:\n    Match Labels:\n      app: web\n" in told
    told = (await atlhyper("describe", "service", "web")).stdout
    assert "  Selector:\n    app: web\n" in told
    assert "\nStatus:" not in told
    assert "\nCluster IP:      10.0.0.1\n" in told
    await fleet.event("eu", "e1", minutes_ago=0.5 / 60, reason="Later")
    await fleet.event("eu", "e2", minutes_ago=1 / 60, reason="Earlier")
    told = (await atlhyper("describe", "pod", "web-0", "-n", "shop")).stdout
    assert 0 < told.index("Earlier") < told.index("Later"), told
    told = (await atlhyper("describe", "replicaset", "web-1", "-n", "shop")).stdout
    assert [line.split()[4] for line in told.splitlines() if "Back-off" in line] == ["pod/web-0"] * 2, told


@pytest.mark.usefixtures("labelled")
async def test_events_of_the_fleet(fleet: Fleet, atlhyper: Run) -> None:
    """kubectl's columns, the newest last; narrowed by object, type, reason, time and text."""
    await fleet.event("eu", "e1", minutes_ago=5)
    await fleet.event("us", "e2", type="Normal", reason="Pulled", message="100% pulled")
    table = words((await atlhyper("events", "-A")).stdout)
    assert table[0] == ["CLUSTER", "NAMESPACE", "LAST-SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [row[0] for row in table[1:]] == ["eu", "us"]
    for arguments, found in (
        (("--types", "warning"), ["eu"]),
        (("--types", "Normal,Warning"), ["eu", "us"]),
        (("--reason", "Pulled"), ["us"]),
        (("--for", "po/web-0"), ["eu", "us"]),
        (("--for", "Deployment/web-0"), []),
        (("-q", "100%"), ["us"]),
        (("--since", "2026-11-21T07:58:00Z"), ["us"]),
        (("--until", "2026-11-21T07:58:00Z"), ["eu"]),
    ):
        rows = words((await atlhyper("events", "-n", "shop", "--no-headers", *arguments)).stdout)
        assert [row[0] for row in rows] == found, arguments
    cut = await atlhyper("events", "-A", "--limit", "1")
    assert [row[0] for row in words(cut.stdout)[1:]] == ["us"]
    assert "1 older Event is not shown" in cut.stderr
