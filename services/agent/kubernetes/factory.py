"""Builds the Kubernetes capability from its layers; the only one that knows the implementations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.agent.kubernetes.repository.access import ACTING
from services.agent.kubernetes.repository.logs import KubernetesPodLogs
from services.agent.kubernetes.repository.objects import KubernetesObjects
from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk import client
from services.agent.kubernetes.service import metrics
from services.agent.kubernetes.service.actions.actions import Allowance, KubernetesActions
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.agent.kubernetes.service.capability import KubernetesCapability
from services.agent.kubernetes.service.logs import KubernetesLogs
from services.agent.kubernetes.service.observation import Selection
from services.agent.settings import AgentSettings
from services.runtime.version import VERSION


@asynccontextmanager
async def kubernetes_capability(settings: AgentSettings) -> AsyncIterator[KubernetesCapability]:
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
        allowance = Allowance(read_only=settings.read_only, dynamic=AllowList.parse(settings.dynamic))
        actions = KubernetesActions(KubernetesObjects(connection), allowance, ACTING)
        capability = KubernetesCapability(
            resources, selection, actions, KubernetesLogs(KubernetesPodLogs(connection))
        )
        with metrics.exported(capability.collection):
            yield capability
    finally:
        await connection.close()
