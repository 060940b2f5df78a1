"""What must hold of commands, each as a function that returns what violates it; empty when it holds.

| invariant | what would break it |
|---|---|
| `at_most_once` | a command has changed something twice, or the agent something without a command |
| `as_asked` | a command has changed something that it was not to change, or succeeded without all it was to |
| `ended_once` | a command has no terminal state in its time, two, or went back |
| `none_missing` | an accepted command is not there, or one request is two commands |
| `recorded` | a call has no end, or two; what it was told is not there; a later one was told less |
| `honest` | one that succeeded has no effect, or one that did not, has; an end that nobody has proven |
| `whole` | an object was written more often, or less, than commands had effects on it |
| `settled` | something is still open or waiting, unready, or in the dead letters |
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from schemas import topology
from schemas.commands import ErrorCode
from services.master.commands.questions import LOOK
from services.runtime.bus.errors import BusError
from tests.faults import invariants
from tests.faults.audit import CommandStep
from tests.faults.commands.driver import Told
from tests.faults.commands.effects import Change, Effect, Place
from tests.faults.commands.history import Ended, Entry
from tests.faults.commands.world import World
from tests.faults.system import System

AGENT = "system:serviceaccount:kube-system:agent"
ORDER = ("accepted", "sent", "received", "running")
"""Of the states before the end; written down once more, as this is the check."""
ENDS = ("succeeded", "failed", "rejected", "expired", "canceled", "unknown")
PROVEN = frozenset({ErrorCode.INTERRUPTED.value, ErrorCode.TIMEOUT.value})
"""Codes of an `unknown` that may be the agent's own word: it was killed between an effect and its journal. It
is that where the agent has said when (`executed_at`).
"""

PARTIAL = frozenset({"drain"})
"""Actions that may end without success, or on request, when a part of them is done."""

MARKS = 2
"""Writes of an eviction to a pod before it goes: the condition DisruptionTarget, and that it is to end."""

Effects = Mapping[str, Sequence[Effect]]


def at_most_once(commands: Sequence[Told], effects: Effects, by_agent: Sequence[Effect]) -> list[str]:
    """No command makes the same change twice, and the agent changes nothing without a command. All but a
    drain are one change: it is one of its node, and one of each pod.

    What is not certain is counted by `whole`.
    """
    told = [
        f"{count} effects of {_named(command)}: {change}"
        for command in commands
        for change, count in _counted(effects.get(command.id, ())).items()
        if count > 1
    ]
    known = {command.id for command in commands}
    return told + [
        f"an effect of no command: {effect}" for effect in by_agent if effect.command_id not in known
    ]


def as_asked(commands: Sequence[Told], effects: Effects) -> list[str]:
    """Each has changed what it was to change and nothing else, and all of it where it has succeeded."""
    told = []
    for command in commands:
        found = effects.get(command.id, ())
        asked = command.wanted.changes
        told += [
            f"{_named(command)} was not asked for: {effect}" for effect in found if effect.change not in asked
        ]
        if command.state == "succeeded":
            made = {effect.change for effect in found}
            told += [
                f"{_named(command)} has succeeded without: {change}" for change in asked if change not in made
            ]
    return told


def ended_once(commands: Sequence[Told], steps: Sequence[CommandStep], grace: float) -> list[str]:
    """Each has one terminal state, in its time, and never went back: for its author, and in the database in
    each transaction.

    `grace`: seconds after `finish_by`, at which its agent cuts it off, for which the master waits for its
    result; it looks for what is due once in so many seconds, and may be as much later.
    """
    told = []
    for command in commands:
        if not command.id:
            continue
        if command.state not in ENDS:
            told.append(f"{_named(command)} has not ended by {command.last.get('finish_by')}")
        elif (finished := command.last.get("finished_at")) is None:
            told.append(f"{_named(command)} has ended, and nobody says when")
        elif _seconds_between(command.last["finish_by"], finished) > grace + LOOK:
            told.append(f"{_named(command)} ended at {finished}, after {command.last['finish_by']}")
        if sorted(command.states, key=_rank) != command.states or sum(s in ENDS for s in command.states) > 1:
            told.append(f"{_named(command)} was seen as {' → '.join(command.states)}")
    return told + [
        f"{step.command_id} went from {step.before} to {step.after}"
        for step in steps
        if step.before in ENDS or _rank(step.after) <= _rank(step.before)
    ]


def none_missing(commands: Sequence[Told], keys: Mapping[str, str]) -> list[str]:
    """Each request that was accepted is there, once. `keys`: Idempotency-Key by command id, all there are."""
    told = [
        f"{_named(command)} is not there" for command in commands if command.id and command.id not in keys
    ]
    told += [f"{n} commands have the key {key}" for key, n in Counter(keys.values()).items() if n > 1]
    mine = {command.key for command in commands}
    return told + [f"nobody has asked for {command}" for command, key in keys.items() if key not in mine]


def recorded(entries: Iterable[Entry], keys: Mapping[str, str]) -> list[str]:
    """Each call has one end; what it was told of is there, under its key; and who asks when somebody was told
    a state hears that one or a later one, of ends always the same.

    `entries`: of the whole history, in their order. `keys` as for `none_missing`.
    """
    told = []
    under_way: dict[int, tuple[Entry, str]] = {}
    """Calls that have begun, and the state that was known of their command by then."""
    known: dict[str, str] = {}
    """The furthest state that anybody was told, by command."""
    for entry in entries:
        if entry["type"] == "invoke":
            under_way[entry["number"]] = entry, known.get(_about(entry), ORDER[0])
            continue
        if entry["number"] not in under_way:
            told.append(f"call {entry['number']} has ended once more: {entry['type']}")
            continue
        call, before = under_way.pop(entry["number"])
        name = f"call {entry['number']}, {call['call']},"
        if entry["type"] == Ended.FAIL and call["call"].startswith("GET "):
            told.append(f"{name} was refused: {entry['status']} {entry['answer']}")
        if entry["type"] != Ended.OK:
            continue
        id_, state = entry["answer"]["id"], entry["answer"]["state"]
        if id_ not in keys:
            told.append(f"{name} was told of {id_}, which is not there")
        elif call["key"] not in ("", keys[id_]):
            told.append(f"{name} was told of {id_}, which has another key than {call['key']}")
        latest = known.setdefault(id_, state)
        if _rank(state) < _rank(before):
            told.append(f"{name} was told that {id_} is {state}, when it was known to be {before}")
        elif latest in ENDS and state in ENDS and state != latest:
            told.append(f"{name} was told that {id_} is {state}, and somebody that it is {latest}")
        known[id_] = max(latest, state, key=_rank)
    return told + [f"call {number}, {call['call']}, has no end" for number, (call, _) in under_way.items()]


def honest(commands: Sequence[Told], effects: Effects) -> list[str]:
    """What is said of the end is what the API server has seen."""
    told = []
    for command in commands:
        found = _certain(effects.get(command.id, ()))
        state, data = command.state, command.last.get("data") or {}
        if state == "succeeded" and not effects.get(command.id):
            told.append(f"{_named(command)} has no effect")
        if state == "succeeded" and found and data.get("changed") is False:
            told.append(f"{_named(command)} says that it has changed nothing: {found[0]}")
        started = command.wanted.action in PARTIAL and command.last.get("started_at")
        if state in ("failed", "rejected", "expired", "canceled") and found and not started:
            told.append(f"{_named(command)} has an effect: {found[0]}")
        if state == "unknown" and not (command.code in PROVEN and command.last.get("executed_at")):
            told.append(f"{_named(command)}: its result was lost")
        if state == "unknown" and command.code == ErrorCode.INTERRUPTED.value and command.wanted.provable:
            told.append(f"{_named(command)}: what became of it could have been proven")
        if command.wanted.action in PARTIAL:
            told += _parts(command, effects.get(command.id, ()))
    return told


def _parts(command: Told, effects: Sequence[Effect]) -> list[str]:
    """What a drain says that it has done, it has done, also where it has not come to its end."""
    data = command.last.get("data") or {}
    said = {("pods", pod["namespace"], pod["name"]) for pod in data.get("evicted", ())}
    if data.get("cordoned"):
        said.add(("nodes", "", command.wanted.name))
    made = {effect.change.place for effect in effects}
    return [f"{_named(command)} says so, and has not changed {' '.join(place)}" for place in said - made]


def effective(commands: Sequence[Told], effects: Effects) -> set[str]:
    """The commands that have an effect: by the log or, where it leaves that open, by their own word."""
    return {command.id for command in commands if _made(command, effects)}


async def whole(world: World, commands: Sequence[Told], effects: Effects) -> list[str]:
    """Each object was written once for each effect on it, by the count of the API server's store, and once
    when it was made; or it is gone, where that was the effect.

    An eviction marks its pod twice before it removes it; one that was cut off may have ended after any.
    """
    asked: dict[Place, list[tuple[Told, Change]]] = {}
    for command in commands:
        for change in command.wanted.changes:
            asked.setdefault(change.place, []).append((command, change))
    writes, told = await world.writes(), []
    for place, changes in asked.items():
        known = sum(change in _made(command, effects) for command, change in changes)
        open_ = sum(_is_open(command, change, effects) for command, change in changes)
        before = int(place in world.made)
        possible = range(before + known, before + known + open_ + 1)
        if any(change.removes for _, change in changes):
            possible = range(0 if known or open_ else before, 1 if known else before + MARKS * open_ + 1)
        if writes[place] not in possible:
            told.append(f"{' '.join(place)} was written {writes[place]} times, by {known} commands")
    return told


async def settled(system: System) -> list[str]:
    """Nothing is open anywhere: not in the database, on the broker, or in the agent's journal."""
    told = await invariants.drained(system)
    if unsent := await system.audit.outbox():
        told.append(f"{len(unsent)} commands are still to be sent, such as {unsent[0]}")
    return told + await waiting(system)


async def waiting(system: System) -> list[str]:
    """What the broker still has for the agent."""
    durable = system.target.durable
    try:
        info = await system.reader.api(f"$JS.API.CONSUMER.INFO.{topology.COMMANDS.name}.{durable}")
    except BusError as error:
        return [f"the consumer of {durable} is not there: {error}"]
    counts = {name: info[name] for name in ("num_pending", "num_ack_pending")}
    return [f"{count} commands on the broker: {name}" for name, count in counts.items() if count]


def _certain(effects: Sequence[Effect]) -> list[Effect]:
    return [effect for effect in effects if effect.certain]


def _counted(effects: Sequence[Effect]) -> Counter[Change]:
    return Counter(effect.change for effect in _certain(effects))


def _made(command: Told, effects: Effects) -> set[Change]:
    """What it has changed: by the log or, where that leaves it open, by its own word."""
    found = effects.get(command.id, ())
    return {effect.change for effect in found if effect.certain or command.state == "succeeded"}


def _is_open(command: Told, change: Change, effects: Effects) -> bool:
    """Whether it may have made this change, and nobody says so."""
    if change in _made(command, effects):
        return False
    parts = command.wanted.action in PARTIAL
    return command.state == "unknown" or (
        parts and any(effect.change == change for effect in effects.get(command.id, ()))
    )


def _about(call: Entry) -> str:
    """The id in the path of a call; empty where there is none."""
    path: str = call["call"].partition(" ")[2].partition("?")[0]
    return path.removeprefix("/commands").strip("/").partition("/")[0]


def _rank(state: str) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER)


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _named(command: Told) -> str:
    wanted = command.wanted
    where = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    code = f" ({command.code})" if command.code else ""
    return f"{command.id or 'no id'} {wanted.action} {where} {command.state}{code}"
