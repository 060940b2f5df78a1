"""core/v1 ConfigMap and Secret: what there is, never what it says."""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, field

from schemas.kubernetes.base import BareMeta, KubeObject, KubeStruct, ObjectMeta
from schemas.kubernetes.kind import NAME, NAMESPACE, Kind, selectable


class ConfigMap(KubeObject):
    """core/v1 ConfigMap with the size of each value in its place."""

    data: dict[str, int | str] | None = None
    """Key and size in bytes. The API server sends values; they are measured as they are decoded."""
    binary_data: dict[str, int | str] | None = None
    """Key and size in bytes, of values that are not text."""
    immutable: bool | None = None

    def __post_init__(self) -> None:
        if self.data:
            self.data = {key: _size(value) for key, value in self.data.items()}
        if self.binary_data:
            self.binary_data = {key: _base64_size(value) for key, value in self.binary_data.items()}

    def columns(self) -> dict[str, Any]:
        return {"data": len(self.data or {}) + len(self.binary_data or {})}


def _size(value: int | str) -> int:
    return value if isinstance(value, int) else len(value.encode(errors="surrogatepass"))


def _base64_size(value: int | str) -> int:
    if isinstance(value, int):
        return value
    return len(value) * 3 // 4 - value[-2:].count("=")


class Secret(KubeObject):
    """core/v1 Secret, without its values and without annotations, where copies of them may lie.

    It is read in the Table form, where the API server itself leaves the values out.
    """

    type: str = ""
    keys: int = 0
    """Number of values."""

    def __post_init__(self) -> None:
        self.metadata.annotations = None

    def columns(self) -> dict[str, Any]:
        return {"type": self.type, "data": self.keys}


class _RowObject(KubeStruct):
    """meta.k8s.io/v1 PartialObjectMetadata: no annotation ever becomes an object in our memory."""

    metadata: BareMeta = field(default_factory=BareMeta)


class _Row(KubeStruct):
    cells: list[Any] | None = None
    object: _RowObject = field(default_factory=_RowObject)


class _Column(KubeStruct):
    name: str = ""


class _ListMeta(KubeStruct):
    resource_version: str = ""
    continue_: str = field(default="", name="continue")
    remaining_item_count: int | None = None


class _Table(KubeStruct):
    """meta.k8s.io/v1 Table"""

    metadata: _ListMeta = field(default_factory=_ListMeta)
    column_definitions: list[_Column] | None = None
    rows: list[_Row] | None = None


class SecretPage(NamedTuple):
    """One page of a list of Secrets."""

    secrets: list[Secret]
    resource_version: str
    continue_: str
    """The token of the next page; empty on the last one."""


class SecretTable:
    """Reads Tables of Secrets (`as=Table`, `includeObject=Metadata`).

    One for each reader of a list and its watch: the API server names the columns in the first answer only,
    so they are kept.
    """

    def __init__(self) -> None:
        self._columns = ["Name", "Type", "Data", "Age"]
        self._decoder = msgspec.json.Decoder(_Table)

    def page(self, data: bytes) -> SecretPage:
        """A page of a list. Raises msgspec.DecodeError."""
        table = self._decoder.decode(data)
        return SecretPage(self._secrets(table), table.metadata.resource_version, table.metadata.continue_)

    def row(self, data: bytes | Raw) -> Secret:
        """The Secret of one watch event, a Table of one row. Raises msgspec.DecodeError."""
        secrets = self._secrets(self._decoder.decode(data))
        if len(secrets) != 1:
            raise msgspec.ValidationError(f"a Table of {len(secrets)} rows where one was expected")
        return secrets[0]

    def _secrets(self, table: _Table) -> list[Secret]:
        if table.column_definitions:
            self._columns = [column.name for column in table.column_definitions]
        return [self._secret(row) for row in table.rows or []]

    def _secret(self, row: _Row) -> Secret:
        cells = dict(zip(self._columns, row.cells or [], strict=False))
        keys = str(cells.get("Data"))
        return Secret(
            metadata=ObjectMeta(**msgspec.structs.asdict(row.object.metadata)),
            type=str(cells.get("Type") or ""),
            keys=int(keys) if keys.isdecimal() else 0,
        )


CONFIG_MAP = Kind(resource="configmaps", kind="ConfigMap", model=ConfigMap)
SECRET = Kind(
    resource="secrets",
    kind="Secret",
    model=Secret,
    as_table=True,
    selectable=(NAME, NAMESPACE, selectable("type")),
)
