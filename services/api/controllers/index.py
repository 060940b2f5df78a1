"""`/`: where to go from an address that somebody was given."""

from typing import Annotated

from litestar import Controller, get
from msgspec import Meta, Struct

from services.api.examples import answer
from services.api.http import problems
from services.runtime.version import VERSION


class Index(Struct, kw_only=True):
    """What answers here, and its main paths."""

    name: str
    version: Annotated[str, Meta(description="Version of the api's code.")]
    paths: Annotated[dict[str, str], Meta(description="What there is, by path.")]


INDEX = Index(
    name="AtlHyper",
    version=VERSION,
    paths={
        "/api/v1/clusters": "the clusters, and how they are",
        "/api/v1/resources/pods": "the pods of all clusters; the same for each other resource",
        "/api/v1/summary?by=cluster,state&resource=pods": "how many there are",
        "/api/v1/events": "Kubernetes Events of all clusters",
        "/api/v1/watch": "what changes, as it changes",
        "/schema/openapi.json": "every path, with its parameters and answers",
        "/readyz": "whether this replica can do its work",
        "/metrics": "for Prometheus",
    },
)


class IndexController(Controller):
    """For people; programs read the OpenAPI document."""

    tags = ("index",)

    @get(
        "/",
        summary="Where to go from here",
        responses=problems.responses() | answer(Index, "Paths", INDEX),
    )
    async def index(self) -> Index:
        """The main paths, each with what it answers."""
        return INDEX
