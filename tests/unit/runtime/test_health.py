import socket

import httpx
import pytest

from services.runtime.errors import UserError
from services.runtime.health import Health
from services.runtime.listen import Listen, free_listen


async def _get(address: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
        return await client.get(path)


async def test_readiness_names_what_is_missing() -> None:
    """`/readyz` is 503 with the name and reason of each failing check, while `/livez` stays well."""
    trouble: str | None = "no connection to nats://127.0.0.1:4222"
    health = Health("master")
    health.check("database", lambda: None)
    health.check("bus", lambda: trouble)
    async with health.serve("127.0.0.1:0") as address:
        answer = await _get(address, "/readyz")
        assert answer.status_code == 503
        assert answer.text == ("[-] bus: no connection to nats://127.0.0.1:4222\nmaster is not ready\n")
        assert (await _get(address, "/livez")).status_code == 200
        trouble = None
        assert (await _get(address, "/readyz")).text == "ok\n"
        assert (await _get(address, "/readyz?verbose")).text == "[+] database ok\n[+] bus ok\nok\n"


async def test_metrics_are_prometheus_text() -> None:
    """`/metrics` has the lag of the event loop and the restarts of tasks."""
    async with Health("master").serve("127.0.0.1:0") as address:
        answer = await _get(address, "/metrics")
    assert "atlhyper_event_loop_lag_seconds" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "example.org:9464"])
async def test_other_machines_are_refused(listen: str) -> None:
    """No credentials exist for this server, so it does not listen beyond loopback."""
    with pytest.raises(UserError, match="other machines") as caught:
        async with Health("master").serve(listen, was_set=True, name="MASTER_METRICS_LISTEN"):
            pass
    assert "MASTER_METRICS_LISTEN" in caught.value.message


@pytest.mark.parametrize("listen", ["127.0.0.1", ":8080", "127.0.0.1:http", "127.0.0.1:70000", ""])
def test_an_unreadable_address_is_told(listen: str) -> None:
    """The message names the variable and shows how to write it."""
    with pytest.raises(UserError, match="API_LISTEN") as caught:
        free_listen(listen, was_set=True, name="API_LISTEN")
    assert "127.0.0.1:8080" in caught.value.next_step


def test_a_default_port_moves_and_a_set_one_does_not() -> None:
    """A taken default moves to the next free port; a taken port that somebody chose is an error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = f"127.0.0.1:{port}"
        moved = Listen.parse(free_listen(listen, was_set=False))
        assert moved.port > port
        with pytest.raises(UserError, match=rf"API_LISTEN: 127\.0\.0\.1:{port} is in use"):
            free_listen(listen, was_set=True, name="API_LISTEN")


def test_ipv6_is_written_in_brackets() -> None:
    """`[::1]:8080` reads back as it was written."""
    assert str(Listen.parse("[::1]:8080")) == "[::1]:8080"
    assert Listen.parse("[::1]:8080").is_loopback
