"""compose.yaml: valid, closed, and working, as far as that shows without a container engine."""

import asyncio
import hashlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from schemas import topology
from services.cli.cluster.control_plane import ControlPlane
from tests.deploy import composition, settings
from tests.deploy.composition import PROJECT, ROOT, Container, prepared
from tests.waiting import until

SPECIFICATION = Path(__file__).parent / "compose-spec" / "compose-spec.json"
"""https://github.com/compose-spec/compose-spec, schema/compose-spec.json as of commit a08f8d5."""
CHECKSUM = "1f91e091f16b2dd50ab8860e02bb391d22df553d91c145eacedb1b6eff9c3f0e"
SERVICES: dict[str, dict[str, Any]] = composition.load()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("atlhyper:")}

every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_is_a_compose_file() -> None:
    """It is valid by the schema of the Compose Specification, which is the one we vetted."""
    schema = SPECIFICATION.read_bytes()
    assert hashlib.sha256(schema).hexdigest() == CHECKSUM
    validator = jsonschema.Draft7Validator(json.loads(schema))
    validator.validate(composition.load())
    broken = composition.load()
    broken["services"]["api"]["depends_on"]["streams"]["condition"] = 1
    assert not validator.is_valid(broken)


def test_it_says_what_it_needs() -> None:
    """Without RUN_AS it refuses to start: nothing runs as root by oversight."""
    with pytest.raises(KeyError, match="RUN_AS"):
        composition.load({})


@every_service
def test_what_is_named_is_there(name: str) -> None:
    """Networks, volumes, configs, secrets and services that are referred to are declared."""
    file = composition.load()
    service = SERVICES[name]
    for kind in ("configs", "secrets"):
        for entry in service.get(kind, []):
            assert (entry if isinstance(entry, str) else entry["source"]) in file[kind]
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            assert volume.split(":")[0] in file["volumes"]
    assert set(service.get("networks", [])) <= file["networks"].keys()
    for other, how in service.get("depends_on", {}).items():
        needs_health = how["condition"] == "service_healthy"
        assert ("healthcheck" in SERVICES[other]) == needs_health, f"{name} waits for {other} in vain"


@every_service
def test_each_container_may_do_little(name: str) -> None:
    """Not root, nothing written outside of volumes, no capabilities, no way to more rights."""
    service = SERVICES[name]
    assert service["user"] == PROJECT["RUN_AS"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc"}
    assert service.get("network_mode", "") in ("", "none", "service:api")


@every_service
def test_secrets_are_files(name: str) -> None:
    """No value of a variable is a secret: what is one is mounted, for those who need it alone."""
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASS|SECRET|KEY|CREDENTIAL|TOKEN|KUBECONFIG|ENV_FILE", variable):
            assert value.startswith("/run/secrets/"), variable
            assert value.removeprefix("/run/secrets/") in SERVICES[name]["secrets"]
    holders = {
        secret: {other for other, service in SERVICES.items() if secret in service.get("secrets", [])}
        for secret in composition.load()["secrets"]
    }
    assert all(len(found) == 1 for secret, found in holders.items() if secret != "database.env"), holders


def test_one_port_is_open_and_only_here() -> None:
    """Only the broker is published, on loopback unless the person says otherwise, and it demands TLS."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"nats": ["127.0.0.1:4222:4222"]}
    opened = composition.load({**PROJECT, "BROKER_ADDRESS": "0.0.0.0"})
    assert opened["services"]["nats"]["ports"] == ["0.0.0.0:4222:4222"]
    assert re.search(r"^tls \{", (ROOT / "deploy/nats/server.conf").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"nats"}))
def test_variables_are_ours(name: str) -> None:
    """Each variable is one of the command's settings, and its value is accepted."""
    service = SERVICES[name]
    words = [*service.get("entrypoint", ["atlhyper"]), *service.get("command", [])][1:]
    settings.check(service.get("environment", {}), words)


def test_the_broker_reads_its_variables() -> None:
    """server.conf names the variables that the broker is given."""
    given = SERVICES["nats"]["environment"].keys()
    assert set(re.findall(r"\$(\w+)", (ROOT / "deploy/nats/server.conf").read_text())) == given


Start = Callable[[str], Container]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`start("nats")`: a container; what was started ends with the test."""
    ports: dict[str, int] = {}
    made: list[Container] = []

    def make(name: str) -> Container:
        made.append(Container(composition.load(), name, tmp_path, ports))
        return made[-1]

    yield make
    async with AsyncExitStack() as stack:
        for container in made:
            if container.process and container.process.returncode is None:
                stack.push_async_callback(container.stop)


@pytest.mark.timeout(600)
async def test_it_works(
    start: Start,
    tmp_path: Path,
    control_plane: ControlPlane,
    new_postgres_url: Callable[..., str],
) -> None:
    """Prepared as the how-to says, every service starts from the file's own command, variables and files,
    becomes healthy by the file's own check, and ends when it is asked to."""
    await prepared(tmp_path)
    secrets = tmp_path / "secrets"
    credentials = start("credentials")
    await credentials.run()
    await credentials.run("kubernetes", "default-cluster")
    status = {path.name: path.stat() for path in secrets.rglob("*")}
    assert [name for name, found in status.items() if found.st_size and found.st_mode & 0o077] == []
    view = ("config", "view", "--raw", "--minify", "--flatten")
    (secrets / "kubeconfig").write_text(await asyncio.to_thread(control_plane.kubectl, *view))
    (secrets / "database.env").write_text(f"DATABASE_URL={new_postgres_url(migrated=False)}\n")

    nats = start("nats")
    assert not await nats.healthy()
    await nats.start()
    await nats.become_healthy()
    streams = "".join(f"+ {stream.name}\n" for stream in topology.STREAMS)
    assert await start("streams").run() == streams
    assert nats.path("/data/jetstream").is_dir()
    assert "before: empty" in await start("tables").run()
    running = [nats]
    for name in ("master", "api", "agent"):
        container = start(name)
        assert not await container.healthy()
        await container.start()
        await container.become_healthy()
        running.append(container)

    token = start("token")
    assert await token.run() == "token 'cli': keep it secret; it is valid until it is revoked\n"
    assert "already" in await token.run()
    assert (secrets / "cli.token").stat().st_mode & 0o777 == 0o600
    cli = start("cli")
    address = {"ATLHYPER_URL": cli.local("http://127.0.0.1:8080")}

    async def live() -> bool:  # once the master has committed its first heartbeat
        return bool(re.search(r"default-cluster +live", await cli.run("agents", **address)))

    await until(live, 150)
    assert "as they should be" in await cli.run("doctor", **address)
    for container in reversed(running):
        assert await container.stop() == 0, container.log[-2000:]
        if "volumes" not in container.service:  # a read-only root filesystem is enough
            assert not any(container.path("/var/lib/atlhyper").iterdir())


async def test_another_authority_is_not_believed(start: Start, tmp_path: Path) -> None:
    """A broker whose certificate is not from the given authority is not spoken with."""
    await prepared(tmp_path)
    await start("credentials").run()
    nats = start("nats")
    await nats.start()
    await nats.become_healthy()
    other = tmp_path / "other"
    other.mkdir()
    await prepared(other)
    (tmp_path / "secrets" / "ca.crt").write_bytes((other / "secrets" / "ca.crt").read_bytes())
    with pytest.raises(AssertionError, match="certificate"):
        await start("streams").run()


async def test_prepare_is_repeatable(tmp_path: Path) -> None:
    """A second run replaces nothing; the certificate has each name and address, and holds by strict rules."""
    await prepared(tmp_path, "broker.example", "192.0.2.7", "2001:db8::1")
    secrets = tmp_path / "secrets"
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    await prepared(tmp_path)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    strict = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "broker.crt"]
    verified = await asyncio.to_thread(subprocess.run, strict, cwd=secrets, capture_output=True, timeout=60)
    assert verified.returncode == 0, verified.stderr
    shown = ["openssl", "x509", "-in", "broker.crt", "-noout", "-ext", "subjectAltName"]
    text = (
        await asyncio.to_thread(subprocess.run, shown, cwd=secrets, capture_output=True, timeout=60)
    ).stdout
    for name in (
        b"DNS:nats",
        b"DNS:broker.example",
        b"IP Address:192.0.2.7",
        b"IP Address:2001:DB8:0:0:0:0:0:1",
    ):
        assert name in text
    password = (secrets / "postgres.password").read_text()
    assert f"atlhyper:{password}@postgres/atlhyper" in (secrets / "database.env").read_text()


def test_the_example_in_the_documentation_is_valid() -> None:
    """What the how-to adds to the file merges with it into a valid one."""
    page = (ROOT / "docs" / "how-to" / "deploy-with-compose.md").read_text()
    validator = jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_bytes()))
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        added = yaml.safe_load(block)
        validator.validate(added)
        for service in added["services"].values():
            mode = service.get("network_mode", "")
            assert mode.removeprefix("service:") in ("", *SERVICES)
