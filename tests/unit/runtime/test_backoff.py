import pytest

from services.runtime.backoff import Backoff


def test_pauses_grow_to_the_cap_and_never_beyond() -> None:
    """Each pause lies below an exponential bound, the bound stops at `cap`, and none is a busy loop."""
    backoff = Backoff(base=0.5, cap=4.0)
    for attempt in range(200):
        assert 0.05 <= backoff.delay() <= min(4.0, 0.5 * 2**attempt)


def test_reset_starts_again_at_base() -> None:
    """After a success the next pause is a first one."""
    backoff = Backoff(base=0.5, cap=30.0)
    for _ in range(20):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() <= 0.5


def test_pauses_of_many_clients_are_spread() -> None:
    """A hundred clients that fail together do not come back together."""
    clients = [Backoff(base=8.0, cap=30.0) for _ in range(100)]
    pauses = sorted(client.delay() for client in clients)
    assert pauses[-1] - pauses[0] > 4.0


async def test_sleep_waits() -> None:
    """`sleep` is a pause of the event loop, not of the process."""
    await Backoff(base=0.05, cap=0.05).sleep()


@pytest.mark.parametrize("attempts", [2_000])
def test_a_long_outage_does_not_overflow(attempts: int) -> None:
    """The exponent is bounded: thousands of attempts still give a finite pause."""
    backoff = Backoff()
    for _ in range(attempts):
        assert backoff.delay() <= 30.0
