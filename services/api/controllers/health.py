"""`/livez`, `/readyz` and `/metrics` on the API's own address."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.api import problems
from services.api.problems import ProblemError
from services.persistence import queries
from services.persistence.engine import Database
from services.persistence.errors import DatabaseUnavailable

_METRICS = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""Litestar adds the character set itself."""
DATABASE_TIMEOUT = 2.0
"""Seconds that the database may take to answer."""


@dataclass(frozen=True, slots=True)
class BusHealth:
    """Whether the bus is connected."""

    check: Callable[[], str | None]
    """None when it is, otherwise why not."""


class HealthController(Controller):
    """Text for probes and scrapers."""

    tags = ("health",)

    @get("/livez", summary="Is the process alive?", media_type=MediaType.TEXT, responses=problems.responses())
    async def livez(self) -> str:
        """`ok` as long as the event loop turns: a process whose database is away must be left running."""
        return "ok\n"

    @get(
        "/readyz",
        summary="Can it do its work?",
        media_type=MediaType.TEXT,
        responses=problems.responses(problems.NOT_READY),
    )
    async def readyz(
        self,
        database: NamedDependency[Database],
        bus: NamedDependency[BusHealth],
        verbose: Annotated[str | None, QueryParameter(description="Name the checks that are well.")] = None,
    ) -> str:
        """`ok` when the database answers and the bus is connected; otherwise a problem names what is not.

        Without the bus the stored rows are still served.
        """
        checks = {"database": await _database(database), "bus": bus.check()}
        failing = [f"{name}: {why}" for name, why in checks.items() if why is not None]
        if failing:
            raise ProblemError(problems.NOT_READY, "; ".join(failing), problems.NOT_READY.next)
        return "".join(f"[+] {name} ok\n" for name in checks if verbose is not None) + "ok\n"

    @get("/metrics", summary="Metrics", media_type=MediaType.TEXT, responses=problems.responses())
    async def metrics(self) -> Response[bytes]:
        """Prometheus' text format."""
        return Response(generate_latest(), media_type=_METRICS)


async def _database(database: Database) -> str | None:
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT):
            await queries.ping(database)
    except DatabaseUnavailable as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {DATABASE_TIMEOUT:g}s"
    return None
