"""What the document cannot tell schemathesis."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """A made-up `continue` or selector is a 400 before anything is read: most valid requests go without.

    Those that follow a link have one that was given out.
    """
    meta = case.meta
    if meta is None or meta.generation.mode.is_negative or meta.phase.name.name == "STATEFUL_TESTING":
        return
    for name in ("continue", "fieldSelector", "labelSelector", "sort", "owner", "cluster"):
        if len(str((case.query or {}).get(name, ""))) % 8:
            del case.query[name]
