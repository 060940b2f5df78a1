"""docs/explanation/protocol.md: what it says is what is sent, and its program works as it stands there."""

import asyncio
import base64
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from schemas import ids, registry
from schemas.commands import CommandState
from schemas.frames import Frame, Part, Phase, Put
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.persistence.frames import FrameSource, body_of

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "protocol.md"


def in_parts(source: FrameSource, name: str, body: bytes, count: int) -> list[Frame]:
    """An object over the limit, one part per frame."""
    source.held["pods", "default", name] = body
    size = -(-len(body) // count)
    frames = []
    for index in range(count):
        text = msgspec.json.encode(base64.b64encode(body[index * size : (index + 1) * size]).decode())
        part = Part(index=index, count=count)
        frames.append(
            source.data(
                Put(
                    resource="pods",
                    namespace="default",
                    name=name,
                    uid=f"uid-{name}",
                    body=msgspec.Raw(text),
                    part=part,
                )
            )
        )
    return frames


async def test_a_third_party_proves_the_digest(
    own_broker: RunningBroker, bus: Connect, tmp_path: Path
) -> None:
    """The page's program, run as it stands, finds every digest right and the one that is wrong."""
    source = FrameSource(target=AGENTS[0])
    agent = BusAgent(await bus(AGENTS[0].durable), source)
    # Odd spacing and non-ASCII text: hashes are over the bytes, not over what they mean.
    source.held["nodes", "", "node-1"] = b'{ "metadata": {"name": "n\xc3\xb6de-1"},\t"a": 1.0 }'
    source.held["pods", "default", "web"] = body_of("web")
    await agent.send(source.begin("01a1fd37-0000-7000-8000-000000000001"), *source.all(), source.digest())
    await agent.send(source.put("web", body_of("web", image="2")), source.put("gone"), source.delete("gone"))
    await agent.send(*in_parts(source, "large", body_of("large", text="x" * 900), 3), source.digest())
    source.held["pods", "default", "web"] = b"{}"  # what nobody was told of
    await agent.send(source.digest())

    program = tmp_path / "verify_digest.py"
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    program.write_text(found[1], encoding="utf-8")
    seed = own_broker.home / "nats" / "credentials" / "reader.nk"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", str(program), AGENTS[0].id, str(seed), own_broker.url],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "4 pods agrees",
        "4 nodes agrees",
        "11 pods agrees",
        "11 nodes agrees",
        "12 pods DISAGREES",
        "12 nodes agrees",
    ]


def test_the_page_names_what_there_is() -> None:
    """Every phase, every channel of the registry and the number of shards are on the page."""
    text = PAGE.read_text(encoding="utf-8")
    for phase in Phase:
        assert f"| `{phase}` |" in text
    for event_type in registry.ALL.values():
        if event_type.stream is not None:
            assert event_type.stream.name in text
        assert event_type.channel.split(".")[-1].strip("{}") in re.sub("<object kind>", "objectKind", text)
    assert f"% {ids.SHARDS}`" in text


def test_the_page_has_every_state_of_a_command_and_every_way() -> None:
    """Its table has each state once, with what it may become and nothing else; its picture has each state."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("| state | may become |\n|---|---|\n")[2].partition("\n\n")[0]
    ways: dict[str, list[str]] = {}
    for row in table.splitlines():
        _, states, following, _ = row.split("|")
        for state in re.findall("`(.+?)`", states):
            assert state not in ways, state
            ways[state] = re.findall("`(.+?)`", following)
    assert {state: sorted(following) for state, following in ways.items()} == {
        state.value: sorted(other.value for other in CommandState if state.may_become(other))
        for state in CommandState
    }
    picture = text.partition("The usual ways are fewer:\n\n```text\n")[2].partition("```")[0]
    drawn = re.findall(r"(?:^|── )([a-z]+)", picture)
    assert sorted(drawn) == sorted(CommandState)
