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


async def findings() -> list[Finding]:
    return [finding async for finding in CHECKS["api"](None)]


async def test_what_the_api_waits_for(
    served: httpx.AsyncClient, bus_state: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API's own words, cause and next step; nothing of the JSON around them."""
    url = str(served.base_url)
    monkeypatch.setenv("ATLHYPER_URL", url)
    assert await findings() == [Finding("ok", "api", f"{url} is ready")]
    bus_state.trouble = "no connection to the broker"
    text = f"{url} answers 503: bus: no connection to the broker"
    assert await findings() == [Finding("fail", "api", text, problems.NOT_READY.next)]


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
