"""Which containers of a pod are meant, and where they stand."""

from typing import NamedTuple

from schemas.kubernetes.container import Container
from schemas.kubernetes.pod import ContainerStatus, Pod
from schemas.logs import LogError, LogsRequested
from services.agent.capability import LogsUnavailable

_DEFAULT = "kubectl.kubernetes.io/default-container"
"""The annotation by which a pod names the container that is meant where none is."""

_UNDERWAY = frozenset({"ContainerCreating", "PodInitializing", "Pending", "Waiting"})
"""Why a container has not started that is about to. Others, such as ErrImagePull, are told at once."""


class Standing(NamedTuple):
    """What the kubelet says of a container."""

    started: bool
    """It runs or has run: there is a log."""
    running: bool
    restarts: int
    why_not: str
    """The word for why it has not started."""


def names_of(pod: Pod) -> list[str]:
    """Every container, in the order in which they start."""
    spec = pod.spec
    some: list[Container] = [
        *(spec.init_containers or ()), *(spec.containers or ()), *(spec.ephemeral_containers or ())
    ]  # fmt: skip
    return [container.name for container in some]


def default_of(pod: Pod) -> str:
    """The one that is meant where none is named, as kubectl takes it."""
    named = (pod.metadata.annotations or {}).get(_DEFAULT, "")
    if named in names_of(pod):
        return named
    return pod.spec.containers[0].name if pod.spec.containers else ""


def chosen(pod: Pod, asked: LogsRequested) -> list[str]:
    """Those that are asked for, of those there are."""
    there = names_of(pod)
    if asked.all_containers:
        return there
    if asked.containers:
        return [name for name in dict.fromkeys(asked.containers) if name in there]
    return [name for name in (default_of(pod),) if name]


def check(pods: list[Pod], asked: LogsRequested) -> None:
    """Raises LogsUnavailable when a container is named that none of the pods has."""
    there = {name for pod in pods for name in names_of(pod)}
    for name in asked.containers:
        if pods and name not in there:
            known = ", ".join(names_of(pods[0]))
            which = f"pod {asked.pod}" if asked.pod else f"pods such as {pods[0].metadata.name}"
            raise LogsUnavailable(
                LogError(code="invalid", message=f"no container {name!r} in {which}; it has {known}")
            )


def is_coming(pod: Pod, asked: LogsRequested) -> bool:
    """Whether the pod is being started, and none of its containers that are asked for has yet."""
    states = [standing(pod, name) for name in chosen(pod, asked)]
    return pod.status.phase in ("", "Pending") and all(
        not state.started and state.why_not in _UNDERWAY for state in states
    )


def standing(pod: Pod, container: str) -> Standing:
    """Where a container stands."""
    status = pod.status
    some: list[ContainerStatus] = [
        *(status.init_container_statuses or ()),
        *(status.container_statuses or ()),
        *(status.ephemeral_container_statuses or ()),
    ]
    found = next((one for one in some if one.name == container), None)
    if found is None or found.state is None:
        return Standing(False, False, 0, status.reason or status.phase or "Pending")
    state = found.state
    started = bool(state.running or state.terminated or found.restart_count)
    why_not = state.waiting.reason if state.waiting else ""
    return Standing(started, state.running is not None, found.restart_count, why_not or "Waiting")
