"""The OpenAPI document: what Litestar makes of the handlers, and what holds for each of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License, Server, Tag
from litestar.types import Method
from pydantic import BaseModel

from services.api import examples
from services.api.http import problems
from services.api.http.authentication import OPEN
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
_SCHEME = "token"
_BEARER = """\
What `atlhyper tokens create` printed. Every path wants it, one that is not there too; only `/livez` and
`/readyz` do not.
"""
_TAGS = {
    "agents": "Who is there, and how they are.",
    "resources": "The objects of one agent; for a cluster, what `kubectl get` would list there.",
    "events": "Kubernetes Events of the fleet: they outlive the objects they are about.",
    "commands": "What agents are asked to do, and what has become of it.",
    "operations": "One intent for many clusters, carried out a few at a time.",
    "watch": "What changes, as it changes.",
    "dead letters": "Messages that broke the contract, or that no attempt could apply.",
    "index": "Where to go from an address.",
    "health": "Text for probes and scrapers.",
}


class _Json(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, finished(openapi_schema, request.app))


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


def finished(document: dict[str, Any], app: Litestar) -> dict[str, Any]:
    """Litestar's document with the content of requests, an example of each parameter, and the problems that
    any path may answer."""
    document = json.loads(json.dumps(document))
    components = document["components"]
    components["securitySchemes"] = {_SCHEME: {"type": "http", "scheme": "bearer", "description": _BEARER}}
    document["security"] = [{_SCHEME: []}]
    components["responses"] = {kind.component: problems.response(kind) for kind in problems.ANYWHERE}
    anywhere = {
        str(kind.status.value): {"$ref": f"#/components/responses/{kind.component}"}
        for kind in problems.ANYWHERE
    }
    _add_contents(document, app)
    # Litestar keeps a handler's paths in a set, whose order changes from run to run.
    document["paths"] = dict(sorted(document["paths"].items()))
    for path, item in document["paths"].items():
        for operation in item.values():
            operation["responses"] = dict(sorted({**anywhere, **operation["responses"]}.items()))
            if path in OPEN:
                operation["security"] = []
                del operation["responses"][str(problems.UNAUTHORIZED.status.value)]
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in examples.PARAMETERS and "examples" not in parameter:
                    parameter["example"] = examples.PARAMETERS[parameter["name"]]
    return document


@dataclass(frozen=True, slots=True)
class Content:
    """What a handler takes, which reads it itself (`content.read`): its option `content`."""

    shapes: Sequence[type[BaseModel]]
    """One of these."""
    examples: Sequence[dict[str, Any]]
    name: str = ""
    """Of several shapes together, among the components."""


def _add_contents(document: dict[str, Any], app: Litestar) -> None:
    schemas = document["components"]["schemas"]
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for media_type, example in handler.opt.get("also", {}).items():
                [method] = handler.http_methods - {"OPTIONS"}
                answer = document["paths"][route.path_format][method.lower()]["responses"]["200"]
                examples_ = {"1": {"value": example}}
                answer["content"][media_type] = {"schema": {"type": "string"}, "examples": examples_}
            content: Content | None = handler.opt.get("content")
            if content is None:
                continue
            references = [_add_shape(schemas, shape) for shape in content.shapes]
            schema = references[0]
            if content.name:
                schemas[content.name] = {"oneOf": references}
                schema = {"$ref": f"#/components/schemas/{content.name}"}
            named = {f"{number}": {"value": each} for number, each in enumerate(content.examples, 1)}
            for method in handler.http_methods - {"OPTIONS"}:
                document["paths"][route.path_format][method.lower()]["requestBody"] = {
                    "content": {"application/json": {"schema": schema, "examples": named}},
                    "required": any(shape.model_json_schema().get("required") for shape in content.shapes),
                }


def _add_shape(schemas: dict[str, Any], shape: type[BaseModel]) -> dict[str, str]:
    """A model of pydantic's among the components, and what it is made of."""
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    found = {**schema.pop("$defs", {}), shape.__name__: schema}
    for name, each in found.items():
        if schemas.setdefault(name, each) != each and not each.get("enum"):
            raise ValueError(f"two components are called {name}")
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


def file_of(app: Litestar) -> dict[str, str]:
    """The document's text, by its path in the repository."""
    text = json.dumps(finished(app.openapi_schema.to_schema(), app), indent=2, ensure_ascii=False)
    return {FILE: text + "\n"}
