"""The OpenAPI document: what Litestar makes of the handlers, and what holds for each of them."""

import json
from typing import Any

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License, Server, Tag
from litestar.types import Method

from services.api import examples
from services.api.http import problems
from services.runtime.version import VERSION

FILE = "docs/reference/openapi.json"
_DESCRIPTION = """\
What a fleet of clusters looks like, from the control plane's database.

Every answer says `as_of`: the broker's time of the last message that went into it. What is not collected,
and why, is part of each answer. Errors are RFC 9457 problems with a `next` step. A list is continued with
the `continue` of the page before; a row that changes meanwhile is shown as it is when its page is read.
`/api/v1/watch` tells what changes, from the `position` of a list on.

HEAD is answered wherever GET is. Answers come in gzip for whoever accepts it.
"""
_TAGS = {
    "agents": "Who is there, and how they are.",
    "resources": "The objects of one agent; for a cluster, what `kubectl get` would list there.",
    "events": "Kubernetes Events of the fleet: they outlive the objects they are about.",
    "watch": "What changes, as it changes.",
    "dead letters": "Messages that broke the contract, or that no attempt could apply.",
    "index": "Where to go from an address.",
    "health": "Text for probes and scrapers.",
}


class _Json(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, finished(openapi_schema))


def config() -> OpenAPIConfig:
    """For Litestar, which serves the document at `/schema/openapi.json`."""
    return OpenAPIConfig(
        title="AtlHyper",
        version=VERSION,
        description=_DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[Server(url="/")],
        tags=[Tag(name=name, description=description) for name, description in _TAGS.items()],
        path="/schema",
        render_plugins=[_Json()],
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
    )


def _operation_id(handler: HTTPRouteHandler, _method: Method, path: list[Any]) -> str:
    """The handler's name; its short form under `/clusters` has the same with `_of_cluster`."""
    suffix = "_of_cluster" if len(handler.paths) > 1 and "clusters" in path else ""
    return f"{handler.handler_name}{suffix}"


def finished(document: dict[str, Any]) -> dict[str, Any]:
    """Litestar's document with an example of each parameter, and the problems that any path may answer."""
    document = json.loads(json.dumps(document))
    components = document["components"]
    components["responses"] = {kind.component: problems.response(kind) for kind in problems.ANYWHERE}
    anywhere = {
        str(kind.status.value): {"$ref": f"#/components/responses/{kind.component}"}
        for kind in problems.ANYWHERE
    }
    # Litestar keeps a handler's paths in a set, whose order changes from run to run.
    document["paths"] = dict(sorted(document["paths"].items()))
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"] = dict(sorted({**anywhere, **operation["responses"]}.items()))
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in examples.PARAMETERS and "examples" not in parameter:
                    parameter["example"] = examples.PARAMETERS[parameter["name"]]
    return document


def file_of(app: Litestar) -> dict[str, str]:
    """The document's text, by its path in the repository."""
    text = json.dumps(finished(app.openapi_schema.to_schema()), indent=2, ensure_ascii=False)
    return {FILE: text + "\n"}
