"""What the document cannot tell schemathesis."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """A made-up `continue` or selector is a 400 before anything is read: most valid requests go without.

    Those that follow a link have one that was given out. No agent is there to answer, so nobody waits for
    long; and commands are for a cluster that there is.
    """
    meta = case.meta
    query = case.query or {}
    negative = meta is not None and meta.generation.mode.is_negative
    if ("wait" in query or case.path.endswith("/live")) and not (negative and "wait" in query):
        case.query = {**query, "wait": "10ms"}
    if meta is None or negative:
        return
    if isinstance(case.body, dict) and {"cluster_id", "target"} & case.body.keys():
        case.body.pop("target", None)
        case.body["cluster_id"] = "prod-eu"
    if meta.phase.name.name == "STATEFUL_TESTING":
        return
    for name in ("continue", "fieldSelector", "labelSelector", "sort", "owner", "cluster"):
        if len(str((case.query or {}).get(name, ""))) % 8:
            del case.query[name]
