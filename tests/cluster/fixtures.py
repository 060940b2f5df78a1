"""Fixtures for tests against a real kube-apiserver; `tests/conftest.py` loads this module as a plugin.

The programs are built before the first test, outside its time limit.
"""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.cli.cluster.build import KWOK_STAGES, ensure_binaries
from services.cli.cluster.components import COMPONENTS, STORE
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.cluster.throwaway import Throwaway

_NEEDS_PROGRAMS = {"control_plane", "own_control_plane", "log_plane"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a control plane, so that `-m "not cluster"` leaves it out."""
    for item in items:
        if _NEEDS_PROGRAMS & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs now if a selected test needs them: minutes on a fresh machine, else nothing."""
    if session.config.option.collectonly or not any(
        item.get_closest_marker("cluster") for item in session.items
    ):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        ensure_binaries([*COMPONENTS, "kubectl", KWOK_STAGES, "nats"])


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A whole control plane with three Ready nodes, one for the run. Use a `namespace`; do not break it."""
    with Throwaway(tmp_path_factory.mktemp("control-plane")) as started:
        started.add_nodes(3)
        yield started


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace in `control_plane`, ready to admit pods. It is deleted without waiting for it."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl(
        "wait", "--for=create", "--timeout=50s", f"--namespace={name}", "serviceaccount/default"
    )
    yield name
    with suppress(ControlPlaneError):
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver for one test, which may break them. Pods stay Pending: nothing acts on them."""
    with Throwaway(tmp_path / "own-control-plane", components=STORE) as started:
        yield started


@pytest.fixture
def cluster_id() -> str:
    """An id no other test has."""
    return f"test-{secrets.token_hex(4)}"
