"""Manifests as `kubectl apply -f` takes them: files, folders, addresses, standard input."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.cli.acting import documents
from services.cli.acting.documents import BadDocument
from services.runtime.errors import UserError

_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
_FETCH_TIMEOUT = 30.0
_LARGEST = documents.LARGEST
"""Bytes of one file."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as somebody wants it."""

    content: dict[str, Any]
    origin: str
    """Where it was read, for messages."""

    @property
    def namespace(self) -> str:
        """Empty where none is said."""
        return str(self.content["metadata"].get("namespace") or "")

    def check(self, namespace: str | None) -> None:
        """Raises UserError when `-n` names another namespace than the manifest."""
        if namespace and self.namespace not in ("", namespace):
            raise UserError(
                f"{self.origin}: its namespace is {self.namespace}, and -n says {namespace}",
                "leave -n away",
                2,
            )


def read(names: Sequence[str], *, recursive: bool) -> list[Manifest]:
    """Everything that the files hold, in their order. Raises UserError."""
    found = [
        manifest
        for name in names
        for origin, text in _texts(name, recursive=recursive)
        for manifest in _manifests(origin, text)
    ]
    if not found:
        given = ", ".join("standard input" if name == "-" else name for name in names)
        raise UserError(f"no object in {given}", "name files that hold manifests", 2)
    return found


def _texts(name: str, *, recursive: bool) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "standard input", _decoded("standard input", sys.stdin.buffer.read(_LARGEST + 1))
    elif name.startswith(("http://", "https://")):
        yield name, _decoded(name, _fetched(name))
    else:
        path = Path(name)
        try:
            for file in _files(path, recursive=recursive):
                with file.open("rb") as opened:
                    yield str(file), _decoded(str(file), opened.read(_LARGEST + 1))
        except OSError as error:
            raise UserError(f"cannot read {name}: {error.strerror}", "name a file or a folder", 2) from None


def _files(path: Path, *, recursive: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = path.rglob("*") if recursive else path.glob("*")
    return sorted(file for file in inside if file.suffix in _SUFFIXES and file.is_file())


def _fetched(url: str) -> bytes:
    import httpx

    try:
        with httpx.stream("GET", url, timeout=_FETCH_TIMEOUT, follow_redirects=True) as answer:
            answer.raise_for_status()
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    break
            return content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"cannot read {url}: {first}", "correct the address, or give a file", 1) from None


def _decoded(origin: str, content: bytes) -> str:
    if len(content) > _LARGEST:
        raise UserError(f"{origin} is larger than {_LARGEST >> 20} MiB", "split it", 2)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{origin} is not UTF-8: {error}", "name a file with manifests", 2) from None


def _manifests(origin: str, text: str) -> Iterator[Manifest]:
    try:
        found = documents.load(text)
    except BadDocument as error:
        raise UserError(f"{origin} {error}", "correct it", 2) from None
    for number, document in enumerate(found, 1):
        if document is None:
            continue
        where = origin if len(found) == 1 else f"{origin}, document {number}"
        for content in _objects(document):
            yield Manifest(_checked(where, content), where)


def _objects(document: Any) -> list[Any]:
    """A list of objects (`kind: List`, `PodList`) is its items."""
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        items = document.get("items")
        if isinstance(items, list):
            return items
    return [document]


def _checked(where: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{where} is no object", "write apiVersion, kind and metadata.name", 2)
    metadata = content.get("metadata")
    named = metadata.get("name") if isinstance(metadata, dict) else None
    absent = [name for name in ("apiVersion", "kind") if not isinstance(content.get(name), str)]
    absent += [] if named and isinstance(named, str) else ["metadata.name"]
    if absent:
        raise UserError(f"{where} has no {' and no '.join(absent)}", "write it; apply goes by the name", 2)
    return content
