"""How large each benchmark is: in full, and small to see that it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of objects and agents, seconds, and changes a second."""

    pods: int = 5000
    """In the populated cluster."""
    nodes: int = 50
    settle: float = 30.0
    """Seconds: the cores of a small machine are to be the benchmark's."""

    change_rate: int = 50
    """Changes a second of `change_visible`."""
    change_seconds: float = 20.0

    fleet: int = 1000
    fleet_pods: int = 50
    """Objects of each simulated agent."""
    fleet_seconds: float = 30.0
    """Of steady state, in each of two phases."""
    fleet_change_interval: float = 10.0
    """Seconds between two changes of one agent."""

    outage_agents: int = 100
    outage_seconds: float = 5.0
    outage_rounds: int = 3

    others: int = 20
    """Agents in sync with one change a second each."""
    others_seconds: float = 30.0
    arrival_pods: int = 30_000
    arrivals: int = 3

    slope_objects: tuple[int, ...] = (5000, 15_000, 30_000)
    slope_settle: float = 15.0

    commands: int = 100
    """One after the other, each beside `kubectl scale` and a bare PATCH."""
    command_burst: int = 1000
    """Commands that are asked for as fast as they are taken."""
    command_agents: int = 100

    events: int = 30_000
    event_agents: int = 16

    listed_pods: int = 5000
    """Of the one cluster whose pods are listed."""
    labelled_pods: int = 100_000
    """Of a fleet, a tenth of them with the label that is asked for."""
    labelled_clusters: int = 50
    asked: int = 40
    """Requests of each list."""
    readers: int = 50
    readers_changes: int = 100
    """Changes a second that are written beside them."""
    readers_seconds: float = 20.0


FULL = Sizes()
SMALL = Sizes(
    pods=100,
    nodes=2,
    settle=1.0,
    change_rate=20,
    change_seconds=5.0,
    fleet=30,
    fleet_seconds=8.0,
    outage_agents=10,
    outage_seconds=2.0,
    outage_rounds=1,
    others=5,
    others_seconds=8.0,
    arrival_pods=2000,
    arrivals=1,
    slope_objects=(200, 600, 1000),
    slope_settle=5.0,
    commands=10,
    command_burst=100,
    command_agents=10,
    events=8000,
    listed_pods=500,
    labelled_pods=2000,
    labelled_clusters=5,
    asked=10,
    readers=5,
    readers_changes=20,
    readers_seconds=5.0,
)
