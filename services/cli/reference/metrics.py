"""`docs/reference/metrics.md`: every metric, found where it is declared."""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

import services
from services.agent.kubernetes.service.metrics import exported
from services.cli.reference.text import page, table

_INTRO = """\
For Prometheus, at `/metrics` of each service, beside the metrics of the process and of Python.
"""

_SERVED_BY = {
    "agent": "Of the agent",
    "api": "Of the API",
    "master": "Of the master",
    "persistence": "Of master and API",
    "runtime": "Of every service",
}
"""By the package that declares them."""


def metrics_page() -> dict[str, str]:
    """The page, by its path in the repository."""
    rows: dict[str, set[tuple[str, str, str, str]]] = {package: set() for package in _SERVED_BY}
    for module, metric in _declared():
        [family] = metric.describe()
        rows[module.split(".")[1]].add(_row(family, metric._labelnames))  # noqa: SLF001 told nowhere else
    rows["agent"].update(_row(family, family._labelnames) for family in _of_collection())  # noqa: SLF001
    parts = ["# Metrics", _INTRO]
    for package, title in _SERVED_BY.items():
        if rows[package]:
            parts += [
                f"## {title}",
                table(("Metric", "Type", "Labels", "Meaning"), sorted(rows[package])),
            ]
    return {"docs/reference/metrics.md": page(parts)}


def _declared() -> Iterator[tuple[str, MetricWrapperBase]]:
    for package in _SERVED_BY:
        root = importlib.import_module(f"{services.__name__}.{package}")
        for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if ".migrations" in info.name or info.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, MetricWrapperBase):
                    yield info.name, value


def _of_collection() -> Iterator[Any]:
    """Those of the agent that are made anew each time they are asked for."""
    known = {family.name for family in REGISTRY.collect()}
    with exported(list):
        yield from (family for family in REGISTRY.collect() if family.name not in known)


def _row(family: Metric, labels: Sequence[str]) -> tuple[str, str, str, str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation
