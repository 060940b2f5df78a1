"""Every call of a run is recorded, and what they were told is held against each other."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faults.commands.history import Ended, Entry, History
from tests.faults.commands.invariants import recorded
from tests.faults.commands.rest import Rest
from tests.faults.commands.world import Wanted
from tests.faults.system import System

SCALE = Wanted("scale", "deployments", "ns", "web", {}, "60s", "60s")


def call(number: int, what: str, key: str = "") -> Entry:
    """It begins."""
    return {"number": number, "type": "invoke", "call": what, "key": key}


def answer(number: int, state: str, command_id: str = "c1", how: Ended = Ended.OK) -> Entry:
    """It ends; with another end than `ok` nobody looks at what was told."""
    return {"number": number, "type": how, "status": 0, "answer": {"id": command_id, "state": state}}


ASKED = (call(1, "POST /commands", "key"), answer(1, "accepted"))
LOOK = "GET /commands/c1?wait=2s"


def test_calls_that_overlap_may_be_told_in_any_order() -> None:
    """Who began to look before somebody was told the end may be told what was before it."""
    entries = [
        *ASKED,
        *(call(2, LOOK), call(3, LOOK), answer(3, "succeeded"), answer(2, "running")),
        *(call(4, "POST /commands", "key"), answer(4, "", how=Ended.UNKNOWN)),
        *(call(5, "POST /commands", "key"), answer(5, "succeeded")),
        *(call(6, "POST /commands/c1/cancel"), answer(6, "", how=Ended.FAIL)),
    ]
    assert recorded(entries, {"c1": "key"}) == []


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((call(2, LOOK),), "has no end"),
        ((call(2, LOOK), answer(2, "sent"), answer(2, "sent")), "call 2 has ended once more"),
        ((call(2, "POST /commands", "key"), answer(2, "accepted", "c2")), "told of c2, which is not there"),
        ((call(2, "POST /commands", "k2"), answer(2, "accepted")), "has another key than k2"),
        ((call(2, LOOK), answer(2, "", how=Ended.FAIL)), "was refused"),
        (
            (call(2, LOOK), answer(2, "running"), call(3, LOOK), answer(3, "sent")),
            "told that c1 is sent, when it was known to be running",
        ),
        (
            (call(2, LOOK), answer(2, "failed"), call(3, "POST /commands/c1/cancel"), answer(3, "running")),
            "told that c1 is running, when it was known to be failed",
        ),
        (
            (call(2, LOOK), answer(2, "unknown"), call(3, LOOK), answer(3, "succeeded")),
            "told that c1 is succeeded, and somebody that it is unknown",
        ),
        (
            (call(2, LOOK), call(3, LOOK), answer(3, "expired"), answer(2, "failed")),
            "told that c1 is failed, and somebody that it is expired",
        ),
    ],
)
def test_calls_are_looked_at(entries: tuple[Entry, ...], says: str) -> None:
    """No end, a second one, a command that is not there or has another key, a refused look, a way back."""
    [violation] = recorded([*ASKED, *entries], {"c1": "key"})
    assert says in violation


async def test_every_call_is_recorded_with_one_end(tmp_path: Path) -> None:
    """Also one whose caller does not wait any longer; of a look only how the command stands is kept."""
    never = asyncio.Event()

    class Api:
        async def call(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
            if path.endswith("never"):
                await never.wait()
            return 200, {"id": "c1", "state": "accepted", "data": "large"}

    history = History(tmp_path / "commands.jsonl")
    assert list(history.entries()) == []
    rest = Rest(cast(System, Api()), history)
    await rest.post(SCALE, "key")
    await rest.get("c1", 2.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await rest.get("never")
    found = list(history.entries())
    assert [entry["type"] for entry in found] == ["invoke", "ok", "invoke", "ok", "invoke", "unknown"]
    assert [entry["call"] for entry in found[::2]] == [
        "POST /commands",
        "GET /commands/c1?wait=2s",
        "GET /commands/never",
    ]
    assert (found[0]["key"], found[3]["answer"]) == ("key", {"id": "c1", "state": "accepted"})
    assert recorded(found, {"c1": "key"}) == []
