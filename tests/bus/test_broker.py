"""The embedded broker and its credentials."""

import asyncio
import os
import signal
import socket
import ssl
import stat
import time
from contextlib import closing
from pathlib import Path

import nats
import nats.errors
import pytest
from click.testing import CliRunner

from schemas import ids, subjects
from services.runtime.bus import broker as embedded
from services.runtime.bus import credentials
from services.runtime.bus.broker import Broker, BrokerExited, BrokerSettings
from services.runtime.bus.client import connect
from services.runtime.errors import UserError
from services.runtime.settings import BusSettings
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.bus.messages import frame, heartbeat
from tests.bus.test_topology import make_certificate
from tests.processes import pause
from tests.waiting import until

A, B = AGENTS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read(path: Path) -> str:
    return path.read_text().strip()


# --- credentials -------------------------------------------------------------------------------------


def test_seeds_are_for_their_owner_only(tmp_path: Path) -> None:
    """Seed file and list of users are 0600 in 0700 folders; the list holds no seed."""
    path = credentials.issue(tmp_path, "kubernetes_prod-1")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    listed = tmp_path / "nats/users.json"
    assert mode(listed) == 0o600
    assert path.read_text().startswith("SU")
    assert path.read_text().strip() not in listed.read_text()
    assert credentials.users(tmp_path)["kubernetes_prod-1"].startswith("U")


def test_issuing_again_gives_the_same_credential_until_it_is_rotated(tmp_path: Path) -> None:
    """A second issue changes nothing; `rotate` makes a new key; a seed moved away is not made again."""
    path = credentials.issue(tmp_path, "kubernetes_c")
    seed = path.read_text()
    assert credentials.issue(tmp_path, "kubernetes_c").read_text() == seed
    path.unlink()
    with pytest.raises(UserError, match="moved away") as caught:
        credentials.issue(tmp_path, "kubernetes_c")
    assert "--rotate" in caught.value.next_step
    assert credentials.issue(tmp_path, "kubernetes_c", rotate=True).read_text() != seed


async def test_a_new_agent_is_known_at_once_and_nobody_else_notices(
    own_broker: RunningBroker, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`atlhyper bus credentials` prints the seed's file, never the seed, and the running broker takes it."""
    from services.cli.bus import bus as command

    agent = await bus(A.durable)
    link = agent._link
    monkeypatch.setenv("ATLHYPER_HOME", str(own_broker.home))
    result = await asyncio.to_thread(CliRunner().invoke, command, ["credentials", "kubernetes", "new-1"])
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip())
    assert path == credentials.seed_file(own_broker.home, "kubernetes_new-1")
    assert read(path) not in result.output
    assert "knows it now" in result.stderr
    new = ids.kubernetes("new-1")
    async with connect(own_broker.settings(), new.durable, name="new", wait=True) as fresh:
        async with asyncio.timeout(30):
            await fresh.wait_connected()
        await fresh.publish(subjects.snapshot(new), frame(new, 1))
    await agent.publish(subjects.snapshot(A), frame(A, 1))
    assert agent._link is link


async def test_a_rotated_key_ends_the_old_one(
    own_broker: RunningBroker, bus: Connect, tmp_path: Path
) -> None:
    """After --rotate the connection of the old key is cut and cannot come back."""
    stolen = tmp_path / "stolen.nk"
    credentials.write_private(stolen, credentials.seed_file(own_broker.home, A.durable).read_text())
    thief = BusSettings(home=tmp_path, nats_url=own_broker.url, credentials=stolen)
    async with connect(thief, A.durable, name="thief") as old:
        credentials.issue(own_broker.home, A.durable, rotate=True)
        assert embedded.reload(own_broker.home)
        await until(lambda: not old.connected)
        await until(lambda: "authorization violation" in old.last_error.lower())
    agent = await bus(A.durable)
    await agent.publish(subjects.heartbeat(A), heartbeat(A))


@pytest.mark.parametrize(
    "arguments", [["credentials", "kubernetes", "Not_An_Id"], ["credentials", "toaster", "a"]]
)
def test_a_wrong_name_is_a_usage_error(arguments: list[str]) -> None:
    """A kind or id that cannot be is refused before anything is made."""
    from services.cli.bus import bus as command

    assert CliRunner().invoke(command, arguments).exit_code == 2


async def test_bus_apply_and_show(own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bus apply` says that nothing differs, `bus show` lists the streams."""
    from services.cli.bus import bus as command

    monkeypatch.setenv("ATLHYPER_HOME", str(own_broker.home))
    monkeypatch.setenv("NATS_URL", own_broker.url)
    for arguments in (["apply", "--dry-run"], ["apply"]):
        result = await asyncio.to_thread(CliRunner().invoke, command, arguments)
        assert (result.exit_code, result.stdout) == (0, ""), result.output
    result = await asyncio.to_thread(CliRunner().invoke, command, ["show"])
    assert result.exit_code == 0, result.output
    assert "ATLHYPER_SNAPSHOTS" in result.stdout


# --- the process -------------------------------------------------------------------------------------


async def test_it_starts_again_with_its_data(tmp_path: Path) -> None:
    """Stopped and started: same credentials, every message there, no process left, no pid file left."""
    running = RunningBroker(tmp_path)
    await running.start()
    await running.apply()
    async with connect(running.settings(), A.durable, name="t") as agent:
        await agent.publish(subjects.snapshot(A), frame(A, 1))
    pid = running.broker.pid
    await running.broker.stop()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "nats/nats-server.pid").exists()
    again = RunningBroker(tmp_path)
    await again.start()
    try:
        async with connect(again.settings(), A.durable, name="t") as agent:
            assert await agent.publish(subjects.snapshot(A), frame(A, 2)) == 2
    finally:
        await again.broker.stop()


async def test_it_is_supervised(own_broker: RunningBroker) -> None:
    """`run` stays until the process dies and then says so; run again it starts it on the same port."""
    url = own_broker.url
    task = asyncio.create_task(own_broker.broker.run())
    await asyncio.sleep(0.05)
    pid = own_broker.broker.pid
    assert pid is not None
    with (own_broker.home / "nats/nats-server.log").open("a") as log:
        log.write("[1] 2026/11/21 08:00:00 [ERR] Publish Violation - something else\n")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokerExited, match=r"^nats-server was ended by SIGKILL$"):  # not its log's last error
        await asyncio.wait_for(task, 30)
    task = asyncio.create_task(own_broker.broker.run())
    await until(lambda: own_broker.broker.pid not in (None, pid))
    assert own_broker.url == url
    await until(lambda: not task.done())
    task.cancel()


async def test_a_broker_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """Its parent was killed: the next one stops it before it opens the same store."""
    first = Broker(BrokerSettings(home=tmp_path, nats_listen="127.0.0.1:0"))
    await first.start()
    orphan = first.pid
    assert first._lock is not None
    first._lock.close()  # as if the process that holds it were gone
    async with Broker(BrokerSettings(home=tmp_path, nats_listen="127.0.0.1:0")) as second:
        assert second.pid not in (None, orphan)
        assert first.pid is None


async def test_two_brokers_on_one_home_are_refused(own_broker: RunningBroker) -> None:
    """Two on one store would destroy it: the second says who is there, and leaves the first alone."""
    with pytest.raises(UserError, match="another process runs the broker") as caught:
        await Broker(BrokerSettings(home=own_broker.home)).start()
    assert "ATLHYPER_HOME" in caught.value.next_step
    assert own_broker.broker.pid is not None


@pytest.mark.parametrize("content", ["999999999", "not a number", "our own"])
async def test_a_stale_pid_file_is_nobodys_death(tmp_path: Path, content: str) -> None:
    """A pid file that names no process, nonsense, or a process that is no broker of ours, is passed over."""
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats/nats-server.pid").write_text(str(os.getpid()) if content == "our own" else content)
    assert not embedded.reload(tmp_path)
    async with Broker(BrokerSettings(home=tmp_path, nats_listen="127.0.0.1:0")) as broker:
        assert broker.pid is not None
        assert embedded.reload(tmp_path)


async def test_a_default_port_in_use_moves_and_one_that_was_set_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4222 taken: the next free port, said aloud. NATS_LISTEN taken: one sentence that names it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"NATS_LISTEN: 127.0.0.1:{port} is in use"):
            await Broker(BrokerSettings(home=tmp_path, nats_listen=f"127.0.0.1:{port}")).start()
        monkeypatch.setattr(BrokerSettings.model_fields["nats_listen"], "default", f"127.0.0.1:{port}")
        BrokerSettings.model_rebuild(force=True)
        try:
            async with Broker(BrokerSettings(home=tmp_path)) as broker:
                assert broker.url.startswith("nats://127.0.0.1:")
                assert broker.url != f"nats://127.0.0.1:{port}"
        finally:
            monkeypatch.undo()
            BrokerSettings.model_rebuild(force=True)


async def test_it_does_not_listen_beyond_this_machine_without_a_certificate(tmp_path: Path) -> None:
    """0.0.0.0 without TLS is refused; with a certificate clients verify it."""
    with pytest.raises(UserError, match="open to other machines") as caught:
        await Broker(BrokerSettings(home=tmp_path, nats_listen="0.0.0.0:0")).start()
    assert "NATS_TLS_CERT" in caught.value.next_step
    certificate, key = make_certificate(tmp_path)
    with pytest.raises(UserError, match="belong together"):
        await Broker(
            BrokerSettings(home=tmp_path, nats_listen="0.0.0.0:0", tls_certificate=certificate)
        ).start()
    settings = BrokerSettings(
        home=tmp_path, nats_listen="0.0.0.0:0", tls_certificate=certificate, tls_key=key
    )
    async with Broker(settings) as broker:
        url = broker.url.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("tls://")
        client = BusSettings(home=tmp_path, nats_url=url, tls_ca=certificate)
        async with connect(client, "reader", name="t") as reader:
            assert reader.connected


async def test_beyond_this_machine_it_takes_only_whom_it_knows(tmp_path: Path) -> None:
    """Open to other machines, it refuses whoever brings no nkey or a foreign one, also in a user's name; the
    user it takes.
    """
    certificate, key = make_certificate(tmp_path)
    settings = BrokerSettings(
        home=tmp_path, nats_listen="0.0.0.0:0", tls_certificate=certificate, tls_key=key
    )
    async with Broker(settings) as broker:
        url = broker.url.replace("0.0.0.0", "127.0.0.1")
        told: list[str] = []

        async def tell(error: Exception) -> None:
            told.append(str(error))

        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await nats.connect(
                url,
                tls=ssl.create_default_context(cafile=certificate),
                connect_timeout=30,
                allow_reconnect=False,
                error_cb=tell,
            )
        assert told == ["nats: 'Authorization Violation'"]
        foreign = credentials.issue(tmp_path / "elsewhere", "reader")
        client = BusSettings(home=tmp_path, nats_url=url, tls_ca=certificate)
        with pytest.raises(UserError, match="does not know the credential of user 'reader'"):
            async with connect(client.model_copy(update={"credentials": foreign}), "reader", name="t"):
                pass
        async with connect(client, "reader", name="t") as reader:
            assert reader.connected


async def test_its_own_reason_for_not_starting_is_one_line(tmp_path: Path) -> None:
    """A store it cannot use, a certificate it cannot read: the broker's own words, and where its log is."""
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats/data").mkdir()
    (tmp_path / "nats/data/jetstream").write_text("in the way")
    broker = Broker(BrokerSettings(home=tmp_path, nats_listen="127.0.0.1:0"))
    with pytest.raises(UserError, match="the broker did not start: Can't start JetStream") as caught:
        await broker.start()
    assert "\n" not in str(caught.value)
    assert "nats-server.log" in caught.value.next_step
    assert broker.pid is None

    (tmp_path / "cert.pem").write_text("no certificate")
    broken = BrokerSettings(
        home=tmp_path / "b",
        nats_listen="127.0.0.1:0",
        tls_certificate=tmp_path / "cert.pem",
        tls_key=tmp_path / "cert.pem",
    )
    with pytest.raises(UserError, match=r"the broker did not start: .*(certificate|PEM)"):
        await Broker(broken).start()


async def test_stopping_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not react to SIGTERM is killed."""
    deadline = embedded.STOP_DEADLINE
    monkeypatch.setattr(embedded, "STOP_DEADLINE", 2.0)  # as long may its end take after SIGKILL
    broker = Broker(BrokerSettings(home=tmp_path, nats_listen="127.0.0.1:0"))
    await broker.start()
    assert broker.pid is not None
    pause(broker.pid)
    started = time.monotonic()
    await broker.stop()
    assert broker.pid is None
    assert time.monotonic() - started < deadline
