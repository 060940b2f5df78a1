"""From the parameters of a list to what is asked of the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from schemas.selectors import FieldSelector, SelectorError, parse_field_selector, parse_label_selector
from services.api import parameters
from services.api.http import problems
from services.api.models import View
from services.persistence import queries
from services.persistence.database.engine import Session
from services.persistence.queries import EventFilter, Page, ResourceFilter, UnknownColumn

_OWNER = "write <Kind>/<name>, as in Deployment/web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of a list as they were given, by their names."""

    namespace: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None
    owner: str | None = None
    node: str | None = None
    q: str | None = None
    sort: str | None = None
    type: str | None = None
    reason: str | None = None
    kind: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def selects_events(resource: str, targets: Sequence[Target] | None) -> bool:
    """Whether that is the stored Kubernetes Events, which have a table of their own."""
    kinds = {AgentKind.KUBERNETES} if targets is None else {target.kind for target in targets}
    return resource == EVENT.resource and kinds == {AgentKind.KUBERNETES}


def object_filter(resource: str, targets: Sequence[Target] | None, asked: Asked) -> ResourceFilter:
    """Which objects; an empty resource is all. Raises ProblemError."""
    for name in ("type", "reason", "kind", "name", "since", "until"):
        if getattr(asked, name) is not None:
            raise problems.invalid(
                name, "is for `events` only", "leave it out, or select by fieldSelector or q"
            )
    owner = None
    if asked.owner is not None:
        kind, _, name = asked.owner.partition("/")
        if not (kind and name):
            raise problems.invalid("owner", f"{asked.owner!r} is not an owner", _OWNER)
        owner = (kind, name)
    where = ResourceFilter(
        resource=resource,
        targets=None if targets is None else tuple(targets),
        namespace=asked.namespace,
        owner=owner,
        node=asked.node,
        q=asked.q or None,
    )
    try:
        labels = parse_label_selector(asked.label_selector) if asked.label_selector else None
    except SelectorError as error:
        raise problems.invalid("labelSelector", str(error), error.next_step) from error
    fields = _fields(resource, asked)
    return replace(where, labels=labels, fields=fields)


def event_filter(targets: Sequence[Target] | None, asked: Asked) -> EventFilter:
    """Which Events. Raises ProblemError."""
    for name, given in (("labelSelector", asked.label_selector), ("owner", asked.owner)):
        if given is not None:
            raise problems.invalid(name, "Events cannot be selected by it", "leave it out; see kind, name, q")
    return EventFilter(
        clusters=None if targets is None else tuple(target.id for target in targets),
        namespace=asked.namespace,
        type=asked.type,
        reason=asked.reason,
        kind=asked.kind,
        name=asked.name,
        node=asked.node,
        fields=_fields(EVENT.resource, asked),
        since=parameters.aware("since", asked.since),
        until=parameters.aware("until", asked.until),
        q=asked.q or None,
    )


def _fields(resource: str, asked: Asked) -> FieldSelector | None:
    if not asked.field_selector:
        return None
    try:
        selector = parse_field_selector(asked.field_selector)
        if not resource:
            raise SelectorError("needs a `resource`: each has other fields", "name one as `resource`")
        queries.field_conditions(resource, selector)
    except SelectorError as error:
        raise problems.invalid("fieldSelector", str(error), error.next_step) from error
    return selector


@dataclass(frozen=True, slots=True)
class List:
    """A list that was asked for."""

    where: ResourceFilter | EventFilter
    sort: str

    @classmethod
    def of(cls, resource: str, targets: Sequence[Target] | None, asked: Asked) -> "List":
        """Raises ProblemError for what cannot be asked so."""
        events = selects_events(resource, targets)
        where = event_filter(targets, asked) if events else object_filter(resource, targets, asked)
        try:
            if asked.sort is not None:
                queries.check_sort(None if events else resource, asked.sort)
        except UnknownColumn as error:
            next_step = f"sort by one of {', '.join(error.known)}; with `-` before it downwards"
            raise problems.invalid("sort", str(error), next_step) from error
        return cls(where, asked.sort or (queries.NEWEST if events else ""))

    @property
    def events(self) -> bool:
        """Whether it is of the stored Kubernetes Events."""
        return isinstance(self.where, EventFilter)

    async def page(self, session: Session, *, limit: int, continue_: str | None, view: View) -> Page:
        """A page of it."""
        sort, token, full = self.sort, continue_ or "", view is View.FULL
        if isinstance(self.where, EventFilter):
            return await queries.list_events(
                session, self.where, sort=sort, limit=limit, continue_=token, full=full
            )
        return await queries.list_resources(
            session, self.where, sort=sort, limit=limit, continue_=token, full=full
        )
