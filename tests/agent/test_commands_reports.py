"""What an agent says of a command, and how many times it speaks."""

import pytest

from services.agent.scheduler.commands import reports
from tests.agent.commands.bench import Bench
from tests.agent.commands.desk import command
from tests.waiting import until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(autouse=True)
def _gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "GATHER", 60.0)  # no machine is that slow


async def test_a_short_command_is_told_at_once(bench: Bench) -> None:
    """Its beginning goes with its end: the broker is asked once, and the master commits once."""
    about = command()
    await bench.do(about)
    assert bench.gateway.together == [["received", "started", "completed"]]
    await until(lambda: not bench.journal.unconfirmed)


async def test_large_data_goes_with_its_beginning(bench: Bench) -> None:
    """What was received and started comes before all parts, and the end behind them."""
    about = command("read", params={"size": 2_000_000})
    end = await bench.do(about)
    assert bench.gateway.together[0][:3] == ["received", "started", "part-0"]
    assert bench.gateway.names(about.id) == [
        "received",
        "started",
        *(f"part-{index}" for index in range(end.parts)),
        "completed",
    ]


async def test_data_that_is_refused_takes_nothing_with_it(bench: Bench) -> None:
    """A result that the broker refuses for its size is told again without its data, and without the rest."""
    bench.gateway.largest = 10_000
    about = command("read", params={"size": 100_000})
    await bench.do(about)
    assert bench.gateway.together == [["received", "started", "completed"], ["completed"]]
    assert bench.gateway.names(about.id) == ["received", "started", "completed"]
