import json
import logging

import pytest

from services.runtime import logs


@pytest.fixture
def records(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    logs.configure("debug", json=True)

    def read() -> list[dict[str, object]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


def test_a_line_is_a_json_object(records) -> None:  # type: ignore[no-untyped-def]
    """Time, level, logger and the fields given, one object per line; nothing goes to standard output."""
    logs.get_logger("services.example").info("frame applied", target="kubernetes/a", sequence=7)
    (record,) = records()
    assert record["event"] == "frame applied"
    assert record["level"] == "info"
    assert record["logger"] == "services.example"
    assert (record["target"], record["sequence"]) == ("kubernetes/a", 7)
    assert str(record["timestamp"]).endswith("Z")


def test_libraries_write_the_same_way(records) -> None:  # type: ignore[no-untyped-def]
    """The standard library's logging passes the same processors."""
    logging.getLogger("some.library").warning("hello %s", "world")
    assert records()[0]["event"] == "hello world"


def test_secrets_do_not_pass(records) -> None:  # type: ignore[no-untyped-def]
    """Fields named like secrets, passwords in URLs, bearer tokens and nkey seeds are masked everywhere."""
    seed = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"
    logs.get_logger("x").info(
        "connect",
        token="hunter2",
        url="postgresql+asyncpg://u:hunter2@db/x",
        header="Bearer hunter2",
        seed=seed,
    )
    logging.getLogger("y").error("failed for nats://u:hunter2@h with %s", seed)
    try:
        raise RuntimeError("postgres://u:hunter2@db")
    except RuntimeError as error:
        logs.get_logger("x").exception("broken", error=error)
    text = json.dumps(records())
    assert "hunter2" not in text
    assert seed not in text
    assert "postgresql+asyncpg://u:***@db/x" in text


TOKEN = f"atlhyper_{'aZ09_-x' * 6}Q"
"""43 characters of base64url behind the prefix."""


@pytest.mark.parametrize("last", "Aw8_-")
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "X-Token: {}\r\nHost: a",
        "token={}&wait=5s",
        "http://127.0.0.1:8080/api/v1/clusters?token={}#top",
        "token%3D{}%26wait",
        '{{"token":"{}"}}',
        "({}), <{}>; [{}]: '{}', {}.",
        "`--token={}`",
        "cookie: a={};b={}",
        "is {}- no",
        "'a line\\n{}\\n'",
        "{}\u662f",
    ],
)
def test_tokens_of_the_api_are_masked(text: str, last: str) -> None:
    """Wherever one stands: in a header, in an address, beside punctuation."""
    token = TOKEN[:-1] + last
    assert logs.mask(text.format(*[token] * 5)) == text.format(*["***"] * 5)


@pytest.mark.parametrize(
    "name",
    [
        "atlhyper_agent_collection_last_event_timestamp_seconds",
        "atlhyper_master_command_consumers_made_total",
        "postgresql+asyncpg://db.example/atlhyper_test_0123456789abcdef0123456789abcdef",
        "atlhyper_",
        TOKEN[:-1],
        TOKEN + "a",
        TOKEN + "_total",
        TOKEN + "-2",
        TOKEN.upper(),
    ],
)
def test_what_begins_as_a_token_and_is_none_stays(name: str) -> None:
    """Names of metrics and of databases: whoever reads of them needs them whole."""
    assert logs.mask(f"{name} {name}, '{name}'") == f"{name} {name}, '{name}'"


def test_request_dumps_of_libraries_stay_off(records) -> None:  # type: ignore[no-untyped-def]
    """On debug these libraries would write request headers, and with them tokens."""
    for name in ("kubernetes_asyncio.client.rest", "aiohttp.client", "httpx"):
        logging.getLogger(name).debug("Authorization: Bearer hunter2")
    assert records() == []
