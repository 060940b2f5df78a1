"""What every test has: none of the caller's settings, and the fixtures of the real servers."""

import asyncio.constants
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# An assert in what tests share tells its values, too.
pytest.register_assert_rewrite(
    *(f"tests.{path.stem}" for path in Path(__file__).parent.iterdir() if path.stem != "conftest")
)

from services.runtime import logs  # noqa: E402
from tests.ports import free_port  # noqa: E402

# The fixtures that start real servers live beside the tests of those servers.
pytest_plugins = [
    *(f"tests.{folder}.fixtures" for folder in ("bus", "cluster", "agent", "api", "postgres", "logs")),
    "tests.agent.acting",
    "tests.agent.commands.bench",
]

# Who runs us in the background may have us ignore Ctrl-C, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

# The end of a TLS connection waits for the other side, which may stand still for longer than a test's event
# loop lives: the warning of a connection that was never closed would be the next test's failure.
asyncio.constants.SSL_SHUTDOWN_TIMEOUT = 0.1

_OURS = ("AGENT_", "API_", "ATLHYPER_", "DATABASE_", "MASTER_", "NATS_", "NOTIFIER_")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_caller() -> None:
    """A test sees the defaults, whatever the shell that started it exports."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest.fixture(autouse=True)
def _home_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the person's own folder."""
    monkeypatch.setenv("ATLHYPER_HOME", str(tmp_path / "home"))


@pytest.fixture
def unused_tcp_port() -> int:
    """In place of pytest-asyncio's, whose port the system may give to somebody else meanwhile."""
    return free_port()


@pytest.fixture(autouse=True)
def _logs() -> None:
    logs.configure("info", json=True)
