"""The whole of one cluster as of one moment, and its counts."""

from msgspec import Struct


class Workloads(Struct, kw_only=True):
    """Replicas of all workloads of one resource."""

    count: int = 0
    """Number of objects."""
    desired: int = 0
    """Replicas they ask for."""
    ready: int = 0
    """Replicas that are ready."""


class ClusterSummary(Struct, kw_only=True):
    """What a cluster looks like in numbers."""

    nodes: dict[str, int] = {}
    """Nodes by state: `Ready`, `NotReady`, `Ready,SchedulingDisabled`, …"""
    pods: dict[str, int] = {}
    """Pods by the state that `kubectl get` shows: `Running`, `CrashLoopBackOff`, …"""
    workloads: dict[str, Workloads] = {}
    """By resource: `deployments`, `statefulsets`, `daemonsets`, `replicasets`, `jobs`."""
    events: dict[str, int] = {}
    """Kubernetes Events still present, by type: `Normal`, `Warning`."""

    def add(self, resource: str, state: str, desired: int, ready: int, sign: int = 1) -> None:
        """Count one object in, or (`sign=-1`) out."""
        if resource in BY_STATE:
            by_state: dict[str, int] = getattr(self, resource)
            by_state[state] = by_state.get(state, 0) + sign
            if not by_state[state]:
                del by_state[state]
        elif resource in WORKLOADS:
            workloads = self.workloads.setdefault(resource, Workloads())
            workloads.count += sign
            workloads.desired += sign * desired
            workloads.ready += sign * ready


BY_STATE = frozenset({"nodes", "pods", "events"})
"""Resources that are counted by state."""
WORKLOADS = frozenset({"deployments", "statefulsets", "daemonsets", "replicasets", "jobs"})
"""Resources whose desired and ready numbers are counted."""
