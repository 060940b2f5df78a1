"""An api that is killed in the middle: whoever asks again under the same key gets one command."""

import httpx
import pytest

from services.persistence.database.engine import Database
from tests.api.commanding import COMMANDS, SCALE, announce, stored
from tests.api.fixtures import Fleet
from tests.api.processes import environment, process
from tests.bus.fixtures import RunningBroker
from tests.tokens import AUTHORIZED

_KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


@pytest.mark.parametrize(
    ("point", "survive"), [("api.command.before-commit", 0), ("api.command.after-commit", 1)]
)
async def test_one_command_whenever_the_api_is_killed(
    broker: RunningBroker, either_url: str, point: str, survive: int
) -> None:
    """Before the commit nothing is there, after it the command is; asked again elsewhere, it is the one."""
    async with Database(either_url) as database:
        await announce(Fleet(database))
        variables = environment(broker, either_url, API_LISTEN="127.0.0.1:0")
        async with process(**variables, ATLHYPER_FAILPOINTS=f"{point}:1:kill") as (running, lines):
            async with httpx.AsyncClient(
                base_url=str(lines[-1]["address"]), headers=AUTHORIZED, timeout=40
            ) as api:
                with pytest.raises(httpx.TransportError):
                    await api.post(COMMANDS, json=SCALE, headers=_KEY)
            assert await running.wait() == -9
        before = [command.id for command in await stored(database)]
        assert len(before) == survive
        async with (
            process(**variables) as (_, lines),
            httpx.AsyncClient(base_url=str(lines[-1]["address"]), headers=AUTHORIZED, timeout=40) as api,
        ):
            answers = [await api.post(COMMANDS, json=SCALE, headers=_KEY) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        [command] = await stored(database)
        assert {answer.json()["id"] for answer in answers} == {command.id}
        assert before in ([], [command.id])
