"""Waiting until the attached cluster can be queried, and what to try then."""

import asyncio
import shlex
import shutil
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import rich_click as click

from services.cli.attach import Attachment
from services.cli.context import token_file
from services.cli.supervisor import Say
from services.runtime.words import counted

_POLL = 0.25
_WAITING = frozenset({"listing", "unknown"})
EVENTS = "events"
"""They travel outside of frames: nobody knows when their rows are complete."""


class Progress:
    """Tells what is being waited for, when it changes; on a terminal not more often than twice a second."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told = ""
        self._at = 0.0

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if text != self._told and now - self._at > 0.5:
            self._told, self._at = text, now
            self._say("cluster", text)


async def wait_synced(
    url: str, token: str, cluster_id: str, progress: Progress, patience: float
) -> dict[str, Any]:
    """Poll the API until every resource of the cluster is collected or told why not; the agent's entry.

    What an agent said before this call, in an earlier run, does not count. After `patience` seconds the
    entry as it is then; empty when the agent has not been heard of.
    """
    agent: dict[str, Any] = {}
    since = datetime.now(UTC)
    deadline = time.monotonic() + patience
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=5.0) as client:
        while time.monotonic() < deadline:
            try:
                answer = await client.get(f"/api/v1/clusters/{cluster_id}")
            except httpx.HTTPError:
                progress.tell("waiting for the API")
            else:
                if answer.status_code == 200 and _at(answer.json()["health"]["start_time"]) >= since:
                    agent = answer.json()
                    waiting = missing(agent, since)
                    if agent["collection"] and not waiting:
                        return agent
                    progress.tell(_text(agent, waiting))
                else:
                    progress.tell("waiting for the agent's first heartbeat")
            await asyncio.sleep(_POLL)
    return agent


def missing(agent: dict[str, Any], since: datetime) -> list[str]:
    """The resources that are still on their way: not listed yet, or not in the database since then."""
    return [
        item["resource"]
        for item in agent["collection"]
        if item["state"] in _WAITING
        or (item["state"] == "synced" and item["resource"] != EVENTS and _at(item["synced_at"]) < since)
    ]


def _at(time: str | None) -> datetime:
    return datetime.fromisoformat(time) if time else datetime.min.replace(tzinfo=UTC)


def _text(agent: dict[str, Any], waiting: list[str]) -> str:
    total = len(agent["collection"])
    if not total:
        return "waiting for the first list"
    return f"{total - len(waiting)} of {total} resources synced, waiting for {', '.join(waiting[:4])}"


def next_steps(url: str, home: Path, attachment: Attachment, read_only: bool, agent: dict[str, Any]) -> None:
    """The address, what is attached, and three things to try."""
    third = "scale deploy/search --replicas 2 -n demo" if attachment.is_local and not read_only else "agents"
    command, token = _command(home), shlex.quote(str(token_file(home)))
    lines = ["", f"AtlHyper is up at {click.style(url, bold=True)}", ""]
    if agent:
        objects = sum(item["objects"] for item in agent["collection"])
        version = f", Kubernetes {agent['platform']}" if agent["platform"] else ""
        lines.append(f"  cluster   {attachment.cluster_id}: {counted(objects, 'object')}{version}")
        lines.append(f"  context   {attachment.context} (cluster UID {agent['instance'] or 'unknown'})")
        lines += [
            f"  not all   {item['resource']}: {item['reason'] or item['state']}"
            for item in agent["collection"]
            if item["state"] not in ("synced", "off", "absent")
        ]
    else:
        log = home / "logs" / "agent.log"
        lines.append(f"  cluster   {attachment.cluster_id}: no sign of its agent yet; see {log}")
    lines.append(f"  writes    {'off; AGENT_READ_ONLY=false allows them' if read_only else 'allowed'}")
    lines += [
        f"  data      {home}",
        "",
        "Try, in another terminal:",
        f'  curl -s -H "Authorization: Bearer $(cat {token})" {url}/api/v1/clusters',
        f"  {command} get pods -A",
        f"  {command} {third}",
        "",
        "Ctrl-C stops everything; the data stays.",
    ]
    with suppress(OSError):
        click.echo("\n".join(lines))


def _command(home: Path) -> str:
    """How to call us from another terminal: the shortest way that works there."""
    own = Path(sys.executable).parent / "atlhyper"
    found = shutil.which("atlhyper")
    if found and Path(found).resolve() == own.resolve():
        command = "atlhyper"
    elif own.is_relative_to(Path.cwd()):
        command = str(own.relative_to(Path.cwd()))
    else:
        command = shlex.quote(str(own))
    default = Path("~/.local/share/atlhyper").expanduser()
    return command if home == default else f"ATLHYPER_HOME={shlex.quote(str(home))} {command}"
