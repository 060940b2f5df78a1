"""The Kubernetes capability: every resource by a reflector of its own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.frames import Scope
from schemas.ids import AgentKind
from schemas.kubernetes import KINDS
from schemas.kubernetes.generic import generic_kind
from schemas.kubernetes.kind import Kind
from schemas.presence import Collection, CollectionState
from services.agent.capability import Identity, Sink
from services.agent.kubernetes.repository.interfaces import ResourceRepository
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Access,
    Forbidden,
    KubernetesError,
    Unauthorized,
)
from services.agent.kubernetes.service.follower import Follower
from services.agent.kubernetes.service.status import ResourceStatus, left_out
from services.runtime import logs
from services.runtime.errors import EXIT_TEMPORARY, UserError

_log = logs.get_logger(__name__)

CONCURRENT_LISTS = 2
"""Resources listing at once: it bounds the pages in memory and the load on the API server."""

EVENTS = "events"
SECRETS = "secrets"
_CHECK_RIGHTS = "check the credential and its rights with `kubectl get namespaces`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the settings ask for."""

    namespaces: tuple[str, ...] = ()
    """Empty for all."""
    secrets: bool = True
    further: tuple[str, ...] = ()
    """`<plural>.<version>[.<group>]`"""


class KubernetesObservation:
    """Capability of one cluster."""

    kind = AgentKind.KUBERNETES

    def __init__(
        self,
        repository: ResourceRepository,
        selection: Selection,
        kinds: Sequence[Kind] = tuple(KINDS.values()),
    ) -> None:
        self._repository = repository
        self._selection = selection
        self._kinds = [kind for kind in kinds if selection.secrets or kind.resource != SECRETS]
        self._statuses = {kind.resource: ResourceStatus(kind.resource) for kind in self._kinds}
        self._lists = asyncio.Semaphore(CONCURRENT_LISTS)
        self._left_out: list[Collection] = []
        for gvr in selection.further:
            self._add(gvr)
        if not selection.secrets:
            self._left_out.append(left_out(SECRETS, CollectionState.OFF, "AGENT_SECRETS is off"))

    async def identify(self) -> Identity:
        try:
            identity = await self._repository.identity()
        except (Unauthorized, Absent) as error:
            raise UserError(error.reason, _CHECK_RIGHTS) from error
        except Forbidden as error:  # by an API server that has just started: until it has read its own rules
            raise UserError(error.reason, f"{_CHECK_RIGHTS}; then start again", EXIT_TEMPORARY) from error
        except KubernetesError as error:
            raise UserError(
                error.reason,
                "check that it runs with `kubectl get namespaces`; then start again",
                EXIT_TEMPORARY,
            ) from error
        return identity

    def _add(self, gvr: str) -> None:
        """Collect a resource that a setting names, whether or not the cluster has it yet."""
        plural, version, *group = gvr.split(".", 2)
        try:
            kind = generic_kind("".join(group), version, plural, "", namespaced=True)
        except ValueError as error:
            _log.warning("resource can't be collected", resource=gvr, reason=str(error))
            self._left_out.append(left_out(gvr, CollectionState.OFF, str(error)))
            return
        if kind.resource not in self._statuses:
            self._kinds.append(kind)
            self._statuses[kind.resource] = ResourceStatus(kind.resource)

    async def announce(self) -> Sequence[str]:
        try:
            kinds = await self._repository.readable(self._kinds, self._selection.namespaces)
        except KubernetesError as error:
            raise not_asked(error) from error
        return [f"observe:{kind.resource}" for kind in kinds]

    async def lacking(self) -> tuple[str, list[Access]]:
        """Who we are there (empty: unknown), and the rights that we need and do not have.

        Raises KubernetesError.
        """
        refused = await self._repository.lacking(self._kinds, self._selection.namespaces)
        try:
            user = await self._repository.whoami()
        except (Absent, Forbidden):
            user = ""
        return user, refused

    def scope(self) -> Scope:
        return Scope(
            resources=[kind.resource for kind in self._kinds if kind.resource != EVENTS],
            namespaces=list(self._selection.namespaces),
        )

    async def observe(self, sink: Sink) -> None:
        await self._follow([kind for kind in self._kinds if kind.resource != EVENTS], sink)

    async def follow_events(self, sink: Sink) -> None:
        await self._follow([KINDS[EVENTS]], sink)

    async def _follow(self, kinds: Sequence[Kind], sink: Sink) -> None:
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                follower = Follower(
                    kind,
                    self._selection.namespaces,
                    self._repository,
                    sink,
                    self._statuses[kind.resource],
                    self._lists,
                )
                group.create_task(follower.run(), name=f"follow {kind.resource}")

    def collection(self) -> list[Collection]:
        collections = [status.collection() for status in self._statuses.values() if status.scopes]
        return collections + self._left_out

    def counters(self) -> dict[str, int]:
        return {"objects_rejected": sum(status.rejected for status in self._statuses.values())}


def not_asked(error: KubernetesError) -> UserError:
    """For a person, when the API server does not say what we may do."""
    return UserError(
        f"access can't be asked for: {error.reason}", "see `kubectl auth can-i --list`", EXIT_TEMPORARY
    )
