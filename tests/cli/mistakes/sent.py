"""What others send or ask wrongly: messages that nobody can read, requests that cannot be answered."""

from dataclasses import dataclass, field

from schemas.ids import SHARDS, kubernetes


@dataclass(frozen=True)
class Message:
    """One message on the bus that nobody can read; it is shown under `/dead-letters`, whole."""

    name: str
    channel: str
    """Of the agent `mistakes`."""
    reason: str
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b"{}"


_WRONG_SHARD = (kubernetes("mistakes").shard + 1) % SHARDS
_SOUND = {
    "ce-specversion": "1.0",
    "ce-id": "019a9d2e-0000-7000-8000-000000000000",
    "ce-source": "/atlhyper/kubernetes/mistakes",
    "ce-type": "io.atlhyper.kubernetes.heartbeat.sent.v1",
}
MESSAGES = [
    Message("no CloudEvent", "heartbeat", "not a CloudEvent: no header ce-id", {"ce-type": "x"}),
    Message(
        "event of unknown type",
        "heartbeat",
        "event type 'io.example.strange.v9' is not known to this version",
        _SOUND | {"ce-type": "io.example.strange.v9"},
    ),
    Message(
        "source is not the subject's",
        "heartbeat",
        "'/atlhyper/kubernetes/another'",
        _SOUND | {"ce-source": "/atlhyper/kubernetes/another"},
    ),
    Message("body that is no heartbeat", "heartbeat", "heartbeat.sent.v1: version: Field required", _SOUND),
    Message("shard of another", f"snapshot.{_WRONG_SHARD}", f"names shard {_WRONG_SHARD}", _SOUND),
]


@dataclass(frozen=True)
class Request:
    """One GET that is answered with a problem."""

    name: str
    path: str
    says: str
    advises: str
    status: int = 400


REQUESTS = [
    Request("bad continue", "/clusters/mistakes/pods?continue=bogus", "continue", "without"),
    Request(
        "continue of another query",
        "/clusters/mistakes/pods?continue=WyI1ZWFhZjNjMjUzZGNmMDBjIiwiIiwibm9kZS0xIl0",
        "continue",
        "without",
    ),
    Request("limit of everything", "/clusters/mistakes/pods?limit=100000000", "10000", "correct it"),
    Request("unknown view", "/clusters/mistakes/pods?view=wide", "full", "correct it"),
    Request("unknown parameter", "/clusters/mistakes/pods?nmaespace=x", "nmaespace", "namespace"),
    Request("unknown cluster", "/clusters/nowhere/pods", "nowhere", "known of that kind: mistakes", 404),
    Request("unknown resource", "/clusters/mistakes/podz", "podz", "pods", 404),
    Request("unknown object", "/clusters/mistakes/pods/default/none", "none", "/pods", 404),
]
