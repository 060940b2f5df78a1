"""What makes a resource collectable: one declaration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from schemas.kubernetes.base import KubeObject


@dataclass(frozen=True, slots=True)
class Selectable:
    """A field that objects can be selected by (`fieldSelector`), and where the projection has it."""

    field: str
    at: tuple[str, ...]
    """Paths in the projection, `status.podIPs.0.ip`; the first that is there and not empty counts."""
    absent: str = ""
    """What it is where none of them is; `true` and `false` are the values of a boolean."""

    def value(self, projection: Mapping[str, Any]) -> str:
        """What a term of a field selector is compared with. `projection` is decoded JSON."""
        for path in self.at:
            found: Any = projection
            for step in path.split("."):
                found = _step(found, step)
            if found not in (None, ""):
                return str(found).lower() if isinstance(found, bool) else str(found)
        return self.absent


def _step(value: Any, step: str) -> Any:
    """One step of a path; None where it leads nowhere."""
    match value:
        case dict():
            return value.get(step)
        case list() if step.isdecimal() and int(step) < len(value):
            return value[int(step)]
    return None


def selectable(field: str, *at: str, absent: str = "") -> Selectable:
    """A Selectable, at the path that the field itself is unless others are given."""
    return Selectable(field, at or (field,), absent)


NAME = selectable("metadata.name")
NAMESPACE = selectable("metadata.namespace")
ALWAYS_SELECTABLE = (NAME, NAMESPACE)
"""What the objects of every resource can be selected by, also those that no Kind declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One resource of the Kubernetes API and its projection.

    Everything else (paths, decoders, subjects, rows, schemas, documentation) is derived from it.
    """

    resource: str
    """kubectl's plural, the name in frames, rows and URLs; `<plural>.<group>` for a generic one."""
    kind: str
    model: type[KubeObject]
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    as_table: bool = False
    """Read in the Table form, so that values never reach us (Secrets)."""
    selectable: tuple[Selectable, ...] = ALWAYS_SELECTABLE
    """As its API server selects; what it calls by another name, too."""

    @property
    def plural(self) -> str:
        """The path segment: `widgets` of `widgets.example.com`."""
        return self.resource.partition(".")[0]

    @property
    def api_version(self) -> str:
        """`apps/v1`; `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "") -> str:
        """The API server's path of the collection, in one namespace or in all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"

    def decode(self, data: bytes | Raw) -> KubeObject:
        """One object as `encode` wrote it or the API server sends it. Raises msgspec.DecodeError.

        A null where the type has none is read as absence. Tables are read by `config.SecretTable`.
        """
        return self.model.decode(data)

    def encode(self, obj: KubeObject) -> bytes:
        """The projection as it is sent and stored."""
        return obj.encode()
