"""Subjects: what a function builds, its inverse reads; everything else is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import subjects
from schemas.errors import ContractError
from schemas.ids import SHARDS, AgentKind, Target, kubernetes, uuid7

TARGETS = st.builds(Target, st.sampled_from(AgentKind), st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True))


@given(target=TARGETS, scope=st.text(max_size=20), kind=st.text(max_size=20))
def test_built_subjects_are_read_back(target: Target, scope: str, kind: str) -> None:
    """Target and channel survive, whatever a namespace or kind is called."""
    for subject, channel in (
        (subjects.heartbeat(target), "heartbeat"),
        (subjects.snapshot(target), "snapshot"),
        (subjects.event(target, scope, kind), "event"),
        (subjects.dead(target), "dead"),
    ):
        parsed = subjects.parse(subject)
        assert isinstance(parsed, subjects.Up)
        assert (parsed.target, parsed.channel) == (target, channel)
        assert not set(subject) & set("*> \t\r\n")


@given(target=TARGETS)
def test_down_and_core(target: Target) -> None:
    """So do those to the agents and among the services."""
    assert subjects.parse(subjects.control(target, "resync")) == subjects.Down(target, "ctl", ("resync",))
    assert subjects.parse(subjects.service_heartbeat("master", "m-1")) == subjects.Core(
        "heartbeat", ("master", "m-1")
    )


@given(st.text(max_size=80))
def test_anything_else_is_refused(text: str) -> None:
    """A foreign subject is a ContractError, never another exception."""
    with suppress(ContractError):
        subjects.parse(text)


@pytest.mark.parametrize(
    "subject",
    [
        "atlhyper.up.kubernetes.Local.heartbeat",
        "atlhyper.up.cluster.local.heartbeat",
        f"atlhyper.up.kubernetes.local.snapshot.{(kubernetes('local').shard + 1) % SHARDS}",
        f"atlhyper.up.kubernetes.local.snapshot.0{kubernetes('local').shard}",
        "atlhyper.up.kubernetes.local.snapshot",
        f"atlhyper.up.kubernetes.local.event.{kubernetes('local').shard}.shop",
        "atlhyper.sideways.kubernetes.local.heartbeat",
    ],
)
def test_wrong_ones_are_refused(subject: str) -> None:
    """A wrong id, kind, shard or number of tokens is told."""
    with pytest.raises(ContractError):
        subjects.parse(subject)


def test_shards_are_stable() -> None:
    """The shard of an id is part of the contract: these never change."""
    assert [kubernetes(name).shard for name in ("local", "default-cluster", "c1", "prod-eu-1")] == [
        6,
        3,
        5,
        10,
    ]


def test_new_ids_are_uuid7_in_order() -> None:
    """Ids are version 7, variant 10, and ordered by time to the millisecond (RFC 9562)."""
    ids = [uuid7() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(text[14] == "7" and text[19] in "89ab" for text in ids)
    assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)
