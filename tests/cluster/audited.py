"""The API server's own word for what was changed."""

import json
from typing import Any

from services.cli.cluster.control_plane import ControlPlane

_CONFLICT = 409


def changes(plane: ControlPlane) -> list[dict[str, Any]]:
    """The answered requests in its audit log, but for conflicts, after which who asked looks again."""
    answered = []
    for file in plane.layout.audit_log.parent.glob("*.log"):  # one that is full is set aside
        whole, _, _ = file.read_text().rpartition("\n")  # the last line may be being written
        answered += [json.loads(line) for line in whole.splitlines()]
    return [
        entry
        for entry in answered
        if entry["stage"] == "ResponseComplete" and entry["responseStatus"]["code"] != _CONFLICT
    ]
