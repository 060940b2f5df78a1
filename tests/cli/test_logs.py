"""`atlhyper logs`: kubectl's options, and nothing lost or shown twice when the API goes away."""

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.log_lines import LogText
from services.cli.logs import logs
from tests.cli.command import ATLHYPER, environment
from tests.logs.fixtures import LogPlane, LogSystem
from tests.tokens import TOKEN


class Command:
    """`atlhyper logs …` as a person runs it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.output = b""
        self.errors = b""
        assert process.stdout
        assert process.stderr
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, "output")),
            threading.Thread(target=self._read, args=(process.stderr, "errors")),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, source: IO[bytes], name: str) -> None:
        while data := os.read(source.fileno(), 65536):
            setattr(self, name, getattr(self, name) + data)

    async def until(self, text: bytes, seconds: float = 60.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while text not in self.output:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {seconds}s: {self.output[-500:]!r} {self.errors!r}") from None

    def close(self) -> None:
        for reader in self._readers:
            reader.join()
        for source in (self.process.stdout, self.process.stderr):
            assert source
            source.close()

    async def wait(self) -> int:
        code = await asyncio.to_thread(self.process.wait, 60)
        for reader in self._readers:
            await asyncio.to_thread(reader.join)
        return code


@contextmanager
def running(system: LogSystem, folder: Path, *arguments: str) -> Iterator[Command]:
    variables = {"ATLHYPER_URL": system.url, "ATLHYPER_TOKEN": TOKEN}
    process = subprocess.Popen(
        [ATLHYPER, "logs", "--cluster", system.cluster, *arguments],
        env=environment(folder, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    command = Command(process)
    try:
        yield command
    finally:
        process.kill()
        process.wait()
        command.close()


async def run(system: LogSystem, folder: Path, *arguments: str) -> tuple[int, str, str]:
    with running(system, folder, *arguments) as command:
        return await command.wait(), command.output.decode(), command.errors.decode()


@pytest.mark.timeout(400)
async def test_kubectls_options(log_plane: LogPlane, log_reading: LogSystem, tmp_path: Path) -> None:
    """The same options give the same output as kubectl's."""
    namespace, pods = await log_plane.ready(2, containers=("app", "sidecar"))
    now = datetime.now(UTC).replace(microsecond=0)
    for pod in pods:
        pod.log().write("old", at=now - timedelta(hours=2))
        pod.log().write(*(f"line {number}" for number in range(12)), at=now)
        pod.log().write_previous("before")
        pod.log("sidecar").write("beside", at=now)
    kubectl = log_plane.plane.kubectl
    await asyncio.to_thread(kubectl, "-n", namespace, "create", "service", "clusterip", "web", "--tcp=80")
    name = pods[0].name
    for arguments in (
        [name, "-c", "app"],
        [name, "-c", "app", "--tail=2", "--timestamps"],
        [name, "-c", "app", "--since=1h"],
        [name, "-c", "app", "--since=1h30m"],
        [name, "-c", "app", "--since=3.5h"],
        [name, "-c", "app", "--since=0s"],
        [name, "-c", "app", "--pod-running-timeout=1m30s", "--max-log-requests=1"],
        [name, "-c", "app", "--insecure-skip-tls-verify-backend", "--ignore-errors"],
        [name, "-c", "app", f"--since-time={now:%Y-%m-%dT%H:%M:%SZ}"],
        [name, "-c", "app", "--previous"],
        [name, "-c", "app", "--limit-bytes=7"],
        [f"pod/{name}", "--all-containers", "--prefix"],
        ["-l", "app=web", "-c", "app"],
        ["-l", "app=web", "-c", "app", "--prefix", "--tail=-1"],
    ):
        expected = await asyncio.to_thread(kubectl, "-n", namespace, "logs", *arguments)
        code, output, errors = await run(log_reading, tmp_path, "-n", namespace, *arguments)
        assert (code, errors) == (0, ""), arguments
        if "--prefix" in arguments:  # kubectl takes pods and containers in no order
            output, expected = (
                "".join(sorted(text.splitlines(True), key=lambda line: line.partition("]")[0]))
                for text in (output, expected)
            )
        assert output == expected, arguments
    previous = [name, "-c", "app", "--previous"]
    expected = await asyncio.to_thread(kubectl, "-n", namespace, "logs", *previous)
    found = await run(log_reading, tmp_path, "-n", namespace, *previous, "--follow")  # kwok's has no end
    assert found == (0, expected, "")
    for flag in ("--prefix", "--all-pods"):
        arguments = ["-n", namespace, "svc/web", "-c", "app", "--tail=1", flag]
        code, output, errors = await run(log_reading, tmp_path, *arguments)
        assert output == "".join(f"[pod/{pod.name}/app] line 11\n" for pod in pods)
    many = ["-n", namespace, "-l", "app=web", "-c", "app", "--follow", "--max-log-requests=1"]
    code, output, errors = await run(log_reading, tmp_path, *many)
    assert (code, output) == (2, "")
    assert "you are attempting to follow 2 log streams, but maximum allowed concurrency is 1, use" in errors
    code, output, errors = await run(log_reading, tmp_path, "-n", namespace, name, "--tail=1")
    assert (code, output) == (0, "line 11\n")
    assert errors == 'note: defaulted container "app" out of: app, sidecar\n'


@pytest.mark.timeout(400)
async def test_a_container_that_cannot_be_read(
    log_plane: LogPlane, log_reading: LogSystem, tmp_path: Path
) -> None:
    """As kubectl: what comes before it, then the API server's words; with --ignore-errors among the lines."""
    namespace, pods = await log_plane.ready(3)
    first, second, third = pods
    for pod in pods:
        pod.log().write_previous(f"before {pod.name}")
    second.log().previous.unlink()
    asked = ["-n", namespace, "-l", "app=web", "--previous"]

    told = await run(log_reading, tmp_path, "-n", namespace, second.name, "--previous", "--ignore-errors")
    assert told[0] == 0
    assert told[1].startswith("error: ")
    words = told[1].removeprefix("error: ")  # the API server's
    for limit in ([], ["--limit-bytes=1000"]):
        code, output, errors = await run(log_reading, tmp_path, *asked, *limit)
        assert (code, output) == (1, f"before {first.name}\n")
        assert words in errors
        assert "--ignore-errors" in errors

    expected = await asyncio.to_thread(log_plane.plane.kubectl, "logs", *asked, "--ignore-errors")
    code, output, errors = await run(log_reading, tmp_path, *asked, "--ignore-errors")
    assert (code, errors) == (0, "")
    assert output == f"before {first.name}\nerror: {words}before {third.name}\n"
    assert sorted(output.splitlines()) == sorted(expected.splitlines())


async def test_every_option_of_kubectl(log_plane: LogPlane) -> None:
    """Whatever `kubectl logs --help` names."""
    text = await asyncio.to_thread(log_plane.plane.kubectl, "logs", "--help")
    theirs = set(re.findall(r"^    (?:-\w, )?(--[a-z-]+)=", text, re.MULTILINE))
    assert len(theirs) > 15
    assert theirs <= {option for parameter in logs.params for option in parameter.opts}


@pytest.mark.timeout(400)
async def test_it_follows_over_an_api_that_restarts(
    log_plane: LogPlane, log_reading: LogSystem, tmp_path: Path
) -> None:
    """One stops, the next takes its address; nothing is missing, nothing comes twice. Ctrl-C is the end."""
    namespace, pods = await log_plane.ready(3)
    number = 0

    def write(count: int) -> None:
        nonlocal number
        for _ in range(count):
            for pod in pods:
                pod.log().write(f"line {number}")
            number += 1

    write(20)
    arguments = ("-n", namespace, "-l", "app=web", "-f", "--prefix", "--tail=5")
    with running(log_reading, tmp_path, *arguments) as command:
        for _ in range(3):
            for pod in pods:
                await command.until(f"[pod/{pod.name}/app] line {number - 1}\n".encode())
            await log_reading.restart_api(lambda: write(50))
            write(50)
        for pod in pods:
            await command.until(f"[pod/{pod.name}/app] line {number - 1}\n".encode())
        pods[0].log().write("the end")
        await command.until(b"the end\n")
        command.process.send_signal(signal.SIGINT)
        assert await command.wait() == 130
    for pod in pods:
        found = re.findall(rf"\[pod/{pod.name}/app\] line (\d+)\n", command.output.decode())
        assert [int(text) for text in found] == list(range(15, number))


@pytest.mark.timeout(400)
async def test_usage(log_reading: LogSystem, tmp_path: Path) -> None:
    """What cannot be meant is an error with the next step, and kubectl's or our exit codes."""
    cluster = log_reading.cluster
    for arguments, code, text in (
        ([], 2, "name a pod"),
        (["web", "-l", "app=web"], 2, "name a pod"),
        (["web", "--since=1m", "--since-time=2026-11-21T08:00:00Z"], 2, "exclude"),
        (["web", "--since=soon"], 2, "since"),
        (["web", "--tail=-2"], 2, "-1"),
        (["web", "--pod-running-timeout=0s"], 2, "higher than zero"),
        (["web", "--pod-running-timeout=24h"], 2, "longer than 10m"),
        (["web", "-A"], 2, "one namespace"),
        (["web-that-is-not"], 3, "not found"),
        (["web-that-is-not", "-n", "shop"], 3, f"`atlhyper get pods -n shop --cluster {cluster}`"),
        (["deploy/web-that-is-not", "-n", "shop"], 3, f"get deployments -n shop --cluster {cluster}`"),
        (["configmaps/some"], 2, "have"),
        (["web", "--cluster", "nobody"], 3, "nobody"),
    ):
        found = await run(log_reading, tmp_path, *arguments)
        assert found[0] == code, found
        assert text in found[2], found


@given(st.data())
def test_what_is_shown_and_counted_does_not_depend_on_the_pieces(data: st.DataObject) -> None:
    """However the answer is cut, also in the head of a line."""
    lines = [
        b"[pod/web-%d/app] 2026-11-21T08:00:0%d.000000000Z " % (number % 2, number)
        + data.draw(st.binary(max_size=5).map(lambda text: text.replace(b"\n", b" ")))
        + b"\n"
        for number in range(5)
    ] + [b"no head\n"]
    answer = b"".join(lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=8)))
    whole, pieces = (
        LogText(BytesIO(), timestamps=True, prefix=True, cut=False),
        LogText(BytesIO(), timestamps=True, prefix=True, cut=False),
    )
    whole.write(answer)
    for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True):
        pieces.write(answer[start:end])
    assert isinstance(pieces._out, BytesIO)
    assert pieces._out.getvalue() == answer
    assert pieces.positions() == whole.positions()
    assert [position.partition("@")[0] for position in whole.positions()] == ["web-0/app", "web-1/app"]


@pytest.mark.parametrize(("name", "most"), [("web", 200), ("w" * 250, 50)])
def test_positions_fit_into_a_request(name: str, most: int) -> None:
    """Pods come and go for as long as somebody follows: those that wrote last are told."""
    text = LogText(BytesIO(), timestamps=False, prefix=False, cut=False)
    pods = [f"{name}{number}" for number in (*range(300), 7)]
    for pod in pods:
        text.write(f"[pod/{pod}/app] 2026-11-21T08:00:00.000000000Z text\n".encode())
    found = [position.partition("/")[0] for position in text.positions()]
    assert 30 < len(found) <= most
    assert found == pods[: -len(found) - 1 : -1]
    assert sum(len(position) + 8 for position in text.positions()) < 15_000


def test_an_error_among_the_lines() -> None:
    """The last word of an answer that is broken off is why; told among other lines it is shown, once."""
    line, error = b"[pod/web-0/app] 2026-11-21T08:00:00.000000000Z text\n", b"error: no kubelet\n"
    for pieces in ([line + error], [line, error], [line + error[:9], error[9:]]):
        out = BytesIO()
        text = LogText(out, timestamps=False, prefix=False, cut=False)
        for piece in pieces:
            text.write(piece)
        assert (out.getvalue(), text.interrupted(), text.interrupted()) == (b"text\n", "no kubelet", "")
        text.write(error)
        text.write(line)
        text.finish()
        assert out.getvalue() == b"text\n" + error + b"text\n"
    out = BytesIO()
    text = LogText(out, timestamps=False, prefix=False, cut=False, errors=True)
    for _ in range(2):
        text.write(line + error)
        assert not text.interrupted()
    assert out.getvalue() == b"text\n" + error + b"text\n"
