"""Each invariant of commands sees what it is about, and is content with what is right."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.audit import CommandStep
from tests.faults.commands import invariants
from tests.faults.commands.driver import Told
from tests.faults.commands.effects import AuditLog, Effect
from tests.faults.commands.world import Wanted

NOW = datetime.now(UTC)


def told(*states: str, code: str = "", command_id: str = "c1", ended_after: float = 0.0, **more: Any) -> Told:
    """A command that was seen in these states."""
    found = Told(Wanted("scale", "deployments", "ns", "web", {}, "60s", "60s"), "key", command_id)
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


RIGHT = told("accepted", "sent", "running", "succeeded")


def test_what_is_right_violates_nothing() -> None:
    """A command that took its way, with one effect."""
    effects = {"c1": [effect()]}
    steps = [CommandStep("c1", "accepted", "sent"), CommandStep("c1", "sent", "succeeded")]
    assert invariants.at_most_once([RIGHT], effects, [effect()]) == []
    assert invariants.ended_once([RIGHT], steps) == []
    assert invariants.none_missing([RIGHT], {"c1": "key"}) == []
    assert invariants.honest([RIGHT], effects) == []


def test_effects_are_counted() -> None:
    """Two of one command, and one of none."""
    assert "2 effects of c1" in invariants.at_most_once([RIGHT], {"c1": [effect(), effect()]}, [])[0]
    assert "of no command" in invariants.at_most_once([RIGHT], {}, [effect("somebody's")])[0]


def test_a_change_that_is_not_certain_is_open() -> None:
    """The API server does not say whether it was done: the command's word is taken, and it is counted."""
    maybe = {"c1": [replace(effect(), certain=False)]}
    for state in ("succeeded", "failed", "unknown"):
        command = told("accepted", state, code="interrupted")
        assert invariants.honest([command], maybe) == []
        assert invariants.effective([command], maybe) == ({"c1"} if state == "succeeded" else set())
    assert invariants.at_most_once([RIGHT], {"c1": [*maybe["c1"], effect()]}, []) == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (told("accepted", "running"), "has not ended"),
        (told("accepted", "succeeded", ended_after=60), "after"),
        (told("running", "sent", "succeeded"), "was seen as running → sent"),
        (told("expired", "succeeded"), "was seen as expired → succeeded"),
    ],
)
def test_ends_and_ways_are_looked_at(command: Told, says: str) -> None:
    """No end, a late one, a way back, a second end: as its author saw it."""
    assert says in " ".join(invariants.ended_once([command], []))


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
    assert "c1 went from" in invariants.ended_once([RIGHT], [step])[0]


def test_what_was_accepted_is_there_once() -> None:
    """One that is not there, two of one key, one that nobody has asked for."""
    assert "is not there" in invariants.none_missing([RIGHT], {})[0]
    assert "2 commands have the key" in invariants.none_missing([RIGHT], {"c1": "key", "c2": "key"})[0]
    assert "nobody has asked" in invariants.none_missing([RIGHT], {"c1": "key", "c3": "another"})[0]


@pytest.mark.parametrize(
    ("command", "effects", "says"),
    [
        (RIGHT, [], "has no effect"),
        (told("failed", code="conflict"), [effect()], "has an effect"),
        (told("expired", code="late"), [effect()], "has an effect"),
        (told("canceled"), [effect()], "has an effect"),
        (told("unknown", code="timeout_of_the_master"), [], "its result was lost"),
    ],
)
def test_words_are_held_against_effects(command: Told, effects: list[Effect], says: str) -> None:
    """Success without an effect, an effect without success, an end that nobody has proven."""
    assert says in invariants.honest([command], {"c1": effects})[0]


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
