"""Every action of every kind of agent."""

from typing import Any

from schemas.commands import Action
from schemas.ids import AgentKind
from schemas.kubernetes.actions import ACTIONS as KUBERNETES

ACTIONS: dict[AgentKind, dict[str, Action]] = {AgentKind.KUBERNETES: KUBERNETES}
"""By kind and name; the next kind of agent is one line here."""


def shown_params(kind: AgentKind, action: str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as people may see them later; of an action that this version does not know, none."""
    known = ACTIONS.get(kind, {}).get(action)
    return known.shown(params) if known else {}


def capability(action: str) -> str:
    """`act:<action>`: what an agent announces that can do it."""
    return f"act:{action}"
