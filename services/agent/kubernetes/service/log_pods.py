"""Which pods are meant, and whether one of them is to be waited for."""

import asyncio

from schemas.kubernetes.pod import Pod
from schemas.logs import LogError, LogsRequested
from services.agent.capability import LogsUnavailable
from services.agent.kubernetes.repository.interfaces import LogRepository
from services.agent.kubernetes.service.log_containers import check, is_coming
from services.runtime.backoff import Backoff

WORKLOADS = ("deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "services")
"""What finds its pods by their labels."""


async def selection_of(repository: LogRepository, asked: LogsRequested) -> dict[str, str]:
    """How the API server is asked for them. Raises KubernetesError and LogsUnavailable."""
    if asked.pod:
        return {"fieldSelector": f"metadata.name={asked.pod}"}
    if asked.selector:
        return {"labelSelector": asked.selector}
    if asked.resource not in WORKLOADS:
        known = ", ".join(("pods", *WORKLOADS))
        raise LogsUnavailable(
            LogError(code="invalid", message=f"{asked.resource!r} has no pods of its own; {known} have")
        )
    selector = await repository.selector(asked.resource, asked.namespace, asked.name)
    if not selector:
        raise LogsUnavailable(
            LogError(code="invalid", message=f"{asked.resource} {asked.name} has no selector for pods")
        )
    return {"labelSelector": selector}


async def find(
    repository: LogRepository, asked: LogsRequested, selection: dict[str, str]
) -> tuple[list[Pod], str]:
    """The pods, and the resource version of that; once one has started, where that is to be expected.

    Waits for `pod_running_timeout` at most, and returns what there is then. Raises KubernetesError, and
    LogsUnavailable when none of the pods has a container that is named.
    """
    loop = asyncio.get_running_loop()
    deadline, backoff = loop.time() + asked.pod_running_timeout, Backoff(base=0.5, cap=2.0)
    while True:
        pods, version = await repository.pods(asked.namespace, selection)
        check(pods, asked)
        left = deadline - loop.time()
        if left <= 0 or not _will_start(pods, asked):
            return pods, version
        await asyncio.sleep(min(left, backoff.delay()))


def _will_start(pods: list[Pod], asked: LogsRequested) -> bool:
    """Whether there is nothing to be read yet that soon will be."""
    if asked.previous or asked.positions or asked.selector:  # for labels kubectl does not wait either
        return False
    if asked.pod:
        return bool(pods) and is_coming(pods[0], asked)
    return not asked.follow and all(is_coming(pod, asked) for pod in pods)  # followed are those that come
