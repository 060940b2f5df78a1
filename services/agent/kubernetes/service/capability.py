"""The Kubernetes capability: what is seen in a cluster, what its pods say, and what can be done there."""

from collections.abc import Sequence

from services.agent.kubernetes.repository.interfaces import ResourceRepository
from services.agent.kubernetes.sdk.interfaces import KubernetesError
from services.agent.kubernetes.service.actions.actions import KubernetesActions
from services.agent.kubernetes.service.logs import KubernetesLogs
from services.agent.kubernetes.service.observation import KubernetesObservation, Selection, not_asked


class KubernetesCapability(KubernetesObservation):
    """Capability of one cluster."""

    def __init__(
        self,
        repository: ResourceRepository,
        selection: Selection,
        actions: KubernetesActions,
        logs: KubernetesLogs,
    ) -> None:
        super().__init__(repository, selection)
        self.actions = actions
        self.logs = logs

    async def announce(self) -> Sequence[str]:
        observed = await super().announce()
        try:
            return [*observed, *await self.actions.announce(), *await self.logs.announce()]
        except KubernetesError as error:
            raise not_asked(error) from error
