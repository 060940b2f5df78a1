"""What the API sends of logs, as a person wants it; and how much of each container's log has been shown.

Lines are always asked for with prefix and time, since these say where to go on.
"""

import re
from typing import BinaryIO

from schemas.logs import MAX_POSITIONS, LogCounter, time_of

_HEAD = re.compile(rb"\[pod/([a-z0-9.-]{1,253})/([a-z0-9-]{1,63})\] ([0-9T:.+Z-]{20,35}) ")
_LONGEST_HEAD = 512
_LONGEST_POSITIONS = 14 * 1024
"""Bytes of positions that one request may have: the API takes no longer address."""
_ERROR = b"error: "
"""So begins what is told among the lines; behind the last one it is why the answer was broken off."""


class LogText:
    """Writes what is sent to it. `cut`: what is read first begins at whatever line, not with the log.

    `errors`: what is told among the lines is to be shown at once, since it breaks nothing off.
    """

    def __init__(
        self, out: BinaryIO, *, timestamps: bool, prefix: bool, cut: bool, errors: bool = False
    ) -> None:
        self._out = out
        self.timestamps = timestamps
        self.prefix = prefix
        self._cut = cut
        self._counters: dict[tuple[str, str], LogCounter] = {}
        """By pod and container; the last one has written last."""
        self._rest = b""
        """The beginning of a line whose head is not there yet, or an error that may be the last word."""
        self._errors = errors
        self._told: set[bytes] = set()
        """Errors that have been shown: who goes on elsewhere is told them again."""
        self._inside = False
        self._counter: LogCounter | None = None
        """Of the line that we are inside of."""
        self._time = ""
        self.bytes = 0
        """That have been written."""
        self.begun = ""
        """When the first answer began, by the API's clock."""

    def positions(self) -> list[str]:
        """Where to go on, for the parameter `resume`; without what has been silent for the longest, such as
        pods that are gone, where it is too much for one request."""
        found: list[str] = []
        size = 0
        for (pod, container), counter in reversed(self._counters.items()):
            found.append(str(counter.position(pod, container)))
            size += len("&resume=") + len(found[-1])
            if size > _LONGEST_POSITIONS or len(found) > MAX_POSITIONS:
                return found[:-1]
        return found

    def interrupted(self) -> str:
        """The answer has broken off, so the beginning of a line's head comes again; why, if that was told."""
        rest, self._rest = self._rest, b""
        return _error(rest)[len(_ERROR) : -1].decode(errors="replace")

    def finish(self) -> None:
        """The answer is whole."""
        self._show(self._rest)
        self._rest = b""

    def write(self, data: bytes) -> None:
        """The next bytes of the answer."""
        data = self._rest + data
        self._rest = b""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._inside:
                head = _HEAD.match(data, at)
                if head is None and b"\n" not in data[at:] and len(data) - at < _LONGEST_HEAD:
                    self._rest = data[at:]
                    break
                if head is None and (error := _error(data[at:])):
                    at += len(error)
                    if at == len(data) and not self._errors:
                        self._rest = error
                    elif error not in self._told:
                        self._told.add(error)
                        out.append(error)
                    continue
                at = self._begin(head, at, out)
            end = data.find(b"\n", at) + 1
            self._go_on(data[at : end or len(data)], out, ends=bool(end))
            at = end or len(data)
        self._show(b"".join(out))

    def write_bare(self, data: bytes) -> None:
        """The next bytes of an answer whose lines are to be shown as they are."""
        data = self._rest + data
        last = data.rfind(b"\n", 0, len(data) - 1) + 1
        self._rest = b"" if self._errors else _error(data[last:])
        self._show(data[: len(data) - len(self._rest)])

    def _show(self, text: bytes) -> None:
        self._out.write(text)
        self._out.flush()
        self.bytes += len(text)

    def _begin(self, head: "re.Match[bytes] | None", at: int, out: list[bytes]) -> int:
        """The head of a line; where its text begins."""
        self._inside, self._counter = True, None
        if head is None:
            return at
        time = time_of(head[3])
        if time is None:
            return at
        key = head[1].decode(), head[2].decode()
        known = self._counters.pop(key, None)
        self._counter = self._counters[key] = LogCounter(cut=self._cut) if known is None else known
        self._time = time
        if self.prefix:
            out.append(b"[pod/%b/%b] " % (head[1], head[2]))
        if self.timestamps:
            out.append(head[3] + b" ")
        return head.end()

    def _go_on(self, text: bytes, out: list[bytes], *, ends: bool) -> None:
        out.append(text)
        counter = self._counter
        if counter is not None:
            counter.total += len(text)
            if ends:
                counter.count(self._time)
                counter.offset = 0
            else:
                counter.offset += len(text)
        self._inside = not ends


def _error(text: bytes) -> bytes:
    """The whole line that it begins with, if it tells an error."""
    return text[: text.find(b"\n") + 1] if text.startswith(_ERROR) else b""
