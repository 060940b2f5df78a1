"""From what was sent to an operation that can be stored, or to a problem that says why it cannot."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from schemas.commands import TargetReference
from schemas.ids import AgentKind, Target, uuid7
from schemas.operations import Operation, Strategy
from schemas.presence import ActionSchemas
from schemas.selectors import SelectorError, parse_label_selector
from services.api.commands.accepting import Intent, check_capable, check_size
from services.api.commands.announced import check_known, unknown_to
from services.api.http import problems
from services.api.http.content import invalid, wrong
from services.api.http.problems import InvalidParameter, ProblemError
from services.api.operations.requests import MAX_TARGETS, NewOperation, StrategyWanted
from services.persistence import queries
from services.persistence.database.engine import Connection
from services.persistence.queries import AgentStatus
from services.runtime.words import counted

_NAMED = 10
"""How many clusters a problem names."""


async def targets(connection: Connection, wanted: NewOperation) -> list[AgentStatus]:
    """The agents that are meant, in their order. Raises ProblemError."""
    if wanted.clusters is None and wanted.label_selector is None:
        raise wrong("clusters", "no cluster is named", "name them by `clusters` or by `label_selector`")
    twice = next((id_ for id_, count in Counter(wanted.clusters).items() if count > 1), None)
    if twice is not None:
        raise wrong("clusters", f"{twice} is there twice", "name each cluster once")
    known = {status.target.id: status for status in await _all(connection)}
    if wanted.clusters is None:
        found = list(known.values())
    else:
        if missing := [id_ for id_ in wanted.clusters if id_ not in known]:
            raise ProblemError(
                problems.UNKNOWN_AGENT,
                f"of these nothing was ever heard: {_names(missing)}",
                "see what there is: /api/v1/clusters",
            )
        found = [known[id_] for id_ in wanted.clusters]
    if wanted.label_selector is not None:
        try:
            selector = parse_label_selector(wanted.label_selector)
        except SelectorError as error:
            raise wrong("label_selector", str(error), "write it as kubectl takes it: env=prod") from None
        found = [one for one in found if selector.matches(one.heartbeat.labels if one.heartbeat else {})]
        if not found:
            raise wrong(
                "label_selector",
                f"{wanted.label_selector!r} selects none of {counted(len(known), 'cluster')}",
                "see their labels: /api/v1/clusters; agents have them by AGENT_LABELS",
            )
    if len(found) > MAX_TARGETS:
        raise wrong("label_selector", f"selects more than {MAX_TARGETS} clusters", "select fewer")
    return found


def operation(
    wish: Intent,
    wanted: NewOperation,
    agents: Sequence[AgentStatus],
    announced: Mapping[Target, ActionSchemas],
    actor: str,
    now: datetime,
) -> Operation:
    """The operation, with a new id. Raises ProblemError when one of its agents would refuse, and when its
    commands would be too large.
    """
    unknown = unknown_to(wish, announced)
    refused: list[tuple[str, ProblemError]] = []
    for agent in agents:
        try:
            check_capable(wish, agent)
            check_known(agent, unknown.get(agent.target, ()))
        except ProblemError as problem:
            refused.append((agent.target.id, problem))
    if refused:
        _, first = refused[0]
        raise ProblemError(
            problems.NOT_CAPABLE,
            f"{len(refused)} of {len(agents)} would refuse ({_names([id_ for id_, _ in refused])}): "
            f"{first.detail}",
            "leave them out, or put that right first: nothing was begun anywhere",
        )
    made = Operation(
        id=uuid7(),
        action=wish.action.name,
        object=wish.object,
        params=wish.params,
        dry_run=wish.dry_run,
        targets=[TargetReference(kind=agent.target.kind, id=agent.target.id) for agent in agents],
        strategy=_strategy(wanted.strategy, len(agents)),
        created_at=now,
        actor=actor,
    )
    check_size(made.model_copy(update={"targets": made.targets[:1]}))
    return made


def _strategy(wanted: StrategyWanted, count: int) -> Strategy:
    at_once, failures = wanted.max_unavailable, wanted.max_failures
    errors = [
        InvalidParameter(parameter=f"strategy.{name}", message=f"{value} is less than {least}")
        for name, value, least in (("max_unavailable", at_once, 1), ("max_failures", failures, 0))
        if isinstance(value, int) and value < least
    ]
    if errors:
        raise invalid(errors)
    if isinstance(at_once, str):
        at_once = math.ceil(count * int(at_once[:-1]) / 100)
    if isinstance(failures, str):
        failures = count * int(failures[:-1]) // 100
    return Strategy(max_unavailable=at_once, max_failures=failures, timeout=wanted.timeout)


async def _all(connection: Connection) -> list[AgentStatus]:
    agents: list[AgentStatus] = []
    continue_ = ""
    while True:
        page = await queries.list_agents(
            connection, AgentKind.KUBERNETES, limit=MAX_TARGETS, continue_=continue_
        )
        agents += page.items
        if not (continue_ := page.continue_):
            return agents


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
