import json
from pathlib import Path

import pytest
from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from services.runtime import logs
from services.runtime.settings import (
    EXIT_CONFIG,
    BusSettings,
    Duration,
    MetricsSettings,
    SettingsError,
    StoreSettings,
    describe,
    format_duration,
    load,
    parse_duration,
)


class Example(BusSettings, StoreSettings, MetricsSettings):
    """Settings as a service has them."""

    model_config = SettingsConfigDict(env_prefix="AGENT_")

    cluster_id: str = "default-cluster"
    """Id of the cluster."""
    heartbeat_interval: Duration = 15.0
    """Pause between two heartbeats."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to collect; empty: all."""
    read_only: bool = False
    """Whether commands are refused."""
    nats_url: str = Field(
        default="nats://127.0.0.1:4222", validation_alias=AliasChoices("AGENT_MASTER_URL", "NATS_URL")
    )
    """Address of the broker."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("AGENT_", "NATS_", "ATLHYPER_", "DATABASE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ATLHYPER_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("2d", 172_800.0), ("1.5s", 1.5)),
        *(("1h30m", 5400.0), ("1m0.5s", 60.5), ("1.5h", 5400.0)),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    """Durations, of several units too, are read to seconds, and written back the way a person would."""
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["30", "", "s", "-5s", "1h 30m", "1h30", "5 minutes", "1e3s", "٣s"])
def test_anything_else_is_not_a_duration(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A duration without a unit, or in another notation, is refused instead of guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_defaults(tmp_path: Path) -> None:
    """Nothing needs to be set; paths follow ATLHYPER_HOME, and `was_set` knows what came from outside."""
    settings = load(Example)
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"
    assert settings.seed_file("master") == tmp_path / "nats" / "credentials" / "master.nk"
    assert settings.was_set("home")
    assert not settings.was_set("metrics_listen")


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is the prefix and the field's name; lists are separated by commas; empty means unset."""
    monkeypatch.setenv("AGENT_NAMESPACES", "default, kube-system")
    monkeypatch.setenv("AGENT_READ_ONLY", "true")
    monkeypatch.setenv("AGENT_CLUSTER_ID", "")
    monkeypatch.setenv("AGENT_HEARTBEAT_INTERVAL", "500ms")
    settings = load(Example)
    assert settings.namespaces == ("default", "kube-system")
    assert settings.read_only
    assert settings.cluster_id == "default-cluster"
    assert settings.heartbeat_interval == 0.5


def test_the_first_of_two_names_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """AGENT_MASTER_URL is read before NATS_URL."""
    monkeypatch.setenv("NATS_URL", "nats://second:4222")
    assert load(Example).nats_url == "nats://second:4222"
    monkeypatch.setenv("AGENT_MASTER_URL", "nats://first:4222")
    assert load(Example).nats_url == "nats://first:4222"


def test_the_home_folder_of_the_user_is_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The field `home` is read from ATLHYPER_HOME alone, never from HOME."""
    monkeypatch.setenv("HOME", "/somewhere/else")
    assert load(Example).home == tmp_path


@pytest.mark.parametrize(
    ("name", "value", "says", "advises"),
    [
        ("AGENT_HEARTBEAT_INTERVAL", "30", "AGENT_HEARTBEAT_INTERVAL: '30' is not a duration", "500ms, 30s"),
        ("AGENT_READ_ONLY", "maybe", "AGENT_READ_ONLY: 'maybe': input should be a valid boolean", "correct"),
        ("AGENT_MASTER_URL", "http://master:8080", "no longer speak HTTP with the master", "nats://"),
        ("NATS_URL", "broker:4222", "NATS_URL: 'broker:4222' is not a broker's address", "nats://host:4222"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d", "DATABASE_URL: not a database we know", "asyncpg"),
        ("AGENT_READONLY", "true", "AGENT_READONLY is not a variable of AtlHyper", "AGENT_READ_ONLY"),
        ("NATS_ULR", "nats://h:4222", "NATS_ULR is not a variable of AtlHyper", "NATS_URL"),
        ("ATLHYPER_ENV_FILE", "/does/not/exist", "cannot read /does/not/exist", "correct the path"),
        ("ATLHYPER_LOG_LEVEL", "loud", "ATLHYPER_LOG_LEVEL: 'loud' is none of", "correct"),
    ],
)
def test_a_wrong_variable_is_one_clear_line(
    name: str, value: str, says: str, advises: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, what is wrong and what to write; no secret is quoted."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(Example)
    assert says in caught.value.message
    assert advises in caught.value.next_step
    assert "\n" not in caught.value.message
    assert "hunter2" not in caught.value.render()
    assert caught.value.exit_code == EXIT_CONFIG


def test_foreign_variables_are_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Platforms inject names of their own; they are told once and break nothing."""
    logs.configure(json=True)
    for name in ("AGENT_SERVICE_HOST", "AGENT_PORT_9465_TCP", "NATS_PORT", "NATS_USER"):
        monkeypatch.setenv(name, "10.0.0.1")
    load(Example)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["names"] == "AGENT_PORT_9465_TCP, AGENT_SERVICE_HOST"


def test_a_file_of_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ATLHYPER_ENV_FILE is read too; the environment wins over it, and misspellings in it are found."""
    file = tmp_path / "agent.env"
    file.write_text("AGENT_CLUSTER_ID=from-file\nAGENT_READ_ONLY=true\n")
    monkeypatch.setenv("ATLHYPER_ENV_FILE", str(file))
    monkeypatch.setenv("AGENT_CLUSTER_ID", "from-environment")
    settings = load(Example)
    assert (settings.cluster_id, settings.read_only) == ("from-environment", True)
    file.write_text("AGENT_CLUSTERID=x\n")
    with pytest.raises(SettingsError, match="AGENT_CLUSTERID"):
        load(Example)


def test_the_description_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, defaults in the notation one would write, and the text under the field."""
    described = {variable.names[0]: variable for variable in describe(Example)}
    assert described["AGENT_HEARTBEAT_INTERVAL"].default == "15s"
    assert described["AGENT_HEARTBEAT_INTERVAL"].description == "Pause between two heartbeats."
    assert described["AGENT_MASTER_URL"].names == ("AGENT_MASTER_URL", "NATS_URL")
    assert described["AGENT_READ_ONLY"].default == "false"


def test_every_service_bears_the_variables_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One environment serves all of them: a variable of one is neither misspelt nor unknown to another."""
    from services.agent.settings import AgentSettings
    from services.api.settings import ApiSettings
    from services.master.settings import MasterSettings
    from services.runtime.bus.broker import BrokerSettings

    models = (AgentSettings, ApiSettings, MasterSettings, BrokerSettings, BusSettings, StoreSettings)
    for model in models:
        for variable in describe(model):
            for name in variable.names:
                monkeypatch.setenv(name, variable.default)
    logs.configure(json=True)
    for model in models:
        load(model)
    assert capsys.readouterr().err == ""
