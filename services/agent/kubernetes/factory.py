"""Builds the Kubernetes capability from its layers; the only one that knows the implementations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk import client
from services.agent.kubernetes.service import metrics
from services.agent.kubernetes.service.observation import KubernetesObservation, Selection
from services.agent.settings import AgentSettings
from services.runtime.version import VERSION


@asynccontextmanager
async def kubernetes_capability(settings: AgentSettings) -> AsyncIterator[KubernetesObservation]:
    """The capability of the cluster that the settings name. Raises UserError."""
    connection = await client.connect(
        settings.kubeconfig,
        timeout=settings.timeout_http_client,
        user_agent=f"atlhyper-agent/{VERSION}",
    )
    try:
        resources = KubernetesResources(
            connection,
            page_timeout=settings.timeout_snapshot_collect,
            watch_timeout=settings.timeout_watch,
        )
        selection = Selection(
            namespaces=tuple(settings.namespaces),
            secrets=settings.secrets == "metadata",
            further=tuple(settings.resources),
        )
        observation = KubernetesObservation(resources, selection)
        with metrics.exported(observation.collection):
            yield observation
    finally:
        await connection.close()
