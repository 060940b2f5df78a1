"""`/livez`, `/readyz` and `/metrics` on the API's own address."""

from typing import Annotated

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.api.examples import text
from services.api.http import problems
from services.api.http.problems import ProblemError
from services.runtime.health import Health

_METRICS = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""Litestar adds the character set itself."""
_METRICS_EXAMPLE = """\
# HELP atlhyper_api_requests_total Requests answered
# TYPE atlhyper_api_requests_total counter
atlhyper_api_requests_total{method="GET",route="/api/v1/clusters",status="200"} 17.0
"""


_ALIVE = problems.responses() | text("It is", "ok\n")
_METERED = problems.responses() | text("All metrics of the process", _METRICS_EXAMPLE)


class HealthController(Controller):
    """Text for probes and scrapers."""

    tags = ("health",)

    @get("/livez", summary="Is the process alive?", media_type=MediaType.TEXT, responses=_ALIVE)
    async def livez(self) -> str:
        """`ok` as long as the event loop turns: a process whose database is away must be left running."""
        return "ok\n"

    @get(
        "/readyz",
        summary="Can it do its work?",
        media_type=MediaType.TEXT,
        responses=problems.responses(problems.NOT_READY) | text("It can", "[+] database ok\nok\n"),
    )
    async def readyz(
        self,
        health: NamedDependency[Health],
        verbose: Annotated[str | None, QueryParameter(description="Name the checks that are well.")] = None,
    ) -> str:
        """`ok` when the database answers, the bus is connected and dead letters are kept; otherwise a problem
        names what is not.

        Without the bus the stored rows are still served.
        """
        if failing := health.failing():
            detail = "; ".join(f"{name}: {why}" for name, why in failing.items())
            raise ProblemError(problems.NOT_READY, detail, problems.NOT_READY.next)
        return health.text(verbose=verbose is not None)

    @get("/metrics", summary="Metrics", media_type=MediaType.TEXT, responses=_METERED)
    async def metrics(self) -> Response[bytes]:
        """Prometheus' text format."""
        return Response(generate_latest(), media_type=_METRICS)
