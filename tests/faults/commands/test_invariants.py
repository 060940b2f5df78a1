"""Each invariant of commands sees what it is about, and is content with what is right."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.reference.metrics import metrics_page
from tests.faults import invariants as of_the_system
from tests.faults.audit import CommandStep
from tests.faults.commands import invariants
from tests.faults.commands.driver import Told
from tests.faults.commands.effects import AuditLog, Change, Effect, Place
from tests.faults.commands.world import Wanted

NOW = datetime.now(UTC)


SCALE = Wanted("scale", "deployments", "ns", "web", {}, "60s", "60s")
CORDONED = Change("patch", "nodes", "", "n1")
EVICTED = tuple(Change("create", "pods/eviction", "ns", name) for name in ("a", "b"))
DRAIN = replace(
    SCALE, action="drain", resource="nodes", namespace="", name="n1", further=(CORDONED, *EVICTED)
)
DRAINED = {
    "cordoned": True,
    "evicted": [{"namespace": "ns", "name": name} for name in ("a", "b")],
}
JSON_PATCH = replace(
    SCALE, action="dynamic", further=(Change("patch", "configmaps", "ns", "web"),), provable=False
)


def told(
    *states: str,
    code: str = "",
    command_id: str = "c1",
    ended_after: float = 0.0,
    wanted: Wanted = SCALE,
    **more: Any,
) -> Told:
    """A command that was seen in these states."""
    found = Told(wanted, "key", command_id)
    for state in states:
        found.see({"state": state})
    finished = (NOW + timedelta(seconds=ended_after)).isoformat()
    found.last = {
        "finish_by": NOW.isoformat(),
        "finished_at": finished if found.state in invariants.ENDS else None,
        "error": {"code": code} if code else None,
        **more,
    }
    return found


def effect(command_id: str = "c1") -> Effect:
    return Effect(command_id, invariants.AGENT, "patch", "deployments/scale", "ns", "web", "now")


def made(*changes: Change) -> dict[str, list[Effect]]:
    """Effects of the command c1."""
    return {"c1": [Effect("c1", invariants.AGENT, *change, "now") for change in changes]}


class Objects:
    """In place of the World: what was there before any command, and how often each object was written."""

    def __init__(self, before: set[Place], now: dict[Place, int]) -> None:
        self.made = before
        self._now = Counter(now)

    async def writes(self) -> Counter[Place]:
        return self._now


RIGHT = told("accepted", "sent", "running", "succeeded")
GRACE = 2.0


def test_what_is_right_violates_nothing() -> None:
    """A command that took its way, with one effect."""
    effects = {"c1": [effect()]}
    steps = [CommandStep("c1", "accepted", "sent"), CommandStep("c1", "sent", "succeeded")]
    assert invariants.at_most_once([RIGHT], effects, [effect()]) == []
    assert invariants.ended_once([RIGHT], steps, GRACE) == []
    assert invariants.none_missing([RIGHT], {"c1": "key"}) == []
    assert invariants.as_asked([RIGHT], effects) == []
    assert invariants.honest([RIGHT], effects) == []


def test_effects_are_counted() -> None:
    """Two of one command, and one of none."""
    assert "2 effects of c1" in invariants.at_most_once([RIGHT], {"c1": [effect(), effect()]}, [])[0]
    assert "of no command" in invariants.at_most_once([RIGHT], {}, [effect("somebody's")])[0]


def test_a_change_that_is_not_certain_is_open() -> None:
    """The API server does not say whether it was done: the command's word is taken, and it is counted."""
    maybe = {"c1": [replace(effect(), certain=False)]}
    for state in ("succeeded", "failed", "unknown"):
        command = told("accepted", state, code="timeout", executed_at="now")
        assert invariants.honest([command], maybe) == []
        assert invariants.effective([command], maybe) == ({"c1"} if state == "succeeded" else set())
    assert invariants.at_most_once([RIGHT], {"c1": [*maybe["c1"], effect()]}, []) == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (told("accepted", "running"), "has not ended"),
        (told("accepted", "succeeded", ended_after=GRACE + invariants.LOOK + 0.1), "after"),
        (told("accepted", "expired", ended_after=GRACE + invariants.LOOK + 0.1), "after"),
        (told("accepted", "unknown", ended_after=GRACE + invariants.LOOK + 0.1), "after"),
        (told("running", "sent", "succeeded"), "was seen as running → sent"),
        (told("expired", "succeeded"), "was seen as expired → succeeded"),
    ],
)
def test_ends_and_ways_are_looked_at(command: Told, says: str) -> None:
    """No end, a late one, a way back, a second end: as its author saw it."""
    assert says in " ".join(invariants.ended_once([command], [], GRACE))


@pytest.mark.parametrize("state", ["failed", "succeeded", "unknown"])
def test_an_end_may_be_on_its_way(state: str) -> None:
    """An agent cuts a command off at its time: the master waits for the result, and looks once in a while."""
    command = told("accepted", state, ended_after=GRACE + invariants.LOOK)
    assert invariants.ended_once([command], [], GRACE) == []


@pytest.mark.parametrize(
    "step",
    [
        CommandStep("c1", "running", "received"),
        CommandStep("c1", "succeeded", "failed"),
        CommandStep("c1", "succeeded", "succeeded"),
    ],
)
def test_no_transaction_goes_back(step: CommandStep) -> None:
    """A way back, a second end, a result that is replaced: as the database had it."""
    assert "c1 went from" in invariants.ended_once([RIGHT], [step], GRACE)[0]


def test_what_was_accepted_is_there_once() -> None:
    """One that is not there, two of one key, one that nobody has asked for."""
    assert "is not there" in invariants.none_missing([RIGHT], {})[0]
    assert "2 commands have the key" in invariants.none_missing([RIGHT], {"c1": "key", "c2": "key"})[0]
    assert "nobody has asked" in invariants.none_missing([RIGHT], {"c1": "key", "c3": "another"})[0]


def test_what_waits_is_measured() -> None:
    """Services have each metric that is to be 0 in the end, by that name."""
    [page] = metrics_page().values()
    assert [name for name in of_the_system.WAITING if f"`{name}" not in page] == []


@pytest.mark.parametrize(
    ("command", "effects", "says"),
    [
        (RIGHT, [], "has no effect"),
        (told("failed", code="conflict"), [effect()], "has an effect"),
        (told("expired", code="late"), [effect()], "has an effect"),
        (told("canceled"), [effect()], "has an effect"),
        (told("canceled", started_at="now"), [effect()], "has an effect"),
        (told("succeeded", data={"changed": False}), [effect()], "has changed nothing"),
        (told("unknown", code="journal_lost", executed_at="now"), [], "its result was lost"),
        (told("unknown", code="timeout"), [], "its result was lost"),
        (told("unknown", code="interrupted", executed_at="now"), [], "could have been proven"),
    ],
)
def test_words_are_held_against_effects(command: Told, effects: list[Effect], says: str) -> None:
    """Success without an effect, an effect without success, an end that nobody has proven."""
    assert says in invariants.honest([command], {"c1": effects})[0]


def test_what_nobody_can_prove_may_be_unknown() -> None:
    """A JSON patch has nowhere to put the mark of its command, so the agent may not know after a crash."""
    command = told("running", "unknown", code="interrupted", wanted=JSON_PATCH, executed_at="now")
    for found in ({"c1": []}, made(*JSON_PATCH.changes)):
        assert invariants.honest([command], found) == []


def test_each_part_of_a_drain_is_counted_for_itself() -> None:
    """One cordon and one eviction of each pod are right; two of one pod are not."""
    command = told("running", "succeeded", wanted=DRAIN, data=DRAINED)
    whole = made(CORDONED, *EVICTED)
    assert invariants.at_most_once([command], whole, []) == []
    assert invariants.as_asked([command], whole) == []
    assert invariants.honest([command], whole) == []
    twice = made(CORDONED, *EVICTED, EVICTED[0])
    assert "2 effects of c1" in invariants.at_most_once([command], twice, [])[0]


def test_what_was_not_asked_for_is_seen() -> None:
    """A change of another object, and success without a part of it."""
    command = told("running", "succeeded", wanted=DRAIN, data=DRAINED)
    another = EVICTED[0]._replace(name="c")
    assert "was not asked for" in invariants.as_asked([command], made(CORDONED, *EVICTED, another))[0]
    assert (
        "without: create pods/eviction ns/b" in invariants.as_asked([command], made(CORDONED, EVICTED[0]))[0]
    )


def test_a_drain_that_ends_half_way_tells_what_it_has_done() -> None:
    """It may be canceled, or out of time, with effects; what it names, it has done."""
    for state in ("canceled", "failed"):
        command = told("running", state, wanted=DRAIN, data=DRAINED, started_at="now")
        assert invariants.honest([command], made(CORDONED, *EVICTED)) == []
        assert "has not changed pods ns b" in invariants.honest([command], made(CORDONED, EVICTED[0]))[0]
        assert "has not changed nodes" in invariants.honest([command], made(*EVICTED))[0]
    early = told("expired", wanted=DRAIN)
    assert "has an effect" in invariants.honest([early], made(CORDONED))[0]


@pytest.mark.parametrize(
    ("state", "effects", "certain", "writes"),
    [
        ("succeeded", 1, True, {2}),
        ("failed", 0, True, {1}),
        ("unknown", 0, True, {1, 2}),
        ("succeeded", 1, False, {2}),
        ("failed", 1, False, {1}),
        ("unknown", 1, True, {2}),
    ],
)
async def test_the_store_counts_what_has_changed(
    state: str, effects: int, certain: bool, writes: set[int]
) -> None:
    """An object is written when it is made, and once for each effect; where the end is open, so is that."""
    place = SCALE.changes[0].place
    log = {"c1": [replace(effect(), certain=certain)] * effects}
    right = {
        count
        for count in range(4)
        if not await invariants.whole(Objects({place}, {place: count}), [told(state)], log)  # type: ignore[arg-type]
    }
    assert right == writes


@pytest.mark.parametrize(("state", "effects", "writes"), [("succeeded", 1, {0}), ("failed", 0, {1})])
async def test_what_was_removed_is_not_in_the_store(state: str, effects: int, writes: set[int]) -> None:
    """A deletion's effect is that the object is gone."""
    wanted = replace(SCALE, action="delete_pod", resource="pods")
    place = wanted.changes[0].place
    log = made(*wanted.changes * effects)
    right = {
        count
        for count in range(3)
        if not await invariants.whole(
            Objects({place}, {place: count}),  # type: ignore[arg-type]
            [told(state, wanted=wanted)],
            log,
        )
    }
    assert right == writes


@pytest.mark.parametrize(("certain", "writes"), [(True, {0}), (False, {0, 1, 2, 3})])
async def test_an_eviction_that_was_cut_off_may_have_marked_its_pod(certain: bool, writes: set[int]) -> None:
    """The API server writes to a pod twice before it removes it."""
    evicted = Change("create", "pods/eviction", "ns", "a")
    wanted = replace(SCALE, action="drain", further=(evicted,))
    log = {"c1": [replace(effect, certain=certain) for effect in made(evicted)["c1"]]}
    right = {
        count
        for count in range(6)
        if not await invariants.whole(
            Objects({evicted.place}, {evicted.place: count}),  # type: ignore[arg-type]
            [told("canceled", wanted=wanted)],
            log,
        )
    }
    assert right == writes


def test_the_audit_log_is_read_on_when_it_was_set_aside(tmp_path: Path) -> None:
    """A full file is renamed and a new one begun: nothing is read twice, and nothing is missed."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)

    def write(name: str, **more: Any) -> None:
        entry = {
            "auditID": name,
            "verb": "patch",
            "requestURI": "/x",
            "user": {},
            "responseStatus": {"code": 200},
            "requestReceivedTimestamp": "now",
            **more,
        }
        with path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    write("a")
    assert [found.command_id for found in log.read()] == ["a"]
    write("b")
    write("refused", responseStatus={"code": 409})
    write("tried", requestURI="/x?dryRun=All")
    write("read", verb="get")
    path.rename(tmp_path / "audit-2026.log")
    write("c")
    write("unsaid", responseStatus={"code": 504})
    assert [found.command_id for found in log.read()] == ["a", "b", "c", "unsaid"]
    assert [found.certain for found in log.read()] == [True, True, True, False]
    assert list(log.of_commands(["b", "z"])) == ["b", "z"]
    path.write_text("")  # as a new file that has the number of one that was thrown away
    write("d")
    assert [found.command_id for found in log.read()] == ["a", "b", "c", "unsaid", "d"]
