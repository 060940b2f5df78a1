"""An object as large as an API server keeps them, cut by the agent, put together by the master, over REST."""

import httpx
import msgspec
import pytest

from schemas.frames import Frame, Phase, Scope, content_hash
from schemas.ids import kubernetes
from services.agent.capability import Key, Observed
from services.agent.scheduler.ledger import Batch
from services.agent.scheduler.snapshots import _frames_of
from tests.api.fixtures import Fleet

RESOURCE = "widgets.example.com"
TARGET = kubernetes("prod-eu")


@pytest.mark.parametrize("letter", ["x", "<", "ü"])
async def test_a_large_custom_resource_is_shown_whole(
    fleet: Fleet, api: httpx.AsyncClient, letter: str
) -> None:
    """1.4 MiB: it is there once its last part is, to the last byte, in a list with others and by its name."""
    text = letter * (1_400 * 1024 // len(letter.encode()))
    large = {"metadata": {"namespace": "shop", "name": "large", "uid": "uid-large"}, "spec": {"text": text}}
    small = {"metadata": {"namespace": "shop", "name": "small", "uid": "uid-small"}, "spec": {}}
    changes = []
    for one in (large, small):
        body, name = msgspec.json.encode(one), one["metadata"]["name"]
        hash_ = content_hash(RESOURCE, "shop", name, body)
        changes.append(Observed(RESOURCE, Key("shop", name), f"uid-{name}", body, hash_))
    cut = list(_frames_of(Batch(changes=[*changes])))
    assert len(cut) > 3
    begin = Frame(epoch="e", sequence=1, phase=Phase.BEGIN, instance="i", scope=Scope(resources=[RESOURCE]))
    data = [
        Frame(epoch="e", sequence=number, phase=Phase.DATA, items=items)
        for number, items in enumerate(cut, 2)
    ]
    path = f"/api/v1/clusters/prod-eu/{RESOURCE}"
    await fleet.heartbeat("prod-eu", {RESOURCE: ("listing", "")}, epoch="e")
    await fleet.frames(TARGET, [begin, *data[:2]])
    assert (await api.get(path)).json()["items"] == []
    synced = Frame(epoch="e", sequence=len(cut) + 2, phase=Phase.SYNCED, synced=[RESOURCE])
    await fleet.frames(TARGET, [*data[2:], synced])
    listed = (await api.get(f"{path}?view=full")).json()["items"]
    assert [(row["name"], row["object"]) for row in listed] == [("large", large), ("small", small)]
    assert (await api.get(f"{path}/shop/large")).json()["object"] == large
