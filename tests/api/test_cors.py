"""API_CORS_ORIGINS: who may read the API in a browser."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.api.settings import ApiSettings
from services.runtime.settings import SettingsError, load
from tests.api.fixtures import Fleet
from tests.api.raw import listening

_OURS, _EVIL = "https://console.example", "https://evil.example"


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(fleet.database, cors_origins=[_OURS]) as served:
        yield served.client


def _preflight(origin: str, method: str = "GET", **more: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, **more}


async def test_a_named_origin_may_read(client: httpx.AsyncClient) -> None:
    """The answer names it, and caches are told that it depends on it; also where it is a problem."""
    for path in ("/api/v1/clusters", "/nothing", "/api/v1/clusters?limit=0"):
        answer = await client.get(path, headers={"Origin": _OURS})
        assert answer.headers["access-control-allow-origin"] == _OURS
        assert "Origin" in answer.headers["vary"]
        assert "ETag" in answer.headers["access-control-expose-headers"]


async def test_a_named_origin_may_ask_first(client: httpx.AsyncClient) -> None:
    """A preflight (Fetch standard, 3.2.2) allows reading, with the headers that are asked for."""
    headers = {"Access-Control-Request-Headers": "if-none-match, last-event-id"}
    answer = await client.options("/api/v1/clusters", headers=_preflight(_OURS) | headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == _OURS
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["access-control-allow-headers"] == "if-none-match, last-event-id"
    assert answer.headers["access-control-max-age"]


@pytest.mark.parametrize("origin", [_EVIL, "null", f"{_OURS}.evil.example", "http://console.example", "*"])
async def test_any_other_origin_may_not(client: httpx.AsyncClient, origin: str) -> None:
    """Neither read nor ask; and a cache must not serve it what was made for one that may."""
    for answer in (
        await client.get("/api/v1/clusters", headers={"Origin": origin}),
        await client.options("/api/v1/clusters", headers=_preflight(origin)),
        await client.get("/api/v1/clusters"),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "Origin" in answer.headers["vary"]


async def test_credentials_are_never_allowed(client: httpx.AsyncClient) -> None:
    """Nor is there a wildcard: a page may read as anybody could, not as its visitor."""
    headers = {"Cookie": "session=1", "Authorization": "Bearer x"}
    for answer in (
        await client.get("/api/v1/clusters", headers={"Origin": _OURS} | headers),
        await client.options("/api/v1/clusters", headers=_preflight(_OURS)),
    ):
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["access-control-allow-origin"] != "*"


async def test_by_default_no_origin_may(api: httpx.AsyncClient) -> None:
    """Without the setting nothing is said, and a browser keeps answers from every other page."""
    for answer in (
        await api.get("/api/v1/clusters", headers={"Origin": _OURS}),
        await api.options("/api/v1/clusters", headers=_preflight(_OURS)),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "https://*.example",
        "console.example",
        f"{_OURS}/",
        "https://Console.example",
        f"{_OURS},*",
        "null",
    ],
)
def test_what_is_no_origin_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A wildcard or a path would never match, or match everybody."""
    monkeypatch.setenv("API_CORS_ORIGINS", value)
    with pytest.raises(SettingsError, match="API_CORS_ORIGINS"):
        load(ApiSettings)


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_CORS_ORIGINS", f"{_OURS},http://localhost:3000,http://[::1]:3000")
    assert load(ApiSettings).cors_origins == (_OURS, "http://localhost:3000", "http://[::1]:3000")
