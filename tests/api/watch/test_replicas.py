"""`GET /watch` across real processes: killed, stopped, without a bus, and with many readers."""

import asyncio
import signal
import time

import httpx
import pytest

from schemas.control import Nudge
from schemas.registry import ROWS_CHANGED
from schemas.subjects import nudge, service_source
from services.persistence.database.engine import Database
from tests.api.fixtures import Fleet
from tests.api.processes import environment, process
from tests.api.watch.changing import Cluster, delete, put
from tests.api.watch.following import follow, mirror_of, table
from tests.bus.fixtures import Connect, RunningBroker
from tests.tokens import AUTHORIZATION, AUTHORIZED
from tests.waiting import until


def address(lines: list[dict[str, object]]) -> str:
    return str(lines[-1]["address"])


@pytest.mark.timeout(240)
async def test_a_reader_that_moves_to_the_other_api_sees_what_it_missed_in_order(
    broker: RunningBroker, either_url: str
) -> None:
    """One api is killed with -9, 1,000 changes pass, the other goes on from where the reader was cut off."""
    variables = environment(broker, either_url, API_LISTEN="127.0.0.1:0")
    async with (
        Database(either_url) as database,
        process(**variables) as (first, lines),
        process(**variables) as (_, other),
    ):
        assert lines[-1]["instance"] != other[-1]["instance"]
        old = [f"old-{number}" for number in range(250)]
        cluster = await Cluster(Fleet(database), "prod-eu").start("web-0", *old)
        async with follow(address(lines), "initial=true") as reader:
            await reader.synced()
            await cluster.put("web-1")
            await reader.until(lambda reader: reader.messages[-1].name == "web-1")
            first.kill()
            await reader.until(lambda reader: reader.ended)
        for number, gone in enumerate(old):
            new = [put(f"{letter}-{number}", "Running") for letter in "abc"]
            await cluster.change(*new, delete(gone), put("web-0", f"S{number}"))
        async with follow(address(other), since=reader.position) as again:
            await again.synced()
        *missed, last = again.of("put", "delete")
        assert len(missed) == 1000
        for number, gone in enumerate(old):  # one transaction after the other
            names = {message.name for message in missed[4 * number : 4 * number + 4]}
            assert names == {f"a-{number}", f"b-{number}", f"c-{number}", gone}
        assert (len(again.of("put")), len(again.of("delete"))) == (751, 250)
        revs = [message.data["rev"] for message in (*missed, last)]
        assert revs == sorted(revs)
        # Of an object that has changed 250 times only the newest state.
        assert (last.name, last.data["item"]["status"]) == ("web-0", "S249")
        assert mirror_of(reader.messages + again.messages) == await table(database)


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_sigterm_sends_readers_away_at_once(broker: RunningBroker, database_url: str) -> None:
    """`bye` with a short retry and the position, then the end; the process is gone within 3 seconds."""
    took = [await until_gone(broker, database_url)]
    while (took[-1][0] > 1.5 or took[-1][1] > 3) and len(took) < 3:  # the machine may have stood still
        took.append(await until_gone(broker, database_url))
    readers, process = took[-1]
    assert readers < 1.5, took
    assert process < 3, took


async def until_gone(broker: RunningBroker, database_url: str) -> tuple[float, float]:
    """Seconds from SIGTERM to the end of the readers' answers, and to that of the process."""
    async with (
        process(**environment(broker, database_url, API_LISTEN="127.0.0.1:0")) as (running, lines),
        follow(address(lines)) as reader,
        follow(address(lines), "cluster=none") as second,
    ):
        await reader.synced()
        await second.synced()
        started = time.monotonic()
        running.send_signal(signal.SIGTERM)
        for one in (reader, second):
            await one.until(lambda one: one.ended)
            assert one.messages[-1].event == "bye"
            retry = one.blocks[-1].split("\n")[0]
            assert 100 <= int(retry.removeprefix("retry: ")) <= 1000
        answers = time.monotonic() - started
        async with asyncio.timeout(30):
            assert await running.wait() == 0
        return answers, time.monotonic() - started


async def test_without_the_bus_readers_are_served_and_readyz_says_so(
    own_broker: RunningBroker, database_url: str
) -> None:
    """Changes are found by looking."""
    variables = environment(own_broker, database_url, API_LISTEN="127.0.0.1:0")
    async with (
        Database(database_url) as database,
        process(**variables) as (_, lines),
        httpx.AsyncClient(base_url=address(lines), headers=AUTHORIZED, timeout=30) as client,
        follow(address(lines)) as reader,
    ):

        async def ready(status: int) -> bool:
            return (await client.get("/readyz")).status_code == status

        await until(lambda: ready(200))
        await own_broker.broker.stop()
        await until(lambda: ready(503))
        assert "bus: " in (await client.get("/readyz")).json()["detail"]
        await Cluster(Fleet(database), "prod-eu").start("web-0")
        await reader.until(lambda reader: reader.of("put"))


async def count(url: str, done: bytes, synced: asyncio.Semaphore) -> int:
    """Messages that one reader has been sent when `done` is in one; it says when it is synced."""
    at = httpx.URL(url)
    source, sink = await asyncio.open_connection(at.host, at.port)
    sink.write(b"GET /api/v1/watch?resource=pods HTTP/1.1\r\nHost: localhost\r\n" + AUTHORIZATION + b"\r\n")
    await source.readuntil(b"event: synced\n")
    synced.release()
    tail, puts = b"", 0
    while done not in tail:
        piece = await source.read(1 << 16)
        assert piece
        puts += (tail + piece).count(b"event: put\n") - tail.count(b"event: put\n")
        tail = (tail + piece)[-4096:]
    sink.close()
    return puts


async def cpu_seconds(client: httpx.AsyncClient) -> float | None:
    """What the process has used; None where the machine does not say."""
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith("process_cpu_seconds_total "):
            return float(line.split()[1])
    return None


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_a_hundred_readers_at_a_hundred_changes_a_second(
    broker: RunningBroker, database_url: str, bus: Connect
) -> None:
    """Each is sent every one of the changed rows, and it costs less than half of a core."""
    seconds = 4
    async with (
        Database(database_url) as database,
        process(**environment(broker, database_url, API_LISTEN="127.0.0.1:0")) as (_, lines),
        httpx.AsyncClient(base_url=address(lines), headers=AUTHORIZED, timeout=30) as client,
    ):
        master = await bus("master")
        cluster = await Cluster(Fleet(database), "prod-eu").start()
        synced = asyncio.Semaphore(0)
        counting = [asyncio.create_task(count(address(lines), b'"the-last"', synced)) for _ in range(100)]
        async with asyncio.timeout(60):
            for _ in counting:
                await synced.acquire()
        assert "atlhyper_watch_readers 100.0" in (await client.get("/metrics")).text
        before, started = await cpu_seconds(client), time.monotonic()
        for number in range(seconds * 20):
            await cluster.put(*(f"pod-{number}-{n}" for n in range(5)))
            told = Nudge(shard=cluster.shard, rev=10**6)  # it looks each time
            source = service_source("master", "test")
            await master.send(nudge(cluster.shard), ROWS_CHANGED.envelope(told, source=source))
            await asyncio.sleep(max(0.0, started + number / 20 - time.monotonic()))
        await cluster.put("the-last")
        async with asyncio.timeout(60):
            sent = await asyncio.gather(*counting)
        elapsed, after = time.monotonic() - started, await cpu_seconds(client)
        assert set(sent) == {seconds * 100 + 1}
        if before is not None and after is not None:
            print(f"{(after - before) / elapsed:.2f} of a core for 100 readers of 100 changes/s")
            assert after - before < 0.5 * elapsed
