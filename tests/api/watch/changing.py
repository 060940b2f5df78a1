"""A cluster whose rows change, a commit at a time, and what else happens to the database."""

import itertools

import msgspec
import sqlalchemy as sa
from msgspec import Raw

from schemas.frames import Delete, Frame, Phase, Put
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from schemas.kubernetes.pod import Pod, PodStatus
from services.persistence import tables
from services.persistence.database.engine import Database
from tests.api.fixtures import Fleet, meta


class Cluster:
    """Changes the rows of one cluster, a commit at a time."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.shard = kubernetes(name).shard
        self._epoch = ""
        self._sequence = itertools.count()
        self._numbers = itertools.count(1)

    async def start(self, *pods: str) -> "Cluster":
        self._epoch = await self.fleet.state(self.name, {"pods": [pod(name) for name in pods]})
        self._sequence = itertools.count(4 if pods else 3)  # behind begin, data if any, and synced
        return self

    async def change(self, *items: Put | Delete) -> None:
        """One commit."""
        frame = Frame(epoch=self._epoch, sequence=next(self._sequence), phase=Phase.DATA, items=[*items])
        await self.fleet.frames(kubernetes(self.name), [frame])

    async def put(self, *names: str, status: str = "", namespace: str = "shop") -> None:
        status = status or f"Status{next(self._numbers)}"
        await self.change(*(put(name, status, namespace) for name in names))

    async def delete(self, *names: str, namespace: str = "shop") -> None:
        await self.change(*(delete(name, namespace) for name in names))


def pod(name: str, status: str = "Running", namespace: str = "shop") -> Pod:
    return Pod(metadata=meta(name, namespace), status=PodStatus(phase=status))


def put(name: str, status: str, namespace: str = "shop") -> Put:
    body = KINDS["pods"].encode(pod(name, status, namespace))
    return Put(resource="pods", namespace=namespace, name=name, uid=f"uid-{namespace}-{name}", body=Raw(body))


def delete(name: str, namespace: str = "shop") -> Delete:
    return Delete(resource="pods", namespace=namespace, name=name, uid=f"uid-{namespace}-{name}")


def big(name: str, status: str) -> Put:
    """A pod whose body fills the buffers of a connection soon."""
    body = msgspec.json.encode({"pad": "x" * 80_000})[:-1] + b"," + bytes(put(name, status).body)[1:]
    return Put(resource="pods", namespace="shop", name=name, uid=f"uid-shop-{name}", body=Raw(body))


async def forget_tombstones(database: Database, shard: int) -> None:
    """As the master does after an hour."""
    model = tables.table_of(tables.Shard)
    tombstone = tables.table_of(tables.Tombstone)
    async with database.write() as connection:
        await connection.execute(sa.delete(tombstone).where(tombstone.c.shard == shard))
        await connection.execute(sa.update(model).where(model.c.shard == shard).values(forgotten=model.c.rev))
