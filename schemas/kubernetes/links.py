"""Which other objects an object names: what its owner references, selectors and the like declare.

A link is read from the stored projection by a view of it, which decodes nothing but what links are made of:
a fifth of the time, and a graph has hundreds of objects.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import field

from schemas.kubernetes.autoscaling import HORIZONTAL_POD_AUTOSCALER
from schemas.kubernetes.base import BareMeta, KubeStruct, ObjectReference, without_nulls
from schemas.kubernetes.batch import JOB
from schemas.kubernetes.config import CONFIG_MAP, SECRET
from schemas.kubernetes.container import EnvFromSource, EnvVar, NamedSource, Volume
from schemas.kubernetes.event import EVENT
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.network import INGRESS, SERVICE, IngressSpec
from schemas.kubernetes.node import NODE
from schemas.kubernetes.pod import POD
from schemas.kubernetes.storage import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from schemas.kubernetes.workload import DAEMON_SET, DEPLOYMENT, REPLICA_SET, STATEFUL_SET


class Relation(StrEnum):
    """How one object is related to another, in a fixed direction; the fields are those of the API."""

    OWNS = "owns"
    """Owner → owned: `metadata.ownerReferences` of the owned, the managing one."""
    RUNS_ON = "runs-on"
    """Pod → Node: `spec.nodeName`."""
    SELECTS = "selects"
    """Service, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job → Pod: `spec.selector`."""
    ROUTES_TO = "routes-to"
    """Ingress → Service, or what else its backends name: `spec.rules`, `spec.defaultBackend`."""
    BINDS = "binds"
    """PersistentVolumeClaim → PersistentVolume: `spec.volumeName` or `spec.claimRef` of the other."""
    MOUNTS = "mounts"
    """Pod → PersistentVolumeClaim, ConfigMap, Secret: `spec.volumes`."""
    USES = "uses"
    """Pod → ConfigMap, Secret: `env`, `envFrom`, `spec.imagePullSecrets`; Ingress → Secret: `spec.tls`."""
    SCALES = "scales"
    """HorizontalPodAutoscaler → its target: `spec.scaleTargetRef`."""
    CONCERNS = "concerns"
    """Event → the object it is about: `involvedObject`."""


class Reference(NamedTuple):
    """How an object names another one."""

    kind: str
    group: str | None
    """Empty for the core group; None where it does not say."""
    namespace: str
    """That of the object which names it, where it says no other."""
    name: str
    uid: str = ""


class Link(NamedTuple):
    """One relation that an object declares."""

    relation: Relation
    reference: Reference
    outward: bool = True
    """The edge goes from the object to the one it names; else the other way round."""


class Declared(NamedTuple):
    """What one object says of others."""

    links: tuple[Link, ...]
    """Each once."""
    labels: dict[str, str]
    selector: dict[str, Any] | None
    """By which it selects pods of its namespace, a meta/v1 LabelSelector; None: it selects none."""


NOTHING = Declared((), {}, None)

NAMED_BY: dict[str, dict[Relation, tuple[str, ...]]] = {
    SERVICE.resource: {Relation.ROUTES_TO: (INGRESS.resource,)},
    CONFIG_MAP.resource: {Relation.MOUNTS: (POD.resource,), Relation.USES: (POD.resource,)},
    SECRET.resource: {Relation.MOUNTS: (POD.resource,), Relation.USES: (POD.resource, INGRESS.resource)},
    PERSISTENT_VOLUME_CLAIM.resource: {Relation.MOUNTS: (POD.resource,)},
}
"""By resource: which others name objects of it that are in their own namespace."""
NAME_ANYTHING: dict[Relation, tuple[str, ...]] = {
    Relation.SCALES: (HORIZONTAL_POD_AUTOSCALER.resource,),
    Relation.ROUTES_TO: (INGRESS.resource,),
}
"""Those that may name objects of any kind in their own namespace."""
SELECT_PODS = tuple(
    kind.resource for kind in (SERVICE, DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB)
)
"""Those whose objects select pods of their namespace."""


def declared(resource: str, body: bytes) -> Declared:
    """What an object says of others, by its stored projection; NOTHING when it cannot be read.

    Of a resource that has no projection of ours it is the owner.
    """
    decoder = _decoder(resource)
    try:
        view = decoder.decode(body)
    except msgspec.ValidationError:
        try:
            view = msgspec.convert(without_nulls(msgspec.json.decode(body)), _view(resource), strict=False)
        except (msgspec.MsgspecError, RecursionError):
            return NOTHING
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING
    links = tuple(dict.fromkeys((*view.owner_links(), *view.links())))
    return Declared(links, view.metadata.labels or {}, view.selector())


# -- views ------------------------------------------------------------------------------------------------


class _View(KubeStruct):
    metadata: BareMeta = field(default_factory=BareMeta)

    def owner_links(self) -> Iterator[Link]:
        owner = self.metadata.owner
        if owner and owner.kind and owner.name:
            group = _group(owner.api_version)
            reference = Reference(owner.kind, group, self.metadata.namespace, owner.name, owner.uid)
            yield Link(Relation.OWNS, reference, outward=False)

    def links(self) -> Iterator[Link]:
        yield from ()

    def selector(self) -> dict[str, Any] | None:
        return None

    def _to(self, relation: Relation, kind: Kind, name: str) -> Iterator[Link]:
        """To one of the same namespace, or of none; nothing for an empty name."""
        if name:
            namespace = self.metadata.namespace if kind.namespaced else ""
            yield Link(relation, Reference(kind.kind, kind.group, namespace, name))


class _Container(KubeStruct):
    env: list[EnvVar] | None = None
    env_from: list[EnvFromSource] | None = None


class _PodSpec(KubeStruct):
    node_name: str = ""
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    image_pull_secrets: list[NamedSource] | None = None
    volumes: list[Volume] | None = None


class _Pod(_View):
    spec: _PodSpec = field(default_factory=_PodSpec)

    def links(self) -> Iterator[Link]:
        spec = self.spec
        yield from self._to(Relation.RUNS_ON, NODE, spec.node_name)
        for volume in spec.volumes or []:
            yield from self._mounted(volume)
        for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers):
            for container in containers or []:
                yield from self._used(container)
        for secret in spec.image_pull_secrets or []:
            yield from self._to(Relation.USES, SECRET, secret.name)

    def _mounted(self, volume: Volume) -> Iterator[Link]:
        if volume.persistent_volume_claim:
            claim = volume.persistent_volume_claim.claim_name
            yield from self._to(Relation.MOUNTS, PERSISTENT_VOLUME_CLAIM, claim)
        if volume.ephemeral:
            claim = f"{self.metadata.name}-{volume.name}"
            yield from self._to(Relation.MOUNTS, PERSISTENT_VOLUME_CLAIM, claim)
        if volume.config_map:
            yield from self._to(Relation.MOUNTS, CONFIG_MAP, volume.config_map.name)
        if volume.secret:
            yield from self._to(Relation.MOUNTS, SECRET, volume.secret.secret_name)
        for source in (volume.projected.sources if volume.projected else None) or []:
            if source.config_map:
                yield from self._to(Relation.MOUNTS, CONFIG_MAP, source.config_map.name)
            if source.secret:
                yield from self._to(Relation.MOUNTS, SECRET, source.secret.name)

    def _used(self, container: _Container) -> Iterator[Link]:
        sources: list[tuple[Kind, Any]] = []
        for item in container.env_from or []:
            sources += [(CONFIG_MAP, item.config_map_ref), (SECRET, item.secret_ref)]
        for variable in container.env or []:
            if (origin := variable.value_from) is not None:
                sources += [(CONFIG_MAP, origin.config_map_key_ref), (SECRET, origin.secret_key_ref)]
        for kind, source in sources:
            if source:
                yield from self._to(Relation.USES, kind, source.name)


class _ServiceSpec(KubeStruct):
    type: str = ""
    selector: dict[str, str] | None = None


class _Service(_View):
    spec: _ServiceSpec = field(default_factory=_ServiceSpec)

    def selector(self) -> dict[str, Any] | None:
        # Without a selector its endpoints are somebody else's to write; ExternalName has none.
        spec = self.spec
        return {"matchLabels": spec.selector} if spec.selector and spec.type != "ExternalName" else None


class _WorkloadSpec(KubeStruct):
    selector: dict[str, Any] | None = None


class _Workload(_View):
    spec: _WorkloadSpec = field(default_factory=_WorkloadSpec)

    def selector(self) -> dict[str, Any] | None:
        return self.spec.selector


class _Ingress(_View):
    spec: IngressSpec = field(default_factory=IngressSpec)

    def links(self) -> Iterator[Link]:
        spec = self.spec
        paths = (path for rule in spec.rules or [] if rule.http for path in rule.http.paths or [])
        for backend in (spec.default_backend, *(path.backend for path in paths)):
            if backend and backend.service:
                yield from self._to(Relation.ROUTES_TO, SERVICE, backend.service.name)
            if backend and backend.resource:
                yield from _named(Relation.ROUTES_TO, backend.resource, self.metadata.namespace)
        for tls in spec.tls or []:
            yield from self._to(Relation.USES, SECRET, tls.secret_name)


class _ClaimSpec(KubeStruct):
    volume_name: str = ""


class _Claim(_View):
    spec: _ClaimSpec = field(default_factory=_ClaimSpec)

    def links(self) -> Iterator[Link]:
        yield from self._to(Relation.BINDS, PERSISTENT_VOLUME, self.spec.volume_name)


class _VolumeSpec(KubeStruct):
    claim_ref: ObjectReference | None = None


class _Volume(_View):
    spec: _VolumeSpec = field(default_factory=_VolumeSpec)

    def links(self) -> Iterator[Link]:
        claim, kind = self.spec.claim_ref, PERSISTENT_VOLUME_CLAIM
        if claim and claim.name:
            reference = Reference(kind.kind, kind.group, claim.namespace, claim.name, claim.uid)
            yield Link(Relation.BINDS, reference, outward=False)


class _AutoscalerSpec(KubeStruct):
    scale_target_ref: ObjectReference = field(default_factory=ObjectReference)


class _Autoscaler(_View):
    spec: _AutoscalerSpec = field(default_factory=_AutoscalerSpec)

    def links(self) -> Iterator[Link]:
        yield from _named(Relation.SCALES, self.spec.scale_target_ref, self.metadata.namespace)


class _Event(_View):
    involved_object: ObjectReference = field(default_factory=ObjectReference)

    def links(self) -> Iterator[Link]:
        involved = self.involved_object
        yield from _named(Relation.CONCERNS, involved, involved.namespace)


def _named(relation: Relation, named: ObjectReference, namespace: str) -> Iterator[Link]:
    if named.kind and named.name:
        group = _group(named.api_version)
        yield Link(relation, Reference(named.kind, group, namespace, named.name, named.uid))


def _group(api_version: str) -> str | None:
    if not api_version:
        return None
    group, slash, _ = api_version.partition("/")
    return group if slash else ""


def _views(kinds: Iterable[Kind], view: type[_View]) -> dict[str, type[_View]]:
    return {kind.resource: view for kind in kinds}


_VIEWS: dict[str, type[_View]] = {
    POD.resource: _Pod,
    SERVICE.resource: _Service,
    INGRESS.resource: _Ingress,
    PERSISTENT_VOLUME_CLAIM.resource: _Claim,
    PERSISTENT_VOLUME.resource: _Volume,
    HORIZONTAL_POD_AUTOSCALER.resource: _Autoscaler,
    EVENT.resource: _Event,
    **_views((DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB), _Workload),
}


def _view(resource: str) -> type[_View]:
    return _VIEWS.get(resource, _View)


@cache
def _decoder_of(view: type[_View]) -> msgspec.json.Decoder[_View]:
    return msgspec.json.Decoder(view)


def _decoder(resource: str) -> msgspec.json.Decoder[_View]:
    return _decoder_of(_view(resource))
