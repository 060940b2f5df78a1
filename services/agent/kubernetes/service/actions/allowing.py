"""What `dynamic` may ask the API server for: the agent's own list, whatever its role allows.

A rule is `<verb>:<resource>[/<subresource>][@<namespace>]`. The verb is one of the six, `read` for get and
list, `write` for the other four. The resource is kubectl's plural, `<plural>.<group>`, `*.<group>` or `*`.
AgentSettings checks that a rule is one. What is never asked for is said by the declaration of the action.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from schemas.kubernetes import KINDS
from schemas.kubernetes.actions import DynamicParams

READ = frozenset({"get", "list"})
WRITE = frozenset({"create", "update", "patch", "delete"})


class Rule(NamedTuple):
    """One thing that is allowed."""

    verbs: frozenset[str]
    plural: str
    """Or `*`."""
    group: str | None
    """None: all groups."""
    subresource: str
    namespace: str
    """Empty: everywhere."""

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """From what the settings have checked."""
        verb, _, rest = text.partition(":")
        rest, _, namespace = rest.partition("@")
        rest, _, subresource = rest.partition("/")
        plural, _, named = rest.partition(".")
        group: str | None = named
        if not named:
            group = None if plural == "*" else KINDS[plural].group if plural in KINDS else ""
        verbs = {"read": READ, "write": WRITE}.get(verb, frozenset({verb}))
        return cls(verbs, plural, group, subresource, namespace)

    def allows(self, params: DynamicParams) -> bool:
        """A part of an object may be read where the object may; to write it, it has to be named."""
        return (
            params.verb in self.verbs
            and self.plural in ("*", params.resource)
            and self.group in (None, params.group)
            and (self.subresource == params.subresource or (not self.subresource and params.verb in READ))
            and self.namespace in ("", params.namespace)
        )


@dataclass(frozen=True, slots=True)
class AllowList:
    """Nothing, where it is empty."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, rules: Iterable[str]) -> "AllowList":
        """From the setting."""
        return cls(tuple(Rule.parse(rule) for rule in rules))

    def refusal(self, params: DynamicParams) -> str:
        """Why a request is not made; empty where it may be."""
        what = f"{params.resource}.{params.group}" if params.group else params.resource
        if any(rule.allows(params) for rule in self.rules):
            return ""
        part = f"/{params.subresource}" if params.subresource else ""
        place = f" in {params.namespace}" if params.namespace else ""
        return (
            f"the agent's list AGENT_DYNAMIC does not allow to {params.verb} {what}{part}{place}; "
            f"{params.verb}:{what}{part} would"
        )
