"""The ledger: what is sent is exactly what is there, however changes coalesce."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frames import content_hash
from services.agent.capability import Key, Observed
from services.agent.scheduler import ledger as ledger_module
from services.agent.scheduler.ledger import Gone, Ledger


def pod(name: str, body: bytes = b"{}", uid: str = "", state: str = "Running") -> Observed:
    """An observed pod."""
    key = Key("ns", name)
    return Observed(
        "pods", key, uid or f"uid-{name}", body, content_hash("pods", "ns", name, body), state, 1, 1
    )


def drain(ledger: Ledger) -> dict[Key, bytes]:
    """Apply everything that waits to an empty reader; what it holds then."""
    held: dict[Key, bytes] = {}
    apply(ledger, held)
    return held


def apply(ledger: Ledger, held: dict[Key, bytes]) -> None:
    """Take every batch and apply it."""
    while ledger.pending:
        for change in ledger.take(2, 2000).changes:
            if isinstance(change, Gone):
                held.pop(change.key)
            else:
                held[change.key] = change.body


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "relist", "send"]),
        st.sampled_from("abcd"),
        st.sampled_from([b"1", b"22", b"333"]),
        st.sampled_from(["u1", "u2"]),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_a_reader_holds_what_is_there(steps: list[tuple[str, str, bytes, str]]) -> None:
    """After any changes, relists and partial sends, a reader holds the cluster, and the digest proves it."""

    async def scenario() -> None:
        ledger, cluster, held = Ledger(), dict[Key, Observed](), dict[Key, bytes]()
        for action, name, body, uid in steps:
            observed = pod(name, body, uid)
            if action == "put":
                cluster[observed.key] = observed
                await ledger.put([observed])
            elif action == "delete":
                cluster.pop(observed.key, None)
                await ledger.delete("pods", [observed.key])
            elif action == "relist":
                cluster = {key: item for key, item in cluster.items() if key.name != name}
                await ledger.put(cluster.values())
                await ledger.retain("pods", None, set(cluster))
                await ledger.synced("pods")
            else:
                for change in ledger.take(2, 2000).changes:
                    if isinstance(change, Gone):
                        held.pop(change.key)
                    else:
                        held[change.key] = change.body
        await ledger.synced("pods")
        apply(ledger, held)
        assert held == {key: item.body for key, item in cluster.items()}
        digest = ledger.digest()["pods"]
        assert (digest.count, digest.sum) == (len(cluster), sum(item.hash for item in cluster.values()))
        assert ledger.summary.pods == ({"Running": len(cluster)} if cluster else {})

    asyncio.run(scenario())


async def test_synced_comes_after_what_it_completes() -> None:
    """The mark keeps its place: objects put before it go out before it, later ones after it."""
    ledger = Ledger()
    await ledger.put([pod("a"), pod("b")])
    await ledger.synced("pods")
    await ledger.put([pod("a", b"changed"), pod("c")])
    assert ledger.digest() == {}
    first = ledger.take(10, 1000)
    assert [change.key.name for change in first.changes] == ["a", "b"]
    assert ledger.take(10, 1000).synced == ["pods"]
    assert [change.key.name for change in ledger.take(10, 1000).changes] == ["c"]
    assert ledger.digest()["pods"].count == 3


async def test_what_is_known_costs_nothing() -> None:
    """An object that was sent with the same content is not sent again; one never sent needs no deletion."""
    ledger = Ledger()
    await ledger.put([pod("a")])
    drain(ledger)
    await ledger.put([pod("a")])
    await ledger.put([pod("b")])
    await ledger.delete("pods", [Key("ns", "b"), Key("ns", "never")])
    assert ledger.pending == 0


async def test_put_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source faster than the bus is held back, and goes on when there is room."""
    monkeypatch.setattr(ledger_module, "MAX_PENDING_BYTES", 10)
    ledger = Ledger()
    waiting = asyncio.create_task(ledger.put([pod("a", b"x" * 20)]))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    ledger.take(1, 1000)
    await asyncio.wait_for(waiting, 20)


async def test_retain_minds_the_namespace() -> None:
    """A list of one namespace says nothing of another."""
    ledger = Ledger()
    other = Observed("pods", Key("other", "x"), "u", b"{}", 1)
    await ledger.put([pod("a"), other])
    await ledger.retain("pods", "ns", set())
    assert drain(ledger) == {Key("other", "x"): b"{}"}


@pytest.mark.parametrize("how", ["delete", "relist"])
async def test_what_outlives_its_deletion_is_sent(how: str) -> None:
    """With `outlive` an object that is deleted while it waits is sent all the same, its newest version."""
    ledger = Ledger(outlive=True)
    await ledger.put([pod("a")])
    drain(ledger)
    await ledger.put([pod("a", b"newer"), pod("b")])
    if how == "delete":
        await ledger.delete("pods", [Key("ns", "a"), Key("ns", "b")])
    else:
        await ledger.retain("pods", None, set())
    changes = ledger.take(10, 10_000).changes
    observed = {change.key.name: change.body for change in changes if isinstance(change, Observed)}
    assert observed == {"a": b"newer", "b": b"{}"}
    assert len(ledger) == 0
    assert ledger.summary.pods == {}


async def test_a_frame_is_bounded_by_names_too() -> None:
    """Long names count: a frame of 500 items stays below its bound whatever they are called."""
    ledger = Ledger()
    await ledger.put([pod(f"{number:0240}", b"x" * 1000) for number in range(600)])
    batch = ledger.take(500, 700 * 1024)
    size = sum(
        len(change.body) + len(change.key.name) + 200
        for change in batch.changes
        if isinstance(change, Observed)
    )
    assert size < 700 * 1024
