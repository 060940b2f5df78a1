"""What all tests of the API have: time for what is not measured; and those of commands an agent."""

import pytest

from services.api.logs import session
from services.persistence import tokens
from services.persistence.database import engine
from services.persistence.database.postgresql import Limits
from tests.api.commanding import announce
from tests.api.fixtures import Fleet


@pytest.fixture(autouse=True)
def _machine_may_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than a look at the tokens, a transaction or an agent's start may take; where that is a
    test's subject it says so itself."""
    limits = Limits(connect=30.0, statement=60.0, answer=61.0, lock=30.0, idle=30.0)
    monkeypatch.setattr(engine, "Limits", lambda: limits)
    monkeypatch.setattr(tokens, "_PATIENCE", 30.0)
    monkeypatch.setattr(session, "ANSWER", 30.0)


@pytest.fixture
async def agent(fleet: Fleet) -> Fleet:
    """It can do everything, and was there a moment ago."""
    await announce(fleet)
    await fleet.beats()
    return fleet
