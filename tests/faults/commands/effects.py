"""What commands have done, by the API server's own audit log and by its store: never by our word.

Each request that a command makes has its id as `Audit-ID`, so that the entry of a change names its command.
The store counts how often each object was written, whoever asked for it.
"""

import base64
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

_CHANGES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Place(NamedTuple):
    """One object: where it is."""

    resource: str
    namespace: str
    name: str


class Change(NamedTuple):
    """One change of one object, as the audit log has it."""

    verb: str
    """Of the request: a server-side apply is a patch, also where it makes the object."""
    resource: str
    """With the subresource, as `deployments/scale`."""
    namespace: str
    name: str
    """Empty where the API server has chosen it: the log was written before."""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.namespace}/{self.name}"

    @property
    def place(self) -> Place:
        """The object."""
        return Place(self.resource.partition("/")[0], self.namespace, self.name)

    @property
    def removes(self) -> bool:
        """Whether the object is gone afterwards (none of ours ends in its own time)."""
        return self.verb == "delete" or self.resource == "pods/eviction"


@dataclass(frozen=True, slots=True)
class Effect:
    """A change that the API server has made, or may have made."""

    command_id: str
    """`auditID`; of a request that no command has made the API server's own choice."""
    user: str
    verb: str
    resource: str
    """With the subresource, as `deployments/scale`."""
    namespace: str
    name: str
    at: str
    """When the request came (RFC 3339)."""
    certain: bool = True
    """False: who had asked was gone before the answer, and the log says 504 whether or not it was done."""

    def __str__(self) -> str:
        return f"{self.at} {self.change}{'' if self.certain else ' (or not)'}"

    @property
    def change(self) -> Change:
        """What was changed, and how."""
        return Change(self.verb, self.resource, self.namespace, self.name)


@dataclass(slots=True)
class AuditLog:
    """Reads on from where it has read to; a file that was set aside meanwhile is read to its end first."""

    path: Path
    effects: list[Effect] = field(default_factory=list)
    _read_to: dict[int, int] = field(default_factory=dict)
    """By inode, as files are renamed when they are full."""

    def read(self) -> list[Effect]:
        """All changes until now, in the order of the log."""
        files = sorted(self.path.parent.glob("*.log"), key=lambda file: file.stat().st_mtime)
        for file in files:
            with file.open("rb") as log:
                about = os.fstat(log.fileno())  # not of its name, which may be another file's by now
                inode = about.st_ino
                if about.st_size < self._read_to.get(inode, 0):
                    self._read_to[inode] = 0  # another file, with the number of one that was thrown away
                log.seek(self._read_to.get(inode, 0))
                for line in log:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._read_to[inode] = self._read_to.get(inode, 0) + len(line)
                    self._take(line)
        return self.effects

    def _take(self, line: bytes) -> None:
        entry = json.loads(line)
        code = entry.get("responseStatus", {}).get("code", 0)
        refused = 300 <= code < 500
        if entry["verb"] not in _CHANGES or refused or "dryRun=" in entry["requestURI"]:
            return
        about = entry.get("objectRef", {})
        part = about.get("subresource", "")
        self.effects.append(
            Effect(
                command_id=entry["auditID"],
                user=entry["user"].get("username", ""),
                verb=entry["verb"],
                resource=about.get("resource", "") + (f"/{part}" if part else ""),
                namespace=about.get("namespace", ""),
                name=about.get("name", ""),
                at=entry["requestReceivedTimestamp"],
                certain=200 <= code < 300,
            )
        )

    def of_commands(self, ids: Collection[str]) -> dict[str, list[Effect]]:
        """The changes of each command; those without any have an empty list."""
        found: dict[str, list[Effect]] = {command_id: [] for command_id in ids}
        for effect in self.read():
            if effect.command_id in found:
                found[effect.command_id].append(effect)
        return found


async def writes(etcd: str, prefixes: Iterable[Place]) -> Counter[Place]:
    """How often each object that is there was written, its creation included: the store's own count, which
    is how many a `resourceVersion` it has had. Prefixes: of names; nodes are `minions` there.
    """
    found: Counter[Place] = Counter()
    async with httpx.AsyncClient(base_url=etcd, timeout=20) as store:
        for place in prefixes:
            folder = {"nodes": "minions"}.get(place.resource, place.resource)
            first = "/".join(filter(None, ("/registry", folder, place.namespace, place.name)))
            first += "" if place.name else "/"
            end = first[:-1] + chr(ord(first[-1]) + 1)
            body = {"key": _base64(first), "range_end": _base64(end), "keys_only": True}
            answer = (await store.post("/v3/kv/range", json=body)).raise_for_status().json()
            for entry in answer.get("kvs", []):
                name = base64.b64decode(entry["key"]).decode().rpartition("/")[2]
                found[place._replace(name=name)] = int(entry["version"])
    return found


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
