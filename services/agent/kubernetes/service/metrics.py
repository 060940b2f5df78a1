"""The collection as Prometheus metrics, read when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schemas.presence import Collection, CollectionState


class _CollectionMetrics(Collector):
    """Labels are bounded: resources by the settings, states by their enumeration."""

    def __init__(self, collection: Callable[[], Sequence[Collection]]) -> None:
        self._collection = collection

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "atlhyper_agent_collection_state",
            "1 for the state in which the collection of a resource is",
            labels=["resource", "state"],
        )
        objects = GaugeMetricFamily(
            "atlhyper_agent_collection_objects", "Objects of a resource", labels=["resource"]
        )
        relists = CounterMetricFamily(
            "atlhyper_agent_collection_relists",
            "Full lists of a resource since the agent started",
            labels=["resource"],
        )
        last = GaugeMetricFamily(
            "atlhyper_agent_collection_last_event_timestamp_seconds",
            "When the API server last sent something of a resource: an object, a bookmark or a page",
            labels=["resource"],
        )
        for item in self._collection():
            for possible in CollectionState:
                state.add_metric([item.resource, possible.value], float(item.state == possible))
            objects.add_metric([item.resource], item.objects)
            relists.add_metric([item.resource], item.relists)
            if item.last_event_at:
                last.add_metric([item.resource], item.last_event_at.timestamp())
        yield from (state, objects, relists, last)


@contextmanager
def exported(collection: Callable[[], Sequence[Collection]]) -> Iterator[None]:
    """Have `/metrics` tell of a collection, as long as the block lasts."""
    metrics = _CollectionMetrics(collection)
    REGISTRY.register(metrics)
    try:
        yield
    finally:
        REGISTRY.unregister(metrics)
