"""READY, STATUS and RESTARTS of pods, by the rules of the API server's printer."""

import json
from typing import Any

import pytest

from schemas.kubernetes.pod import Pod, PrintedPod, print_pod

SIDECAR = {"name": "mesh", "restartPolicy": "Always"}
INIT = {"name": "init"}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


def ended(code: int, reason: str = "", signal: int = 0) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-11-21T07:00:00Z"}}


def container(
    state: dict[str, Any], *, ready: bool = False, restarts: int = 0, **more: Any
) -> dict[str, Any]:
    return {"name": "main", "state": state, "ready": ready, "restartCount": restarts, **more}


def pod(
    *statuses: dict[str, Any],
    inits: tuple[dict[str, Any], ...] = (),
    init_statuses: tuple[dict[str, Any], ...] = (),
    **more: Any,
) -> dict[str, Any]:
    spec = {"containers": [{"name": "main"}] * max(1, len(statuses)), "initContainers": list(inits)}
    status = {
        "phase": "Running",
        "containerStatuses": list(statuses),
        "initContainerStatuses": list(init_statuses),
    }
    conditions = {"conditions": [{"type": t, "status": s} for t, s in more.pop("conditions", {}).items()]}
    metadata = {"deletionTimestamp": "2026-11-21T07:00:00Z"} if more.pop("deleted", False) else {}
    return {"metadata": metadata, "spec": spec, "status": status | conditions | more}


CASES: dict[str, tuple[dict[str, Any], tuple[int, int, str, int]]] = {
    "running": (pod(container(RUNNING, ready=True, restarts=3)), (1, 1, "Running", 3)),
    "pending": (pod(phase="Pending"), (0, 1, "Pending", 0)),
    "crash loop": (pod(container(waiting("CrashLoopBackOff"), restarts=9)), (0, 1, "CrashLoopBackOff", 9)),
    "evicted": (pod(phase="Failed", reason="Evicted"), (0, 1, "Evicted", 0)),
    "gated": (
        pod(phase="Pending")
        | {
            "status": {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}],
            }
        },
        (0, 1, "SchedulingGated", 0),
    ),
    "completed": (pod(container(ended(0, "Completed")), phase="Succeeded"), (0, 1, "Completed", 0)),
    "exit code": (pod(container(ended(3)), phase="Failed"), (0, 1, "ExitCode:3", 0)),
    "signal": (pod(container(ended(137, signal=9)), phase="Failed"), (0, 1, "Signal:9", 0)),
    "one completed, one running, ready": (
        pod(container(ended(0, "Completed")), container(RUNNING, ready=True), conditions={"Ready": "True"}),
        (1, 2, "Running", 0),
    ),
    "one completed, one running, not ready": (
        pod(container(ended(0, "Completed")), container(RUNNING, ready=True), conditions={"Ready": "False"}),
        (1, 2, "NotReady", 0),
    ),
    "first completed, second failed": (
        pod(container(ended(0, "Completed")), container(ended(1, "Error"))),
        (0, 2, "Error", 0),
    ),
    "terminating": (pod(container(RUNNING, ready=True), deleted=True), (1, 1, "Terminating", 0)),
    "deleted after its end": (
        pod(container(ended(0, "Completed")), phase="Succeeded", deleted=True),
        (0, 1, "Completed", 0),
    ),
    "node lost": (pod(container(RUNNING, ready=True), reason="NodeLost", deleted=True), (1, 1, "Unknown", 0)),
    "init running": (
        pod(
            container(waiting("PodInitializing")),
            inits=(INIT, {"name": "second"}),
            init_statuses=(container(ended(0), name="init"), container(RUNNING, name="second", restarts=2)),
            phase="Pending",
        ),
        (0, 1, "Init:1/2", 2),
    ),
    "init failing": (
        pod(
            container(waiting("PodInitializing"), restarts=7),
            inits=(INIT,),
            init_statuses=(container(waiting("CrashLoopBackOff"), name="init", restarts=4),),
            phase="Pending",
        ),
        (0, 1, "Init:CrashLoopBackOff", 4),
    ),
    "init error": (
        pod(inits=(INIT,), init_statuses=(container(ended(1, "Error"), name="init"),), phase="Pending"),
        (0, 1, "Init:Error", 0),
    ),
    "init exit code": (
        pod(inits=(INIT,), init_statuses=(container(ended(2), name="init"),), phase="Pending"),
        (0, 1, "Init:ExitCode:2", 0),
    ),
    "with sidecar": (
        pod(
            container(RUNNING, ready=True, restarts=1),
            inits=(SIDECAR,),
            init_statuses=(container(RUNNING, name="mesh", ready=True, started=True, restarts=2),),
        ),
        (2, 2, "Running", 3),
    ),
    "restarts of a finished init container do not count": (
        pod(
            container(RUNNING, ready=True),
            inits=(INIT,),
            init_statuses=(container(ended(0), name="init", restarts=5),),
        ),
        (1, 1, "Running", 0),
    ),
    "a sidecar that restarts does not hide the containers": (
        pod(
            container(RUNNING, ready=True),
            inits=(SIDECAR,),
            init_statuses=(container(waiting("CrashLoopBackOff"), name="mesh", restarts=3, started=False),),
            conditions={"Initialized": "True", "Ready": "False"},
        ),
        (1, 2, "Init:CrashLoopBackOff", 3),
    ),
}


@pytest.mark.parametrize(("value", "printed"), CASES.values(), ids=CASES)
def test_printed(value: dict[str, Any], printed: tuple[int, int, str, int]) -> None:
    """Each situation shows the words and numbers that kubectl shows."""
    assert print_pod(Pod.decode(json.dumps(value).encode())) == PrintedPod(*printed)
