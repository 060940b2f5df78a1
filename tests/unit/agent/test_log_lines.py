"""Lines of a log: cut anywhere, broken off anywhere and gone on with, each is shown once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ContractError
from schemas.logs import LogCounter, LogPosition, time_of
from services.agent.kubernetes.service import log_lines
from services.agent.kubernetes.service.log_lines import LogLines

START = datetime(2026, 11, 21, 8, tzinfo=UTC)
Line = tuple[str, bytes]


def stamp(milliseconds: int) -> str:
    return (START + timedelta(milliseconds=milliseconds)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def kubelet(lines: list[Line], position: LogPosition, tail: int | None) -> bytes:
    """What the API server sends from a position on: it filters by second only."""
    if not position.lines and not position.since and tail is not None:
        lines = lines[len(lines) - tail :]
    since = f"{position.since}.000000000Z" if position.since else ""
    return b"".join(time.encode() + b" " + text + b"\n" for time, text in lines if time >= since)


@st.composite
def logs(draw: st.DrawFn) -> list[Line]:
    """Lines whose times go on, many at one time, some a little out of order; some are long."""
    steps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 300, 999, 1000, 5000]), min_size=1, max_size=30))
    texts = st.one_of(
        st.binary(max_size=8).map(lambda text: text.replace(b"\n", b" ")),
        st.integers(20, 200).map(lambda size: b"0123456789" * size),
    )
    now, lines = 0, []
    for step in steps:
        now += step
        jitter = draw(st.sampled_from([0, 0, -1, -200]))
        lines.append((stamp(max(0, now + jitter)), draw(texts)))
    return lines


@settings(max_examples=400, deadline=None)
@given(
    lines=logs(),
    breaks=st.lists(st.floats(0, 1), max_size=4),
    block=st.integers(1, 700),
    timestamps=st.booleans(),
    restart=st.booleans(),
    tail=st.integers(1, 30) | st.none(),
)
def test_each_line_once_over_breaks(
    lines: list[Line], breaks: list[float], block: int, timestamps: bool, restart: bool, tail: int | None
) -> None:
    """However answers are cut and wherever they break, also by a reader that comes anew with the position."""
    if tail is not None:  # a cut between lines of one time cannot be told from one before them
        lines = sorted({time: (time, text) for time, text in lines}.values())
        tail = min(tail, len(lines))
    long, log_lines.LONG = log_lines.LONG, 100
    try:
        cut = tail is not None
        reading = LogLines("web-0", "app", timestamps=timestamps, prefix=False, cut=cut)
        shown = b""
        for part in (*breaks, 1.0):
            answer = kubelet(lines, reading.position, tail)
            if restart:
                position = LogPosition.parse(str(reading.position))
                reading = LogLines(
                    "web-0", "app", timestamps=timestamps, prefix=False, resume=position, cut=cut
                )
            else:
                reading.begin()
            for at in range(0, int(len(answer) * part), block):
                shown += reading.feed(answer[at : min(at + block, int(len(answer) * part))])
        wanted = lines if tail is None else lines[len(lines) - tail :]
        assert shown == b"".join(
            (time.encode() + b" " if timestamps else b"") + text + b"\n" for time, text in wanted
        )
    finally:
        log_lines.LONG = long


def test_a_log_that_begins_anew_is_shown_whole() -> None:
    """After a rotation or a restart of the container fewer old lines are there than have been read."""
    reading = LogLines("web-0", "app", timestamps=False, prefix=False)
    reading.feed(b"".join(f"{stamp(n)} old {n}\n".encode() for n in range(10)))
    reading.begin()
    assert reading.feed(f"{stamp(9)} old 9\n{stamp(11)} new\n".encode()) == b"new\n"


def test_prefix_limit_and_lines_without_a_time() -> None:
    """The limit counts what is shown; what the kubelet says itself has no time, and is shown."""
    reading = LogLines("web-0", "app", timestamps=False, prefix=True)
    assert reading.feed(f"{stamp(0)} a\nunable to read\n".encode()) == (
        b"[pod/web-0/app] a\n[pod/web-0/app] unable to read\n"
    )
    reading = LogLines("web-0", "app", timestamps=False, prefix=False, limit=3)
    assert reading.feed(f"{stamp(0)} ab\n{stamp(1)} cd\n".encode()) == b"ab\n"
    assert reading.full


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2026-11-21T08:00:00.123456789Z", "2026-11-21T08:00:00.123456789"),
        (b"2026-11-21T09:00:00.123456789+01:00", "2026-11-21T08:00:00.123456789"),
        (b"2026-11-21T08:00:00.5Z", "2026-11-21T08:00:00.500000000"),
        (b"2026-11-21T08:00:00Z", "2026-11-21T08:00:00.000000000"),
        (b"2026-13-21T08:00:00Z", None),
        (b"listening", None),
        (b"", None),
    ],
)
def test_times(text: bytes, time: str | None) -> None:
    """All forms in which kubelets have written them, as texts that compare as times."""
    assert time_of(text) == time


def test_positions_are_read_back() -> None:
    """And what is none is refused."""
    counter = LogCounter()
    counter.count("2026-11-21T08:00:00.000000000")
    position = counter.position("web-0", "app")
    assert LogPosition.parse(str(position)) == position
    assert LogPosition.parse(str(LogPosition(pod="a", container="b"))) == LogPosition(pod="a", container="b")
    for text in ("", "web-0/app", "web-0/app@now,1,,0,0", "../app@,0,,0,0\n", f"{position}x"):
        with pytest.raises(ContractError):
            LogPosition.parse(text)
