"""What must hold after a run, each as a function that returns what violates it; empty when it holds.

| invariant | what would break it |
|---|---|
| `equal` | the rows differ from the projections of `kubectl get -o json` |
| `events_kept` | an Event was on the API server or on the bus, and its row is missing or has another count |
| `sequence_whole` | a frame was applied twice, or one was skipped |
| `never_mended` | a change was lost, and a resync made up for it |
| `never_swept` | an object that was there all the time was missing from the rows for a moment |
| `drained` | something is still waiting, unready, or in the dead letters |
| `alive` | a process ended on its own |
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
import msgspec

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from tests.faults.audit import Step
from tests.faults.system import CLUSTER, System

Key = tuple[str, str]
"""Namespace and name."""
_DISAGREES = "digest disagrees"
"""In the reason of a resync."""
WAITING = (
    "atlhyper_consumer_lag",
    "atlhyper_master_resyncs_wanted",
    "atlhyper_master_commands_open",
    "atlhyper_master_outbox_due",
    "atlhyper_agent_commands_open",
    "atlhyper_agent_events_unconfirmed",
    "atlhyper_agent_results_unconfirmed",
)
"""Metrics that are 0 when nothing waits."""


def projected(items: Iterable[dict[str, Any]]) -> dict[str, dict[Key, Any]]:
    """By resource: what the projections make of objects as `kubectl get -o json` prints them."""
    by_kind = {kind.kind: kind for kind in KINDS.values()}
    found: dict[str, dict[Key, Any]] = {resource: {} for resource in KINDS}
    for item in items:
        kind = by_kind[item["kind"]]
        metadata = item["metadata"]
        if kind.resource == "secrets":  # kubectl prints values; we only ever learn how many there are
            keys = len(item.pop("data", None) or {})
            metadata.pop("annotations", None)
            item.update({"keys": keys} if keys else {})
        body = msgspec.json.decode(kind.encode(kind.decode(json.dumps(item).encode())))
        found[kind.resource][metadata.get("namespace", ""), metadata["name"]] = body
    return found


async def truth(system: System) -> dict[str, dict[Key, Any]]:
    """`kubectl get -o json` of every kind, projected."""
    names = ",".join(_qualified(kind) for kind in KINDS.values())
    text = await asyncio.to_thread(system.plane.kubectl, "get", names, "-A", "-o", "json", timeout=60)
    return projected(json.loads(text)["items"])


def _qualified(kind: Kind) -> str:
    return f"{kind.plural}.{kind.version}.{kind.group}" if kind.group else kind.plural


async def shown(system: System, resource: str) -> dict[Key, Any]:
    """What REST shows of one resource."""
    return {(row["namespace"], row["name"]): row["object"] for row in await system.rows(resource)}


async def equal(system: System, wanted: dict[str, dict[Key, Any]]) -> list[str]:
    """The resources whose rows are not what they should be, and in what."""
    told = []
    for resource, objects in wanted.items():
        found = await shown(system, resource)
        if resource == "events":  # rows outlive their objects; `events_kept` looks at the others
            found = {key: value for key, value in found.items() if key in objects}
        if difference := _difference(objects, found):
            told.append(f"{resource}: {difference}")
    return told


def _difference(wanted: dict[Key, Any], found: dict[Key, Any]) -> str:
    missing, surplus = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    changed = sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key])
    parts = [
        f"{len(keys)} {name} ({', '.join('/'.join(key) for key in keys[:3])})"
        for name, keys in (("missing", missing), ("too many", surplus), ("different", changed))
        if keys
    ]
    if changed:
        parts.append(f"{wanted[changed[0]]} is shown as {found[changed[0]]}")
    return ", ".join(parts)


async def events_kept(system: System, wanted: dict[Key, Any]) -> list[str]:
    """Every Event on the API server is a row with its count; so is, with the newest count, each one heard."""
    rows = {
        row["object"]["metadata"]["uid"]: row["object"].get("count", 0) for row in await system.rows("events")
    }
    there = {body["metadata"]["uid"]: body.get("count", 0) for body in wanted.values()}
    heard = {uid: event.count for uid, event in system.recorder.heard.items()}
    told = []
    for where, counts in (("on the API server", there), ("on the bus", heard)):
        lost = [uid for uid in counts if uid not in rows]
        behind = [uid for uid, count in counts.items() if uid in rows and rows[uid] < count]
        ahead = [uid for uid, count in counts.items() if uid in rows and rows[uid] > count and uid in there]
        for name, uids in (
            ("lost", lost),
            ("with too low a count", behind),
            ("with too high a count", ahead),
        ):
            if uids and not (name == "with too high a count" and counts is heard):
                told.append(f"{len(uids)} of {len(counts)} Events {where} are {name}, such as {uids[0]}")
    return told


def sequence_whole(steps: Sequence[Step]) -> list[str]:
    """Inside an epoch each frame raises sequence and version by one, and both only grow."""
    told = []
    for step in steps:
        text = (
            f"{step.target}: {step.epoch_before} {step.sequence_before} (version {step.version_before})"
            f" → {step.epoch} {step.sequence} (version {step.version})"
        )
        frames = step.version - step.version_before
        if frames < 0:
            told.append(f"the version falls: {text}")
        elif step.epoch == step.epoch_before and step.sequence - step.sequence_before != frames:
            told.append(f"sequence and version part: {text}")
        elif step.epoch != step.epoch_before and frames < step.sequence:
            told.append(f"an epoch does not begin at its begin: {text}")
    over: set[str] = set()
    for step in steps:
        if step.epoch != step.epoch_before:
            over.add(step.epoch_before)
            if step.epoch in over:
                told.append(f"an epoch that was over is back: {step.epoch}")
    return told


def never_mended(steps: Sequence[Step]) -> list[str]:
    """The rows never differed from what the agent had sent: no digest found a lost change."""
    found = {
        (step.target, step.epoch): step.resync_reason for step in steps if _DISAGREES in step.resync_reason
    }
    return [f"{target}: in {epoch} the {reason}" for (target, epoch), reason in found.items()]


async def never_swept(system: System) -> list[str]:
    """An object that exists all the time is a row all the time."""
    removed = await system.audit.removed_bystanders()
    return [f"{resource}: the row of an object that was never deleted was removed" for resource in removed]


async def drained(system: System) -> list[str]:
    """No service complains, nothing waits, nothing was unreadable."""
    told = [f"{name} is not ready: {why}" for name, why in (await system.unready()).items()]
    try:
        for service in system.services:
            metrics = await system.metrics(service)
            told += [f"{service}: {name} is {metrics[name]:g}" for name in metrics if _waits(name, metrics)]
        if letters := (await system.get("/dead-letters"))["items"]:
            told.append(f"{len(letters)} dead letters: {letters[0].get('reason')}")
        state = (await system.get(f"/clusters/{CLUSTER}"))["state"]
        if state != "live":
            told.append(f"the cluster is {state}")
    except (aiohttp.ClientError, TimeoutError) as error:
        told.append(f"a service does not answer: {error}")
    return told


def _waits(name: str, metrics: dict[str, float]) -> bool:
    return bool(metrics[name]) and name.startswith(WAITING)


def alive(system: System) -> list[str]:
    """No process ended but by a fault."""
    return [
        f"{end.name} ended with {end.code} on its own:\n{end.tail}"
        for process in system.services.values()
        for end in process.exits
    ]
