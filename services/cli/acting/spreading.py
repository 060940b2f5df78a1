"""One intent for many clusters: which ones, whether it is meant, asked for once, waited for."""

from collections.abc import Callable
from dataclasses import replace

from services.cli.acting import consent, targets, turns, waiting
from services.cli.acting.options import Handling
from services.cli.acting.rollout import Rollout
from services.cli.acting.running import Request
from services.cli.acting.targets import Object
from services.cli.client import Client
from services.cli.notes import note
from services.cli.options import Selection
from services.runtime.errors import UserError
from services.runtime.words import counted


def on_one_object(
    client: Client,
    rollout: Rollout,
    handling: Handling,
    where: Selection,
    words: tuple[str, ...],
    request: Callable[[Object], Request],
    *,
    everything: bool,
) -> int:
    """The operation on the object that is named, to its end; the exit code. Raises UserError."""
    if where.selector or where.field_selector or everything:
        raise UserError(
            "an operation is for one object that is named, the same in each cluster",
            "name it as KIND/NAME; --cluster-selector selects the clusters",
            2,
        )
    chosen = clusters(client, rollout, where)
    found = targets.objects(client, replace(where, clusters=chosen[:1]), words)
    if len(found) > 1:
        raise UserError(
            f"an operation is for one object, not for {len(found)}",
            "name one, and the next one when that has succeeded",
            2,
        )
    return carry_out(client, rollout, handling, chosen, request(found[0]))


def clusters(client: Client, rollout: Rollout, where: Selection) -> tuple[str, ...]:
    """Those that are meant, in the order in which they are taken. Raises UserError."""
    from schemas.selectors import SelectorError, parse_label_selector

    text = rollout.cluster_selector
    try:
        selector = parse_label_selector(text or "")
    except SelectorError as error:
        raise UserError(f"--cluster-selector: {error}", "write it as for kubectl: env=prod", 2) from None
    if text is None and not where.clusters:
        return targets.clusters(client, where)
    labels = {item["id"]: item["labels"] for page in client.pages("/clusters") for item in page["items"]}
    if missing := [name for name in where.clusters if name not in labels]:
        raise UserError(
            f"of these clusters nothing was ever heard: {', '.join(missing)}", "see `atlhyper agents`", 3
        )
    found = tuple(name for name in where.clusters or labels if selector.matches(labels[name]))
    if not found:
        known = counted(len(where.clusters or labels), "cluster")
        raise UserError(
            f"--cluster-selector {text!r} selects none of {known}",
            "`atlhyper agents -o wide` shows their labels; agents have them by AGENT_LABELS",
            3,
        )
    return found


def carry_out(
    client: Client, rollout: Rollout, handling: Handling, chosen: tuple[str, ...], request: Request
) -> int:
    """Ask whether it is meant, ask for the operation, wait for it; the exit code. Raises UserError."""
    if handling.start_within is not None:
        raise UserError(
            "--start-within is not for operations", "--timeout is the time that each cluster has", 2
        )
    if not (handling.agreed or handling.dry_run):
        _agree(rollout, chosen, request)
    body = request.body(handling)
    del body["target"]  # those of all of them come instead
    strategy = rollout.strategy()
    if "timeout" in body:
        strategy["timeout"] = body.pop("timeout")
    try:
        made = client.post("/operations", body | {"clusters": list(chosen), "strategy": strategy})
    except KeyboardInterrupt:
        note("interrupted; it may have been accepted: look at `atlhyper operations`")
        raise
    if not handling.wait:
        turns.show(made, handling.output)
        waiting.tell_open(made["id"], "not waited for")
        return 0
    return waiting.finish(client, made, waiting.patience(made), handling.output)


def _agree(rollout: Rollout, chosen: tuple[str, ...], request: Request) -> None:
    title = turns.title({"action": request.action, "object": request.about.body(), "params": request.params})
    number, at_a_time = counted(len(chosen), "cluster"), rollout.at_a_time(len(chosen))
    what = f"{title} in {number}, {at_a_time} at a time, first {', '.join(chosen[:at_a_time][:3])}"
    consent.agree(what + (", …" if at_a_time > 3 else ""), chosen)
