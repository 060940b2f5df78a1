"""Logs: what a reader asks an agent for, the chunks that come back as calls, and places to go on from.

A session is one reader. The agent sends its chunks one after the other, each as a request; the answer says
how many bytes the next one may have. A reader that is slow grants none, one that is gone does not answer.
"""

import re
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from schemas.errors import ContractError

MAX_CHUNK = 256 * 1024
"""Bytes of lines in one chunk at most; written as JSON it is a third more."""

MAX_POD_WAIT = 600.0
"""Seconds for which a pod is waited for at most: so long a reader holds a place at the API and the agent."""

MAX_POSITIONS = 200
"""Logs of which one request may say where to go on."""

_UTC = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")
_STAMP = re.compile(rb"([0-9-]{10}T[0-9:]{8})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})")


def time_of(stamp: bytes) -> str | None:
    """The time before a line (RFC 3339), in UTC with nine decimals and no zone: the texts compare as times.

    None when it is none. The kubelet writes nine decimals since 1.23, in the zone of its node.
    """
    if len(stamp) == 30 and _UTC.fullmatch(stamp):
        return stamp[:29].decode()
    if not (found := _STAMP.fullmatch(stamp)):
        return None
    second, fraction, zone = found[1].decode(), (found[2] or b"").decode(), found[3].decode()
    try:
        time = datetime.fromisoformat(second + zone.replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{time:%Y-%m-%dT%H:%M:%S}.{fraction:0<9}"


class LogPosition(Struct, kw_only=True, omit_defaults=True):
    """How much of one container's log has been read; whoever goes on from it misses and repeats nothing.

    Kubernetes can only be asked for what was written since a second. So a position is such a second and the
    number of lines since then: they are read again and left out. Lines later than `last` are new whatever the
    number says, since a log that was rotated or belongs to the next container begins anew.
    """

    pod: str
    container: str
    since: str = ""
    """A second in UTC, such as `2026-11-21T08:00:00`; empty: the beginning of the log."""
    first: str = ""
    """The time of the first line that was read, nine decimals, where reading began inside that second:
    earlier ones are not wanted."""
    lines: int = 0
    """Whole lines since then."""
    last: str = ""
    """The latest time of a line, with nine decimals."""
    offset: int = 0
    """Bytes of the next line's text that have been read already."""
    total: int = 0
    """Bytes of all that has been read, for the limit of bytes."""

    def __str__(self) -> str:
        """As the parameter `resume` of the API has it: `web-0/app@2026-11-21T08:00:00,,17,…`."""
        numbers = f"{self.lines},{self.last},{self.offset},{self.total}"
        return f"{self.pod}/{self.container}@{self.since},{self.first},{numbers}"

    @classmethod
    def parse(cls, text: str) -> "LogPosition":
        """The inverse of `str`. Raises ContractError."""
        if not (found := _POSITION.fullmatch(text)):
            raise ContractError(f"{text[:120]!r} is no position in a log")
        pod, container, since, first, lines, last, offset, total = found.groups()
        return cls(
            pod=pod,
            container=container,
            since=since,
            first=first,
            lines=int(lines),
            last=last,
            offset=int(offset),
            total=int(total),
        )


_SECOND = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
_TIME = rf"((?:{_SECOND}\.[0-9]{{9}})?)"
_NUMBER = r"([0-9]{1,15})"
_POSITION = re.compile(
    rf"([a-z0-9.-]{{1,253}})/([a-z0-9-]{{1,63}})@((?:{_SECOND})?),{_TIME},{_NUMBER},{_TIME},{_NUMBER},{_NUMBER}"
)


class LogCounter:
    """Counts the lines of one container as they are read.

    The second to go on from is the one before the latest: lines of a container's two streams may stand in the
    log a little out of order.
    """

    __slots__ = ("_cut", "_latest", "_latest_lines", "first", "last", "lines", "offset", "since", "total")

    def __init__(self, since: str = "", *, cut: bool = False) -> None:
        """`since`: where reading begins; `cut`: at whatever line, inside of a second."""
        self.since = since
        self.first = ""
        self.lines = 0
        self.last = ""
        self.offset = 0
        self.total = 0
        self._cut = cut
        self._latest = ""
        self._latest_lines = 0

    def count(self, time: str) -> None:
        """One whole line of that time (`time_of`)."""
        second = time[:19]
        if second == self._latest:
            if time >= self.first:
                self.lines += 1
                self._latest_lines += 1
        elif second > self._latest:
            self._begin(second, time)
        elif second >= self.since and time >= self.first:
            self.lines += 1
        if time > self.last:
            self.last = time

    def _begin(self, second: str, time: str) -> None:
        if self._latest:
            self.since, self.lines = self._latest, self._latest_lines
            if self.first[:19] != self.since:
                self.first = ""
        elif self._cut:
            self.since, self.first = second, time
        self.lines += 1
        self._latest, self._latest_lines = second, 1

    def position(self, pod: str, container: str) -> LogPosition:
        """As of now."""
        return LogPosition(
            pod=pod,
            container=container,
            since=self.since,
            first=self.first,
            lines=self.lines,
            last=self.last,
            offset=self.offset,
            total=self.total,
        )


class LogsRequested(Struct, kw_only=True, omit_defaults=True):
    """Read logs and send them as calls of `session`; repeated until the first call.

    Of `pod`, `resource` with `name`, and `selector` one is given.
    """

    session: str
    """Random; the last token of the subject of the calls."""
    run: int = 1
    """Counts up when the session begins anew at `positions`, since nothing more was heard of it."""
    closed: bool = False
    """The reader is gone: end it, and send nothing more."""
    namespace: str = ""
    pod: str = ""
    resource: str = ""
    """Plural of a workload, such as `deployments`: its pods, also those that come later."""
    name: str = ""
    selector: str = ""
    """Of labels, in the words of Kubernetes: the pods that have them."""
    containers: list[str] = []
    """Names; empty: the one that the pod names as its default, else its first."""
    all_containers: bool = False
    follow: bool = False
    previous: bool = False
    """Of the container's run before this one."""
    tail: int | None = None
    """Lines from the end, of each container."""
    since_seconds: int | None = None
    """Only what is not older than so many seconds."""
    since_time: str = ""
    """Only what was written then or later (RFC 3339)."""
    limit_bytes: int | None = None
    """Of what is shown of each container."""
    timestamps: bool = False
    """Begin each line with its time."""
    prefix: bool = False
    """Begin each line with `[pod/<pod>/<container>] `."""
    ignore_errors: bool = False
    """What fails with one container is a line `error: …` among the others', and not the end."""
    max_log_requests: Annotated[int, Meta(ge=1)] | None = None
    """Containers that may be followed at once; None: as many as the agent follows for one reader."""
    pod_running_timeout: Annotated[float, Meta(ge=0)] = 20.0
    """Seconds to wait for what has no log yet: a pod that is being started, the first pod of a workload."""
    skip_tls_verify_backend: bool = False
    """The API server need not check who the kubelet is (`insecureSkipTLSVerifyBackend`)."""
    positions: list[LogPosition] = []
    """Where to go on, of the containers that have been read."""
    credit: Annotated[int, Meta(ge=0)] = MAX_CHUNK
    """Bytes of lines that the first chunk may have."""


class LogError(Struct, kw_only=True, omit_defaults=True):
    """Why logs cannot be read (any further)."""

    code: str
    """`not_found`, `forbidden`, `invalid`, `too_many` or `failed`."""
    message: str
    """In the API server's own words where it has any."""


class LogPiece(Struct, kw_only=True, omit_defaults=True):
    """Lines of one container, as they are to be shown; a line that is long may come in several."""

    data: bytes
    """Base64 of the lines, whatever bytes they hold, with their line ends."""
    position: LogPosition
    """Behind these lines."""


class LogsPublished(Struct, kw_only=True, omit_defaults=True):
    """A chunk: the next lines of a session, in order; repeated as it is until it is answered.

    The first one is empty and says that the agent is at it. Every few seconds one is sent, if only to see
    whether the reader is there.
    """

    session: str
    run: int
    """The run of the request that this answers."""
    sequence: Annotated[int, Meta(ge=0)]
    """Counts up from 0 in each run."""
    opened: bool = False
    """Reading has begun: what cannot be read at all has been told by now."""
    warnings: list[str] = []
    """With `opened`: what of it cannot be read, or was chosen."""
    pieces: list[LogPiece] = []
    ended: bool = False
    """Nothing follows: all has been read or, with `error`, no more can be."""
    error: LogError | None = None


class LogsTaken(Struct, kw_only=True, omit_defaults=True):
    """The answer to a chunk."""

    sequence: Annotated[int, Meta(ge=0)] = 0
    """The one that is wanted next; all before it have been taken."""
    credit: Annotated[int, Meta(ge=0)] = 0
    """Bytes of lines that it may have, at least MAX_CHUNK; 0: none, until the answer to an empty one."""
    gone: bool = False
    """The reader is gone, or another run has taken its place: end it."""
