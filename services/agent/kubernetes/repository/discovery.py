"""What an API server serves (discovery)."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from schemas.kubernetes.generic import GenericKind, generic_kind
from schemas.kubernetes.kind import Kind
from services.agent.kubernetes.repository.interfaces import Served
from services.agent.kubernetes.sdk.interfaces import JSON, Absent, KubernetesClient, Unreadable

Read = TypeVar("Read", bound=Struct)


class _ApiResource(Struct):
    """metav1.APIResource"""

    name: str = ""
    kind: str = ""
    namespaced: bool = False


class _ApiResourceList(Struct):
    """metav1.APIResourceList"""

    resources: list[_ApiResource] | None = None


class _GroupVersion(Struct, rename={"group_version": "groupVersion"}):
    """metav1.GroupVersionForDiscovery"""

    group_version: str = ""


class _ApiGroup(Struct):
    """metav1.APIGroup"""

    versions: list[_GroupVersion] | None = None


class _ApiGroupList(Struct):
    """metav1.APIGroupList"""

    kind: str = ""
    groups: list[_ApiGroup] | None = None


AGGREGATED = ",".join(
    f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
"""Everything that is served in two requests; Kubernetes 1.27 and later."""


class _ResponseKind(Struct):
    """metav1.GroupVersionKind"""

    kind: str = ""


class _Subresource(Struct):
    """apidiscovery.APISubresourceDiscovery"""

    subresource: str = ""
    verbs: list[str] | None = None


class _Resource(Struct, rename="camel"):
    """apidiscovery.APIResourceDiscovery"""

    resource: str = ""
    response_kind: _ResponseKind | None = None
    scope: str = ""
    verbs: list[str] | None = None
    subresources: list[_Subresource] | None = None


class _Version(Struct):
    """apidiscovery.APIVersionDiscovery"""

    version: str = ""
    resources: list[_Resource] | None = None


class _Name(Struct):
    name: str = ""


class _Group(Struct):
    """apidiscovery.APIGroupDiscovery"""

    metadata: _Name = msgspec.field(default_factory=_Name)
    versions: list[_Version] | None = None


class _Groups(Struct):
    """apidiscovery.APIGroupDiscoveryList"""

    kind: str = ""
    items: list[_Group] | None = None


async def served_resources(client: KubernetesClient) -> list[Served]:
    """Every resource in every version, the one that the server prefers first. Raises KubernetesError."""
    found: list[Served] = []
    for path in ("/api", "/apis"):
        data = await client.get(path, {}, accept=AGGREGATED)
        try:
            groups = msgspec.json.decode(data, type=_Groups)
        except msgspec.DecodeError as error:
            raise Unreadable(f"{path} is not what an API server says: {error}") from error
        if groups.kind != "APIGroupDiscoveryList":
            raise Unreadable(f"{path}: the API server does not say what it serves in one list (before 1.27)")
        for group in groups.items or []:
            for version in group.versions or []:
                name, resources = group.metadata.name, version.resources or []
                found += (_served(name, version.version, resource) for resource in resources)
    return found


def _served(group: str, version: str, resource: _Resource) -> Served:
    return Served(
        group,
        version,
        resource.resource,
        resource.response_kind.kind if resource.response_kind else "",
        resource.scope == "Namespaced",
        frozenset(resource.verbs or ()),
        {item.subresource: frozenset(item.verbs or ()) for item in resource.subresources or ()},
    )


async def read(client: KubernetesClient, path: str, type_: type[Read]) -> Read:
    """One object. Raises KubernetesError, also for what is none: a proxy's page, say."""
    data = await client.get(path, {})
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.DecodeError as error:
        raise Unreadable(f"{path} is not what an API server says: {error}") from error


async def resolve(client: KubernetesClient, kind: Kind) -> Kind:
    """See ResourceRepository. That a path is not found proves nothing, as any proxy says so: what the server
    has must be listed, and the resource must be missing there."""
    if kind.group:
        groups = await _read_present(client, "/apis", _ApiGroupList)
        if groups.kind != "APIGroupList":
            raise Unreadable("/apis is not what an API server says: no APIGroupList")
        served = {v.group_version for group in groups.groups or [] for v in group.versions or []}
        if kind.api_version not in served:
            raise Absent(f"404 the API server has no {kind.api_version}")
    path = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
    listed = await _read_present(client, path, _ApiResourceList)
    for resource in listed.resources or []:
        if resource.name == kind.plural:
            if isinstance(kind, GenericKind):
                return generic_kind(kind.group, kind.version, kind.plural, resource.kind, resource.namespaced)
            return kind
    raise Absent(f"404 {kind.api_version} has no {kind.plural}")


async def _read_present(client: KubernetesClient, path: str, type_: type[Read]) -> Read:
    """What every API server has, or had a moment ago."""
    try:
        return await read(client, path, type_)
    except Absent as error:
        raise Unreadable(f"{path}: {error.reason}") from error
