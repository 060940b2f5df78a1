"""Streams: code, broker and files agree; what was changed by hand is brought back; nothing is deleted."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import ids, subjects
from schemas import topology as data
from services.runtime.bus import broker as embedded
from services.runtime.bus import config, credentials, topology
from services.runtime.bus.client import Bus, connect
from services.runtime.errors import UserError
from services.runtime.settings import BusSettings
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.bus.messages import frame

A, B = AGENTS


async def config_of(operator: Bus, stream: str) -> dict[str, Any]:
    found = (await operator.api(f"$JS.API.STREAM.INFO.{stream}"))["config"]
    assert isinstance(found, dict)
    return found


async def test_apply_is_idempotent(own_broker: RunningBroker, bus: Connect) -> None:
    """After apply nothing differs, and a second apply does nothing."""
    operator = await bus("operator")
    assert await topology.diff(operator) == []
    assert await topology.apply(operator) == []
    states = await topology.show(operator)
    assert [state.name for state in states] == sorted(stream.name for stream in data.STREAMS)
    assert sum(state.max_bytes for state in states) <= data.MAX_FILE_STORE


async def test_every_stream_is_plain(own_broker: RunningBroker, bus: Connect) -> None:
    """Limits retention, a bound on bytes and age, no purge, no delete, no roll-up, no schedules; messages say
    how long they are kept only where no agent writes."""
    operator = await bus("operator")
    for stream in data.STREAMS:
        found = await config_of(operator, stream.name)
        assert found["retention"] == "limits"
        assert found["max_bytes"] > 0
        assert found["max_age"] > 0
        assert found["deny_purge"]
        assert found["deny_delete"]
        for absent in ("allow_rollup_hdrs", "allow_msg_schedules", "republish", "sources"):
            assert not found.get(absent), absent
        assert bool(found.get("allow_msg_ttl")) == (stream is data.COMMANDS)
        assert stream is not data.COMMANDS or not any("atlhyper.up." in one for one in stream.subjects)


async def test_a_stream_changed_by_hand_is_shown_and_brought_back(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """Limits, subjects and fields we never set are told field by field, and repaired; the messages stay."""
    operator, agent = await bus("operator"), await bus(A.durable)
    for sequence in range(5):
        await agent.publish(subjects.snapshot(A), frame(A, sequence))
    changed = await config_of(operator, data.SNAPSHOTS.name)
    changed["max_age"] *= 2
    changed["description"] = "mine now"
    changed["subjects"] = [*changed["subjects"], "more.>"]
    changed["republish"] = {"src": ">", "dest": "leak.>"}
    await operator.api(f"$JS.API.STREAM.UPDATE.{data.SNAPSHOTS.name}", changed)
    [change] = await topology.diff(operator)
    assert (change.stream, change.action) == (data.SNAPSHOTS.name, "update")
    assert set(change.fields) == {"max_age", "description", "subjects", "republish"}
    assert change.fields["description"] == ("mine now", data.SNAPSHOTS.description)
    assert any("mine now" in line for line in change.lines())
    assert await topology.apply(operator) == [change]
    assert await topology.diff(operator) == []
    [state] = [state for state in await topology.show(operator) if state.name == data.SNAPSHOTS.name]
    assert state.messages == 5


async def test_what_the_broker_cannot_change_is_refused_and_the_rest_is_done(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """A stream in memory cannot become a file: one clear sentence, data untouched, other streams repaired."""
    operator, agent = await bus("operator"), await bus(A.durable)
    for stream in (data.EVENTS, data.DEAD_LETTERS):
        await operator.api(f"$JS.API.STREAM.DELETE.{stream.name}")
    own = {
        **config.stream_config(data.EVENTS),
        "storage": "memory",
        "max_bytes": 1 << 20,
        "deny_purge": False,
    }
    await operator.api(f"$JS.API.STREAM.CREATE.{data.EVENTS.name}", own)
    await agent.publish(subjects.event(A, "default", "Pod"), frame(A, 1))
    with pytest.raises(UserError, match=f"{data.EVENTS.name} cannot be changed.*storage") as caught:
        await topology.apply(operator)
    assert "nothing was deleted" in caught.value.next_step
    assert [change.stream for change in await topology.diff(operator)] == [data.EVENTS.name]
    states = {state.name: state for state in await topology.show(operator)}
    assert states[data.EVENTS.name].messages == 1
    assert data.DEAD_LETTERS.name in states


async def test_a_stream_of_somebody_else_is_left_alone(own_broker: RunningBroker, bus: Connect) -> None:
    """A stream we do not know is listed as such and never touched; one in our way is named."""
    operator = await bus("operator")
    await operator.api(
        "$JS.API.STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": ["theirs"], "max_bytes": 1}
    )
    assert await topology.apply(operator) == []
    assert [state.name for state in await topology.show(operator) if not state.known] == ["THEIRS"]
    await operator.api(f"$JS.API.STREAM.DELETE.{data.SNAPSHOTS.name}")
    theirs = {"name": "THEIRS", "subjects": ["atlhyper.up.*.*.snapshot.*"], "max_bytes": 1}
    await operator.api("$JS.API.STREAM.UPDATE.THEIRS", theirs)
    with pytest.raises(UserError, match="another stream already takes its subjects"):
        await topology.apply(operator)


# --- deploy/nats -------------------------------------------------------------------------------------


def test_the_deployed_files_are_what_the_code_generates() -> None:
    """deploy/nats/ holds exactly the generated files."""
    root = Path(__file__).parents[2]
    files = config.deploy_files()
    found = {str(path.relative_to(root)) for path in (root / "deploy/nats").rglob("*") if path.is_file()}
    assert found == set(files)
    for path, text in files.items():
        assert (root / path).read_text(encoding="utf-8") == text, path


@pytest.fixture
def deployed(tmp_path: Path, unused_tcp_port: int) -> Any:
    """A broker started from the deployed files, with TLS and keys from its environment."""
    for path, text in config.deploy_files().items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    certificate, key = make_certificate(tmp_path)
    server = tmp_path / "deploy/nats/server.conf"
    text = server.read_text(encoding="utf-8")
    text = text.replace("0.0.0.0:4222", f"127.0.0.1:{unused_tcp_port}")
    server.write_text(text.replace("/data/jetstream", str(tmp_path / "data")), encoding="utf-8")
    environment = {**os.environ, "NATS_TLS_CERT": str(certificate), "NATS_TLS_KEY": str(key)}
    for user in config.deploy_users():
        credentials.issue(tmp_path, user.name)
        environment[config.placeholder(user.name)] = credentials.users(tmp_path)[user.name]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(embedded.binary()), "-c", str(server)], env=environment, stdout=log, stderr=log
        )
    try:
        yield BusSettings(home=tmp_path, nats_url=f"tls://127.0.0.1:{unused_tcp_port}", tls_ca=certificate)
    finally:
        process.terminate()
        process.wait(30)


async def test_the_deployed_files_make_the_same_broker(deployed: BusSettings) -> None:
    """A broker from deploy/nats: its streams made from the JSON files differ from the code in nothing,
    its users have the code's permissions, over TLS."""
    async with connect(deployed, "operator", name="test", wait=True) as operator:
        await operator.wait_connected()
        for path, text in config.deploy_files().items():
            if "/streams/" in path:
                stream = json.loads(text)
                await operator.api(f"$JS.API.STREAM.CREATE.{stream['name']}", stream)
        assert await topology.diff(operator) == []
    agent = config.EXAMPLE_AGENT
    async with connect(deployed, agent.durable, name="test") as bus:
        assert await bus.publish(subjects.snapshot(agent), frame(agent, 1)) == 1
    accounts = config.deploy_files()["deploy/nats/accounts.conf"]
    for user in (*data.CORE_USERS, data.agent(agent)):
        for subject in (*user.publish, *user.subscribe):
            assert json.dumps(subject) in accounts


async def test_a_broker_with_another_certificate_is_refused(deployed: BusSettings, tmp_path: Path) -> None:
    """A client that does not trust the broker's certificate says so and does not connect."""
    other, _ = make_certificate(tmp_path / "other")
    async with connect(deployed, "operator", name="test", wait=True) as operator:
        await operator.wait_connected()
    stranger = deployed.model_copy(update={"tls_ca": other})
    with pytest.raises(UserError, match="certificate verify failed"):
        async with connect(stranger, "operator", name="test"):
            pass


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )  # fmt: skip
    return certificate, key


async def test_the_nats_command_takes_the_deployed_streams(own_broker: RunningBroker, bus: Connect) -> None:
    """`nats stream add --config` with each deployed file: the broker's streams then differ in nothing."""
    from services.cli.cluster.build import find_binary

    nats = find_binary("nats")
    if nats is None:
        pytest.skip("the nats command is not built")
    operator = await bus("operator")
    for stream in data.STREAMS:
        await operator.api(f"$JS.API.STREAM.DELETE.{stream.name}")
    seed = credentials.seed_file(own_broker.home, "operator")
    for path in config.deploy_files():
        if "/streams/" not in path:
            continue
        command = [
            str(nats), "--server", own_broker.url, "--nkey", str(seed), "--inbox-prefix", "_INBOX_operator",
            "stream", "add", "--config", str(Path(__file__).parents[2] / path),
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert await topology.diff(operator) == []


def test_names_of_users_and_durables_agree() -> None:
    """A user's name tells what it may do: a service by its name, an agent by `<kind>_<id>`."""
    agent = ids.kubernetes("prod-1")
    assert credentials.definition(agent.durable) == data.agent(agent)
    assert credentials.definition("master") == data.MASTER
