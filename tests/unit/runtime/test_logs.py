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


def test_request_dumps_of_libraries_stay_off(records) -> None:  # type: ignore[no-untyped-def]
    """On debug these libraries would write request headers, and with them tokens."""
    for name in ("kubernetes_asyncio.client.rest", "aiohttp.client", "httpx"):
        logging.getLogger(name).debug("Authorization: Bearer hunter2")
    assert records() == []
