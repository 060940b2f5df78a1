"""How commands have gone: a table or documents on standard output, each failure with its next step, the exit
code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import rich_click as click

from services.cli import render
from services.cli.acting import items
from services.cli.acting.items import Item
from services.cli.acting.running import Runner, Task
from services.cli.notes import note
from services.cli.render import Output
from services.runtime.errors import UserError

_NOT_FOUND = 3
_CODES = {
    "not_found": _NOT_FOUND,
    "forbidden": 4,
    "not_allowed": 4,
    "timeout": 124,
    "late": 124,
}
"""Exit codes by `schemas.commands.ErrorCode`; any other is 1."""

_NEXT = {
    "conflict": "look at it, then ask again",
    "expired": "`atlhyper agents` shows how its agent is; ask again, or give it longer by --start-within",
    "forbidden": "grant the agent's role the right; `atlhyper doctor` shows what it lacks",
    "internal": "the agent's log has the whole of it",
    "interrupted": "look at the object before asking again",
    "invalid": "correct it and ask again",
    "journal_lost": "look at the object before asking again",
    "late": "ask again, or give it longer by --start-within",
    "not_allowed": "what an agent may do is set at the agent: AGENT_READ_ONLY and its allow list",
    "not_found": "see what there is: `atlhyper get {resource}{namespace} --cluster {cluster}`",
    "server": "look at the cluster's API server, then ask again",
    "throttled": "a disruption budget allows it later; ask again",
    "timeout": "look at the object before asking again, or give it longer by --timeout",
    "too_large": "ask for less of it",
    "unknown": "look at the object before asking again; `atlhyper commands show {id}` has what comes late",
    "unknown_action": "upgrade the agent; `atlhyper agents` shows its version",
    "unreachable": "look at the cluster's API server, then ask again",
    "wrong_target": "`atlhyper agents -o wide` shows which cluster stands behind the id",
}
"""What to do about it, by error code or state."""

_NEXT_OF = {
    ("apply", "conflict"): "--force-conflicts takes the fields over, or leave them out of the file",
    ("drain", "invalid"): "add --ignore-daemonsets, --delete-emptydir-data or --force if their end is meant",
}
_NEXT_AT_LEAST = "`atlhyper commands show {id}` has all of it"


def finish(runner: Runner, output: Output) -> int:
    """Print how it went, and on standard error what went wrong or is not over; the exit code."""
    tasks = runner.tasks
    show([task.item for task in tasks if task.item], output, one=len(tasks) == 1)
    failures = [failure(task) for task in tasks]
    for text in dict.fromkeys(error.render() for error in failures if error):
        click.echo(text, err=True)
    left = [*runner.late, *runner.unsent]
    ended = [error for task, error in zip(tasks, failures, strict=True) if task not in left]
    codes = {error.exit_code if error else 0 for error in ended}
    return exit_code(codes | {124} if runner.tell_late() else codes)


@contextmanager
def looking_up(noun: str) -> Iterator[None]:
    """Around a request for one of them by its id: where there is none, the API advises one of its paths, and
    we the command that lists them."""
    try:
        yield
    except UserError as error:
        if error.exit_code != _NOT_FOUND:
            raise
        raise UserError(error.message, f"see what there is: `atlhyper {noun}`", _NOT_FOUND) from None


def exit_code(codes: set[int]) -> int:
    """Of several: theirs where they agree, 5 where some went well, else 1."""
    if len(codes) <= 1:
        return next(iter(codes), 0)
    return 5 if 0 in codes else 1


def failure(task: Task) -> UserError | None:
    """What went wrong with it; None while nothing has."""
    if task.error:
        return task.error
    item = task.item
    if item is None or item["success"] or item["state"] not in items.TERMINAL:
        return None
    error = item["error"] or {"code": item["state"], "message": item.get("note") or item["state"]}
    cluster, namespace, action = item["target"]["id"], items.namespace(item), item["action"]
    code = item["state"] if item["state"] in ("expired", "unknown") else error["code"]
    where = f" in {namespace}" if namespace else ""
    advice = _NEXT_OF.get((action, code)) or _NEXT.get(code) or _NEXT.get(error["code"]) or _NEXT_AT_LEAST
    return UserError(
        f"{cluster}: {items.verb(action)} {items.label(item)}{where} {item['state']}: {error['message']}",
        advice.format(
            id=item["id"],
            cluster=cluster,
            resource=item["object"]["resource"] or "RESOURCE",
            namespace=f" -n {namespace}" if namespace else "",
        ),
        124 if item["state"] == "expired" else _CODES.get(error["code"], 1),
    )


def show(
    found: Sequence[Item], output: Output, *, one: bool = False, listed: bool = False, header: bool = True
) -> None:
    """Commands on standard output. `one`: a document alone is not wrapped into a list. See `items.table`."""
    match output:
        case Output.JSON | Output.YAML:
            click.echo(render.document(found[0] if one and found else {"items": list(found)}, output))
        case _ if not found:
            return
        case Output.NAME:
            click.echo("\n".join(item["id"] for item in found))
        case _:
            click.echo(items.table(found, wide=output is Output.WIDE, listed=listed, header=header))
    for item in found if not listed else ():
        for warning in item.get("warnings") or ():
            note(f"{item['target']['id']} {items.label(item)}: {warning}")
