"""Reads logs from an API server, and finds the pods they are of."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from schemas.kubernetes import KINDS
from schemas.kubernetes.base import LabelSelector, format_labels
from schemas.kubernetes.pod import Pod
from services.agent.kubernetes.repository.access import LOGS
from services.agent.kubernetes.repository.interfaces import ChangeType
from services.agent.kubernetes.sdk.interfaces import Absent, Expired, KubernetesClient, Unreadable

PODS = KINDS["pods"]
WATCH_TIMEOUT = 45
"""Seconds after which the server is asked to end a watch."""
WATCH_GRACE = 5.0
"""Seconds of silence beyond that."""
SILENCE = 300.0
"""Seconds without a line after which a log is asked for anew: a connection that is dead is silent as well."""


class _Meta(Struct, rename="camel"):
    resource_version: str = ""


class _List(Struct):
    metadata: _Meta
    items: list[Raw] | None = None


class _Change(Struct):
    type: str
    object: Raw


class _Spec(Struct):
    selector: Raw = Raw(b"null")


class _Workload(Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


class KubernetesPodLogs:
    """LogRepository over a KubernetesClient."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client

    async def readable(self) -> bool:
        return await self._client.may(LOGS)

    async def pods(self, namespace: str, selection: Mapping[str, str]) -> tuple[list[Pod], str]:
        data = await self._client.get(PODS.path(namespace), selection)
        try:
            found = msgspec.json.decode(data, type=_List)
            return [Pod.decode(item) for item in found.items or ()], found.metadata.resource_version
        except msgspec.DecodeError as error:
            raise Unreadable(f"the list of pods can't be read: {error}") from error

    async def watch(
        self, namespace: str, selection: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[ChangeType, Pod], None]:
        query = {
            **selection,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_TIMEOUT),
        }
        lines = self._client.watch(PODS.path(namespace), query, silence=WATCH_TIMEOUT + WATCH_GRACE)
        async with aclosing(lines):
            async for line in lines:
                if line:
                    yield _change(line)

    async def selector(self, resource: str, namespace: str, name: str) -> str:
        # A list of one: who collects may list, and needs no further right for this.
        data = await self._client.get(
            KINDS[resource].path(namespace), {"fieldSelector": f"metadata.name={name}"}
        )
        try:
            found = msgspec.json.decode(data, type=_List).items or []
            if not found:
                raise Absent(f'{resource} "{name}" not found')
            selector = msgspec.json.decode(found[0], type=_Workload).spec.selector
            if resource == "services":  # a plain map
                return format_labels(msgspec.json.decode(selector, type=dict[str, str] | None))
            return str(msgspec.json.decode(selector, type=LabelSelector | None) or "")
        except msgspec.DecodeError as error:
            raise Unreadable(f"{resource} {name} can't be read: {error}") from error

    def read(self, namespace: str, pod: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        path = f"{PODS.path(namespace)}/{quote(pod, safe='')}/log"
        return self._client.stream(path, query, silence=SILENCE)


def _change(line: bytes) -> tuple[ChangeType, Pod]:
    try:
        change = msgspec.json.decode(line, type=_Change)
        if change.type == "ERROR":
            status: dict[str, Any] = msgspec.json.decode(change.object)
            raise Expired(str(status.get("message", "the watch ended with an error")))
        return ChangeType(change.type), Pod.decode(change.object)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreadable(f"a change of a pod can't be read: {error}") from error
