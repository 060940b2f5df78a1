"""deploy/systemd: units that systemd takes, with variables and commands of ours."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from schemas import topology
from services.cli import services
from services.runtime.bus import broker, client, credentials
from services.runtime.bus import topology as runtime_topology
from services.runtime.errors import EXIT_TEMPORARY
from services.runtime.settings import EXIT_CONFIG, BusSettings
from tests.deploy import settings
from tests.deploy.composition import PROGRAMS, ROOT, prepared
from tests.ports import free_port

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
LASTING = [unit for unit in UNITS if "prepare" not in unit.name and "broker" not in unit.name]
PREFIX = "/opt/atlhyper/bin"
EXPOSURE = 20
"""Tenths of systemd's own scale from 0 to 10."""
_LATER = re.compile(r"Unknown key (?:name )?'(?:RestartSteps|RestartMaxDelaySec)'")

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")


def values(unit: Path, key: str) -> list[str]:
    """The values of a key, in order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def commands(unit: Path) -> list[list[str]]:
    return [line.split() for line in values(unit, "ExecStart")]


def filled(unit: Path, folder: Path) -> Path:
    """The unit with our programs in the place of installed ones; of a template its instance `prod-1`."""
    target = folder / unit.name.replace("@", "@prod-1")
    target.write_text(unit.read_text().replace(PREFIX, str(PROGRAMS)))
    return target


@systemd
@every_unit
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing; what only a later systemd knows is named here."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", filled(unit, tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    complaints = [line for line in done.stderr.splitlines() if unit.stem in line and not _LATER.search(line)]
    assert (done.returncode, complaints) == (0, [])


@systemd
@every_unit
def test_it_is_locked_in(unit: Path, tmp_path: Path) -> None:
    """By systemd's own measure each service is hardly exposed."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", filled(unit, tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout[-300:]
    text = unit.read_text()
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes"):
        assert line in text.splitlines()
    assert values(unit, "StateDirectory")


@pytest.mark.parametrize("unit", LASTING, ids=lambda unit: unit.name)
def test_it_starts_again_when_that_helps(unit: Path) -> None:
    """Exit codes that only a person can mend end the service; others start it again, without end."""
    assert values(unit, "Restart") == ["on-failure"]
    kept_down = {int(code) for code in values(unit, "RestartPreventExitStatus")[0].split()}
    assert kept_down == {2, services.EXIT_DENIED, EXIT_CONFIG}
    assert EXIT_TEMPORARY not in kept_down
    assert values(unit, "StartLimitIntervalSec") == ["0"]


@every_unit
def test_variables_and_credentials(unit: Path) -> None:
    """Each variable is one the command reads; each file below %d is a credential that is loaded, and used."""
    variables = dict(line.split("=", 1) for line in values(unit, "Environment"))
    loaded = {line.partition(":")[0] for line in values(unit, "LoadCredential")}
    used = set(re.findall(r"%d/([\w.]+)", unit.read_text()))
    included = {"server.conf", "accounts.conf"} if "broker" in unit.name else set()
    assert loaded == used | included
    known = {name: value.replace("%i", "prod-1") for name, value in variables.items()}
    assert all(program.startswith(PREFIX) for program, *_ in commands(unit))
    if "broker" in unit.name:
        assert known.keys() == set(re.findall(r"\$(\w+)", (ROOT / "deploy/nats/server.conf").read_text()))
    else:
        settings.check(known, *(words for _, *words in commands(unit)))


def test_the_settings_of_the_documentation() -> None:
    """The files that the how-to shows hold variables of the services that read them."""
    page = (ROOT / "docs" / "how-to" / "run-as-systemd-units.md").read_text()
    core, agent = (
        dict(line.split("=", 1) for line in block.splitlines())
        for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    )
    settings.check(core, ["master"])
    settings.check(core, ["api"])
    settings.check(agent, ["agent", "kubernetes"])


@every_unit
def test_its_commands_exist(unit: Path) -> None:
    """Each command line is one that the program has."""
    for program, *words in commands(unit):
        help_of = [
            str(PROGRAMS / Path(program).name),
            *(words if program.endswith("atlhyper") else []),
            "--help",
        ]
        done = subprocess.run(help_of, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        for option in (word for word in words if word.startswith("--")):
            assert option in done.stdout


async def test_the_broker_of_the_unit(tmp_path: Path) -> None:
    """With the files that the how-to installs as its credentials, the unit's command is a broker that stores
    what it has in the state folder."""
    unit = FOLDER / "atlhyper-broker.service"
    for user in topology.CORE_USERS:
        credentials.issue(tmp_path, user.name)
    broker.write_accounts(tmp_path)
    given = tmp_path / "given"
    given.mkdir()
    await prepared(tmp_path)
    listen = f"127.0.0.1:{free_port()}"
    config = (ROOT / "deploy" / "nats" / "server.conf").read_text()
    sources = {
        "broker.conf": (FOLDER / "broker.conf").read_text(),
        "server.conf": config.replace("0.0.0.0:4222", listen),
        "accounts.conf": (tmp_path / "nats" / "accounts.conf").read_text(),
        "broker.crt": (tmp_path / "secrets" / "broker.crt").read_text(),
        "broker.key": (tmp_path / "secrets" / "broker.key").read_text(),
    }
    for line in values(unit, "LoadCredential"):
        name, _, path = line.partition(":")
        (given / name).write_text(sources[Path(path).name])

    def local(text: str) -> str:
        return text.replace("%d", str(given)).replace(PREFIX, str(PROGRAMS))

    variables = dict(local(line).split("=", 1) for line in values(unit, "Environment"))
    process = await asyncio.create_subprocess_exec(
        *(local(word) for word in commands(unit)[0]),
        env={**variables, "STATE_DIRECTORY": str(tmp_path / "state")},
    )
    try:
        where = {"nats_url": f"tls://{listen}", "tls_ca": tmp_path / "secrets" / "ca.crt", "home": tmp_path}
        async with client.connect(BusSettings(**where), "operator", name="test", wait=True) as bus:
            await bus.wait_connected()
            assert await runtime_topology.apply(bus)
        assert (tmp_path / "state" / "jetstream").is_dir()
    finally:
        process.terminate()
        async with asyncio.timeout(60):
            code = await process.wait()
    assert code == 0


def test_the_broker_differs_in_its_folder_alone() -> None:
    """What deploy/systemd/broker.conf repeats of the generated server.conf is as it is there."""

    def jetstream(path: Path) -> dict[str, str]:
        (block,) = re.findall(r"^jetstream \{(.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL)
        return dict(re.findall(r"(\w+): (\S+)", block))

    ours, generated = jetstream(FOLDER / "broker.conf"), jetstream(ROOT / "deploy" / "nats" / "server.conf")
    assert ours.pop("store_dir") != generated.pop("store_dir")
    assert ours == generated
