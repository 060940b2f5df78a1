"""Lines of one container's log: cut out of what the API server sends, counted, written as they are wanted.

They are always asked for with their times, since only these say where to go on after a break.
"""

from schemas.logs import LogCounter, LogPosition, time_of

LONG = 64 * 1024
"""Bytes of a line that are handed on before its end is there."""


class LogLines:
    """Takes the bytes of one answer after the other, and gives what is to be shown of them.

    `resume`: where the reader stands. An answer that goes on from there begins with lines that have been
    shown; `begin` is called before each answer.
    """

    def __init__(
        self,
        pod: str,
        container: str,
        *,
        timestamps: bool,
        prefix: bool,
        limit: int | None = None,
        resume: LogPosition | None = None,
        cut: bool = False,
    ) -> None:
        """`cut`: what is read first begins at whatever line, and not with the log."""
        self._pod = pod
        self._container = container
        self._timestamps = timestamps
        self._prefix = f"[pod/{pod}/{container}] ".encode() if prefix else b""
        self._limit = limit
        self._cut = cut
        self._position = resume or LogPosition(pod=pod, container=container)
        self.begin()

    @property
    def position(self) -> LogPosition:
        """Behind what was given."""
        return self._position

    @property
    def inside(self) -> bool:
        """Whether what was given ends in the middle of a line."""
        return self._inside

    @property
    def full(self) -> bool:
        """Whether the limit of bytes is reached."""
        return self._limit is not None and self._counter.total >= self._limit

    def begin(self) -> None:
        """An answer begins, at the second of `position`."""
        self._rest = b""
        self._inside = False
        self._time: str | None = None
        """Of the line that we are inside of."""
        self._known = False
        """Whether that line has been shown."""
        at = self._position
        self._skipping = at.lines
        """Whole lines still to be left out."""
        self._drop = at.offset
        """Bytes to be left out of the line behind them."""
        begins_cut = bool(at.first) if at.lines else self._cut
        self._counter = LogCounter(at.since, cut=begins_cut)
        self._counter.total, self._counter.offset = at.total, at.offset

    def feed(self, data: bytes) -> bytes:
        """What is to be shown of these bytes."""
        out: list[bytes] = []
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._inside:
                self._go_on(line + b"\n", out)
                self._end()
            else:
                self._whole(line, out)
        if self._rest and (self._inside or len(self._rest) > LONG):
            if self._inside:
                self._go_on(self._rest, out)
            else:
                self._long(self._rest, out)
            self._rest = b""
        return self._given(out)

    def finish(self) -> bytes:
        """The answer is over, and what is left of it is the end of the log: a line without a line end."""
        rest, self._rest = self._rest, b""
        out: list[bytes] = []
        if rest:
            self._long(rest, out)
        return self._given(out)

    def break_line(self) -> bytes:
        """End the line that we are inside of, so that others can be shown; it goes on as one of its own."""
        return b"\n" if self._inside else b""

    # --- one line ------------------------------------------------------------------------------------

    def _whole(self, line: bytes, out: list[bytes]) -> None:
        stamp, _, text = line.partition(b" ")
        time = time_of(stamp)
        if self._is_known(time, out):
            return
        if time is None:  # the kubelet's own words, or the end of a line that began before
            self._show(self._prefix + line + b"\n", out)
            return
        self._counter.count(time)
        if self._drop:
            self._show(text[self._drop :] + b"\n", out)
            self._drop = self._counter.offset = 0
        elif self._timestamps:
            self._show(self._prefix + line + b"\n", out)
        else:
            self._show(self._prefix + text + b"\n", out)

    def _is_known(self, time: str | None, out: list[bytes]) -> bool:
        """Whether it is one of the lines that the reader has."""
        if not self._skipping:
            return False
        if time is None:
            return True
        if time > self._position.last:
            self._skipping = 0  # a log that has begun anew
            if self._drop:
                self._show(b"\n", out)
                self._drop = self._counter.offset = 0
            return False
        if time >= self._position.since and time >= self._position.first:
            self._skipping -= 1
            self._counter.count(time)
        return True

    def _long(self, start: bytes, out: list[bytes]) -> None:
        """The first part of a line whose end is not there yet."""
        stamp, _, text = start.partition(b" ")
        self._time = time_of(stamp)
        self._inside = True
        self._known = self._is_known(self._time, out)
        if self._known:
            return
        if self._drop or self._time is None:
            self._go_on(text if self._time else self._prefix + start, out)
            return
        self._show(self._prefix + (stamp + b" " if self._timestamps else b""), out)
        self._go_on(text, out)

    def _go_on(self, text: bytes, out: list[bytes]) -> None:
        if self._known:
            return
        if self._drop:
            dropped = min(self._drop, len(text.rstrip(b"\n")))
            self._drop -= dropped
            text = text[dropped:]
        self._counter.offset += len(text)
        self._show(text, out)

    def _end(self) -> None:
        """The line that we are inside of is whole."""
        self._inside = False
        if self._known:
            return
        if self._time is not None:
            self._counter.count(self._time)
        self._counter.offset = self._drop = 0

    def _show(self, text: bytes, out: list[bytes]) -> None:
        if self._limit is not None:
            room = self._limit - self._counter.total
            text = text[: max(0, room)]
        self._counter.total += len(text)
        out.append(text)

    def _given(self, out: list[bytes]) -> bytes:
        if not self._skipping:
            self._position = self._counter.position(self._pod, self._container)
        return b"".join(out)
