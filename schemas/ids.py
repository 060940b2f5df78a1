"""Identities: who an agent is, which shard it belongs to, and new event ids."""

import os
import re
import time
import uuid
import zlib
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import ContractError

SHARDS = 16
"""Number of partitions of the agents' snapshots and events; each has one owner among the masters."""

ID_PATTERN = r"[a-z0-9-]{1,63}"
_ID = re.compile(ID_PATTERN)


class AgentKind(StrEnum):
    """The kind of thing an agent serves."""

    KUBERNETES = "kubernetes"
    HOST = "host"
    TERRAFORM = "terraform"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One agent's address, `<kind>/<id>`; for Kubernetes the id is the cluster id.

    Raises ContractError when the id is not 1 to 63 characters of `a-z`, `0-9` and `-`.
    """

    kind: AgentKind
    id: str

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ContractError(f"agent id {self.id!r} is not 1 to 63 characters of a-z, 0-9 and '-'")

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def shard(self) -> int:
        """`crc32("<kind>/<id>") % 16`, in 0..15."""
        return zlib.crc32(str(self).encode()) % SHARDS

    @property
    def durable(self) -> str:
        """`<kind>_<id>`: the name of this agent's durable consumer, and of its credential and inbox."""
        return f"{self.kind}_{self.id}"

    @classmethod
    def parse(cls, kind: str, id: str) -> "Target":
        """The target named by two strings from outside. Raises ContractError for an unknown kind."""
        try:
            return cls(AgentKind(kind), id)
        except ValueError as error:
            if isinstance(error, ContractError):
                raise
            raise ContractError(f"agent kind {kind!r} is not one of {', '.join(AgentKind)}") from None


def kubernetes(cluster_id: str) -> Target:
    """The agent of one Kubernetes cluster."""
    return Target(AgentKind.KUBERNETES, cluster_id)


def uuid7() -> str:
    """A new UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
