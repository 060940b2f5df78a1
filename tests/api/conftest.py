"""What tests of commands over REST have: an agent that takes them."""

import pytest

from tests.api.commanding import announce
from tests.api.fixtures import Fleet


@pytest.fixture
async def agent(fleet: Fleet) -> Fleet:
    """It can do everything, and was there a moment ago."""
    await announce(fleet)
    await fleet.beats()
    return fleet
