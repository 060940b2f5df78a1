"""What commands have done, by the API server's own audit log: never by our word.

Each request that a command makes has its id as `Audit-ID`, so that the entry of a change names its command.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

_CHANGES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


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
        doubt = "" if self.certain else " (or not)"
        return f"{self.at} {self.verb} {self.resource} {self.namespace}/{self.name}{doubt}"


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
                inode = file.stat().st_ino
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
