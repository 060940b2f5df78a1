"""Objects that people send, and objects as they get to see them."""

import asyncio
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.commands import ErrorCode
from schemas.kubernetes.redaction import REDACTED, redact_object, redact_text
from services.agent.capability import Outcome
from services.agent.kubernetes.repository.interfaces import Json, Written
from services.agent.kubernetes.service.actions.base import APPLIED, COMMAND, Task
from services.agent.kubernetes.service.actions.errors import refused

SLICE = 20
"""Objects redacted in one go: in between the agent goes on with its work."""


def marked(body: Json, command_id: str, annotation: str = COMMAND) -> Json:
    """The same object, with the mark of the command that makes it so."""
    metadata = dict(body.get("metadata") or {})
    metadata["annotations"] = (metadata.get("annotations") or {}) | {annotation: command_id}
    return body | {"metadata": metadata}


def resting_on(body: Json, version: str, uid: str = "") -> tuple[Json, bool]:
    """The same object under the version that was seen, and whether that is ours: who names one means it."""
    metadata = dict(body.get("metadata") or {})
    if metadata.get("resourceVersion") or not version:
        return body, False
    metadata["resourceVersion"] = version
    if uid:
        metadata["uid"] = uid
    return body | {"metadata": metadata}, True


def refuse_redacted(body: Any) -> None:
    """Raises Refused for an object that was read here and comes back: its secrets have stayed there."""
    if _holds_redacted(body):
        raise refused(
            ErrorCode.INVALID,
            f"it holds {REDACTED}, which stands for values that have never left the cluster; they would be "
            "lost: send a patch of the fields that change",
        )


def _holds_redacted(value: Any) -> bool:
    if isinstance(value, str):
        return REDACTED in value
    if isinstance(value, dict):
        return any(_holds_redacted(item) for item in value.values())
    return isinstance(value, list) and any(_holds_redacted(item) for item in value)


def shown(obj: Json, *, managed_fields: bool = False) -> Json:
    """An object as it may leave the cluster."""
    found: Json = redact_object(obj)
    fields = obj.get("metadata", {}).get("managedFields")
    if managed_fields and fields:
        found["metadata"]["managedFields"] = [
            {key: redact_text(value) if isinstance(value, str) else value for key, value in entry.items()}
            for entry in fields
        ]
    return found


def answered(task: Task[Any], outcome: Outcome, written: Written) -> Outcome:
    """The outcome of a write with the warnings it has had; of a dry run also with the object as the API
    server has answered it, which is all there is to be seen of that."""
    data = outcome.data | ({"object": shown(written.object)} if task.dry_run else {})
    return Outcome(data, (*written.warnings, *outcome.warnings))


async def all_shown(objects: Iterable[Json], *, managed_fields: bool = False) -> list[Json]:
    """The same of many."""
    found: list[Json] = []
    for obj in objects:
        found.append(shown(obj, managed_fields=managed_fields))
        if len(found) % SLICE == 0:
            await asyncio.sleep(0)
    return found


def now() -> str:
    """The time of reading, as results tell it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_PASSING = ("managedFields", "resourceVersion", "generation")


def digest(obj: Json) -> str:
    """Of what people have set in an object: the same where an apply has changed nothing."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _PASSING}
    set_by_people = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != COMMAND and not key.startswith(APPLIED)
    }
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    data = msgspec.json.encode([rest, metadata | {"annotations": set_by_people}], order="deterministic")
    return hashlib.blake2b(data, digest_size=12).hexdigest()
