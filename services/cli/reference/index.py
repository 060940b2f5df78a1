"""`docs/reference/index.md`: what the reference has."""

from services.cli.reference.text import page

_INTRO = """\
What there is, by name. All of it is generated from the code, so it says what this version does.
"""

_PAGES = {
    "cli": "The command line: every command and option",
    "settings": "Settings: every variable of each service",
    "actions": "Actions: what agents can be asked to do",
    "rest": "REST: every path, its parameters and answers",
    "problems": "Problems: every error of the API",
    "metrics": "Metrics: what `/metrics` of each service tells",
    "subjects": "Subjects, streams, event types, users",
    "messages": "Messages: the body of each event type",
}


def index_page() -> dict[str, str]:
    """The page, by its path in the repository."""
    pages = "\n".join(f"- [{title}]({name}.md)" for name, title in _PAGES.items())
    files = "- [OpenAPI 3.1](openapi.json)\n- [AsyncAPI 3](asyncapi.yaml)"
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *_PAGES, "```"])
    return {
        "docs/reference/index.md": page(
            ["# Reference", _INTRO, pages, "For programs:", files, toctree],
        )
    }
