"""The core's time as an agent knows it."""

from datetime import UTC, datetime, timedelta

from services.agent.gateway.clock import HOLDS, CoreClock

CORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Hand:
    """Both clocks of the machine, moved by hand."""

    def __init__(self, off: timedelta = timedelta(0)) -> None:
        self.seconds = 100.0
        self.off = off

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return CORE + timedelta(seconds=self.seconds - 100) + self.off


def clock(hand: Hand) -> CoreClock:
    return CoreClock(hand.monotonic, hand.wall)


def test_alone_it_is_the_own_clock() -> None:
    """Nothing was heard: the own clock is all there is."""
    hand = Hand(timedelta(hours=1))
    assert clock(hand).now() == hand.wall()


def test_heard_it_is_the_cores() -> None:
    """From one fresh message on the own clock is not asked, whatever it does."""
    for hours in (1, -1):
        hand = Hand(timedelta(hours=hours))
        here = clock(hand)
        here.hear(CORE)
        hand.seconds += 60
        assert here.now() == CORE + timedelta(minutes=1)
        assert here.skew() == timedelta(hours=hours)
        hand.off = timedelta(days=3)
        assert here.now() == CORE + timedelta(minutes=1)


def test_slow_messages_do_not_set_it_back() -> None:
    """The latest reading counts for a while; then a newer one, since clocks drift."""
    hand = Hand()
    here = clock(hand)
    here.hear(CORE)
    here.hear(CORE - timedelta(seconds=3))
    assert here.now() == CORE
    hand.seconds += HOLDS + 1
    here.hear(CORE - timedelta(seconds=3))
    assert here.now() == CORE - timedelta(seconds=3)


def test_old_messages_are_a_lower_bound() -> None:
    """What lay at the broker for a while says that it is not earlier than that."""
    behind, ahead = Hand(timedelta(hours=-1)), Hand(timedelta(hours=1))
    for hand in (behind, ahead):
        here = clock(hand)
        here.hear(CORE - timedelta(minutes=5), fresh=False)
        assert here.now() == max(hand.wall(), CORE - timedelta(minutes=5))


def test_what_was_heard_long_ago_counts_no_more() -> None:
    """A message whose time was wrong does no harm for ever, and only a fresh one tells the time."""
    hand = Hand()
    here = clock(hand)
    here.hear(CORE + timedelta(hours=1), fresh=False)
    assert not here.known
    hand.seconds += HOLDS + 1
    here.hear(CORE, fresh=False)
    assert here.now() == hand.wall()
    here.hear(hand.wall())
    assert here.known
