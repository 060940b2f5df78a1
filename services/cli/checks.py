"""The checks of `atlhyper doctor`."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import httpx

from services.agent.kubernetes.factory import kubernetes_capability
from services.agent.settings import AgentSettings
from services.cli import access, attach, clocks
from services.cli.client import unauthorized
from services.cli.config import Context
from services.cli.context import Running, bus_settings, resolve
from services.cli.findings import Finding
from services.persistence.database.engine import Database
from services.persistence.database.migrate import check_revision, head
from services.runtime import logs
from services.runtime.bus import topology
from services.runtime.bus.client import BusError, connect
from services.runtime.errors import UserError
from services.runtime.settings import BusSettings, StoreSettings, load

DEADLINE = 15.0
"""Seconds for one check."""


Check = Callable[[Running | None], AsyncIterator[Finding]]


async def run(show: Callable[[Finding], None]) -> list[Finding]:
    """Run every check, the next one whatever the last one found; each finding is shown at once."""
    running = Running.read(load(BusSettings).home)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            async with asyncio.timeout(DEADLINE):
                async for finding in check(running):
                    show(finding)
                    findings.append(finding)
        except (UserError, BusError, TimeoutError) as error:
            finding = _failure(name, error)
            show(finding)
            findings.append(finding)
    return findings


def _failure(name: str, error: Exception) -> Finding:
    if isinstance(error, UserError):
        return Finding("fail", name, error.message, error.next_step)
    if isinstance(error, TimeoutError):
        return Finding(
            "fail", name, f"no answer within {DEADLINE:g}s", "see whether it runs and is overloaded"
        )
    return Finding("fail", name, str(error), "see the broker's log")


async def _broker(_: Running | None) -> AsyncIterator[Finding]:
    settings = bus_settings()
    async with connect(settings, "reader", name="atlhyper doctor") as bus:
        version = await _server_version(settings.nats_url.split(",")[0])
        address = logs.mask(settings.nats_url)
        yield Finding("ok", "broker", f"{address}, nats-server {version}, user reader accepted")
        changes = await topology.diff(bus)
        states = [state for state in await topology.show(bus) if state.known]
    for change in changes:
        if change.action == "create":
            yield Finding("fail", "streams", f"{change.stream} is missing", "atlhyper bus apply")
        else:
            fields = ", ".join(sorted(change.fields))
            text = f"{change.stream} differs in {fields}"
            yield Finding(
                "fail", "streams", text, "`atlhyper bus apply` mends it, with --dry-run it shows how"
            )
    for state in states:
        if state.max_bytes > 0 and state.bytes > 0.9 * state.max_bytes:
            text = f"{state.name} is {100 * state.bytes / state.max_bytes:.0f}% full: its oldest messages go"
            yield Finding("warn", "streams", text, "see that the master runs and keeps up")
    if not changes:
        messages = sum(state.messages for state in states)
        yield Finding("ok", "streams", f"as they should be, {messages:,} messages")


async def _server_version(url: str) -> str:
    """From the greeting, which every NATS server sends first and in the clear."""
    parts = urlsplit(url.strip())
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
    try:
        async with asyncio.timeout(5.0):
            line = await reader.readline()
    finally:
        writer.close()
    try:
        return str(json.loads(line.removeprefix(b"INFO "))["version"])
    except (ValueError, KeyError):
        return "of unknown version"


async def _database(_: Running | None) -> AsyncIterator[Finding]:
    settings = load(StoreSettings)
    async with Database(settings.database_url) as database:
        # Opening a SQLite file makes it, and a check changes nothing.
        if database.is_sqlite and not await asyncio.to_thread(os.path.exists, database.name):
            yield Finding("fail", "database", f"{database.name} does not exist", "atlhyper db upgrade")
            return
        await check_revision(database)
        yield Finding("ok", "database", f"{database.name}, revision {head()}")


async def _cluster(running: Running | None) -> AsyncIterator[Finding]:
    settings = load(AgentSettings)
    chosen = attach.choose(
        settings.kubeconfig, settings.cluster_id if settings.was_set("cluster_id") else None
    )
    if chosen.is_local and not (running and running.kubeconfig):
        text = "no kubeconfig on this machine"
        yield Finding(
            "warn", "cluster", text, "set KUBECONFIG, or let `atlhyper up` start a local control plane"
        )
        return
    kubeconfig = running.kubeconfig if chosen.is_local and running else chosen.kubeconfig
    async with kubernetes_capability(load(AgentSettings, kubeconfig=kubeconfig)) as capability:
        identity = await capability.identify()
        uid = identity.instance or "unknown"
        yield Finding("ok", "cluster", f"context {chosen.context}, Kubernetes {identity.platform}, UID {uid}")
        for finding in await access.findings(capability):
            yield finding


async def _api(_: Running | None) -> AsyncIterator[Finding]:
    context = resolve()
    url = context.url.rstrip("/")
    asked: httpx.Response | None = None
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            answer = await client.get(f"{url}/readyz", params={"verbose": ""})
            if answer.status_code == 200:  # before that nobody is shown a token
                asked = await client.get(f"{url}/", headers=context.headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"no API answers at {url} ({context.origin}): {str(error) or type(error).__name__}",
            "start one with `atlhyper up`, or set ATLHYPER_URL to the address of yours",
        ) from error
    if asked is not None:
        yield Finding("ok", "api", f"{url} is ready")
        yield _token(context, asked)
        return
    try:
        problem = answer.json()
        detail, advice = problem["detail"], problem["next"]
    except (ValueError, TypeError, KeyError):
        detail, advice = "that is not the AtlHyper API", "set ATLHYPER_URL to its address"
    yield Finding("fail", "api", f"{url} answers {answer.status_code}: {detail}", advice)


def _token(context: Context, answer: httpx.Response) -> Finding:
    if answer.status_code == 401:
        refusal = unauthorized(context, answer.json()["detail"])
        return Finding("fail", "token", refusal.message, refusal.next_step)
    if answer.is_error:
        return Finding(
            "fail", "token", f"{context.url} answers {answer.status_code}", "see the log of the api"
        )
    return Finding("ok", "token", "the API accepts it")


async def _clocks(_: Running | None) -> AsyncIterator[Finding]:
    async for finding in clocks.findings():
        yield finding


CHECKS: dict[str, Check] = {
    "broker": _broker,
    "database": _database,
    "clocks": _clocks,
    "cluster": _cluster,
    "api": _api,
}
