"""Every action of every kind of agent."""

from schemas.commands import Action
from schemas.ids import AgentKind
from schemas.kubernetes.actions import ACTIONS as KUBERNETES

ACTIONS: dict[AgentKind, dict[str, Action]] = {AgentKind.KUBERNETES: KUBERNETES}
"""By kind and name; the next kind of agent is one line here."""


def capability(action: str) -> str:
    """`act:<action>`: what an agent announces that can do it."""
    return f"act:{action}"
