"""`python -m services.cli.generate [--check]`: write the generated files, or tell which are not current."""

import sys
from pathlib import Path

from services.agent.settings import AgentSettings
from services.api.app import openapi_file
from services.api.settings import ApiSettings
from services.cli.reference.actions import actions_page
from services.cli.reference.commands import commands_page
from services.cli.reference.contract import asyncapi_file, json_schema_files
from services.cli.reference.index import index_page
from services.cli.reference.messages import messages_page
from services.cli.reference.metrics import metrics_page
from services.cli.reference.pages import settings_page, subjects_page
from services.cli.reference.rest import problems_page, rest_page
from services.master.settings import MasterSettings
from services.runtime.bus.broker import BrokerSettings
from services.runtime.bus.config import deploy_files

ROOT = Path(__file__).parents[2]

OWNED = ("schemas/json/*.schema.json", "docs/reference/*", "deploy/nats/streams/*.json")
"""Where a file that nothing generates any more is removed."""

_SETTINGS = (
    ("`atlhyper agent kubernetes`", AgentSettings),
    ("`atlhyper master`", MasterSettings),
    ("`atlhyper api`", ApiSettings),
    ("`atlhyper up`: the embedded broker", BrokerSettings),
)


def files() -> dict[str, str]:
    """Text by path in the repository."""
    openapi = openapi_file()
    return {
        **json_schema_files(),
        **asyncapi_file(),
        **openapi,
        **index_page(),
        **commands_page(),
        **settings_page(_SETTINGS),
        **rest_page(openapi),
        **problems_page(),
        **actions_page(),
        **metrics_page(),
        **subjects_page(),
        **messages_page(),
        **deploy_files(),
    }


def stale(root: Path = ROOT) -> list[str]:
    """The files that are missing, differ, or are no longer generated."""
    wanted = files()
    return [
        *(path for path, text in wanted.items() if _read(root / path) != text),
        *(path for path in _owned(root) if path not in wanted),
    ]


def write(root: Path = ROOT) -> list[str]:
    """Make them current; what changed."""
    changed = stale(root)
    wanted = files()
    for path in changed:
        if path not in wanted:
            (root / path).unlink()
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(wanted[path], encoding="utf-8")
    return changed


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _owned(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for pattern in OWNED for path in sorted(root.glob(pattern))]


def main(arguments: list[str]) -> int:
    """The exit code: with `--check` 1 when a file is not current."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m services.cli.generate [--check]", file=sys.stderr)
        return 2
    if not arguments:
        for path in write():
            print(path)
        return 0
    if changed := stale():
        print("not current: " + ", ".join(changed), file=sys.stderr)
        print("  next: `make generate`, and look at what changed", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
