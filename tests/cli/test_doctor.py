"""What `atlhyper doctor` says of an API that is not well."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from services.api.http import problems
from services.cli.checks import CHECKS
from services.cli.findings import Finding
from tests.api.fixtures import Bus
from tests.tokens import TOKEN


async def findings() -> list[Finding]:
    return [finding async for finding in CHECKS["api"](None)]


async def test_what_the_api_waits_for(
    served: httpx.AsyncClient, bus_state: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API's own words, cause and next step; nothing of the JSON around them."""
    url = str(served.base_url)
    monkeypatch.setenv("ATLHYPER_URL", url)
    monkeypatch.setenv("ATLHYPER_TOKEN", TOKEN)
    assert await findings() == [
        Finding("ok", "api", f"{url} is ready"),
        Finding("ok", "token", "the API accepts it"),
    ]
    bus_state.trouble = "no connection to the broker"
    text = f"{url} answers 503: bus: no connection to the broker"
    assert await findings() == [Finding("fail", "api", text, problems.NOT_READY.next)]


@pytest.mark.parametrize(("token", "text"), [("", "there is none"), ("atlhyper_wrong", "not one of this")])
async def test_a_token_that_is_not_accepted(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, token: str, text: str
) -> None:
    """None, or a wrong one: the next step makes one; what was sent is not repeated."""
    monkeypatch.setenv("ATLHYPER_URL", str(served.base_url))
    monkeypatch.setenv("ATLHYPER_TOKEN", token)
    ready, refused = await findings()
    assert (ready.state, refused.state, refused.check) == ("ok", "fail", "token")
    assert text in refused.text
    assert "tokens create" in refused.next_step
    assert not token or token not in str(refused)


class Stranger(BaseHTTPRequestHandler):
    """Another server that listens where the API was expected."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.end_headers()
        self.wfile.write(b'["Bad Gateway"]')

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def stranger() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


async def test_somebody_else_answers(stranger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not our problem document is not printed."""
    monkeypatch.setenv("ATLHYPER_URL", stranger)
    text = f"{stranger} answers 502: that is not the AtlHyper API"
    assert await findings() == [Finding("fail", "api", text, "set ATLHYPER_URL to its address")]
