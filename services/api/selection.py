"""From the parameters of a list to what is asked of the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from schemas.selectors import FieldSelector, SelectorError, parse_field_selector, parse_label_selector
from services.api import parameters
from services.api.http import problems
from services.api.models import View
from services.persistence import queries
from services.persistence.database.engine import Connection
from services.persistence.queries import EventFilter, Page, ResourceFilter, UnknownColumn

_OWNER = "write <Kind>/<name>, as in Deployment/web"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Parameters of a query as they were given; a handler has them by naming the class as a dependency."""

    namespace: parameters.Namespace = None
    field_selector: parameters.FieldSelector = None
    node: parameters.Node = None
    q: parameters.Text = None


@dataclass(frozen=True, kw_only=True)
class AskedObjects(Asked):
    """Those that objects are selected by."""

    label_selector: parameters.LabelSelector = None
    owner: parameters.Owner = None


@dataclass(frozen=True, kw_only=True)
class AskedEvents(Asked):
    """Those of a list of Events."""

    type: parameters.EventType = None
    reason: parameters.Reason = None
    about_kind: parameters.AboutKind = None
    about_name: parameters.AboutName = None
    since: parameters.Since = None
    until: parameters.Until = None
    sort: parameters.Sort = None
    limit: parameters.Limit = parameters.DEFAULT_LIMIT
    continue_: parameters.Continue = None
    view: parameters.ViewParameter = View.SUMMARY


@dataclass(frozen=True, kw_only=True)
class AskedList(AskedObjects, AskedEvents):
    """Those of a list whose path says of what."""


_EVENTS_ONLY = ("type", "reason", "about_kind", "about_name", "since", "until")
_OBJECTS_ONLY = (("labelSelector", "label_selector"), ("owner", "owner"))


def selects_events(resource: str, targets: Sequence[Target] | None) -> bool:
    """Whether that is the stored Kubernetes Events, which have a table of their own."""
    kinds = {AgentKind.KUBERNETES} if targets is None else {target.kind for target in targets}
    return resource == EVENT.resource and kinds == {AgentKind.KUBERNETES}


def object_filter(resource: str, targets: Sequence[Target] | None, asked: AskedObjects) -> ResourceFilter:
    """Which objects; an empty resource is all. Raises ProblemError."""
    for name in _EVENTS_ONLY:
        if getattr(asked, name, None) is not None:
            raise problems.invalid(
                name.removeprefix("about_"),
                "is for `events` only",
                "leave it out, or select by fieldSelector or q",
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


def event_filter(targets: Sequence[Target] | None, asked: AskedEvents) -> EventFilter:
    """Which Events. Raises ProblemError."""
    for name, attribute in _OBJECTS_ONLY:
        if getattr(asked, attribute, None) is not None:
            raise problems.invalid(name, "Events cannot be selected by it", "leave it out; see kind, name, q")
    return EventFilter(
        clusters=None if targets is None else tuple(target.id for target in targets),
        namespace=asked.namespace,
        type=asked.type,
        reason=asked.reason,
        kind=asked.about_kind,
        name=asked.about_name,
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
    asked: AskedEvents

    @classmethod
    def of(cls, resource: str, targets: Sequence[Target] | None, asked: AskedEvents) -> "List":
        """Raises ProblemError for what cannot be asked so."""
        events = selects_events(resource, targets)
        where: ResourceFilter | EventFilter
        if events:
            where = event_filter(targets, asked)
        else:
            assert isinstance(asked, AskedList)
            where = object_filter(resource, targets, asked)
        try:
            if asked.sort is not None:
                queries.check_sort(None if events else resource, asked.sort)
        except UnknownColumn as error:
            next_step = f"sort by one of {', '.join(error.known)}; with `-` before it downwards"
            raise problems.invalid("sort", str(error), next_step) from error
        return cls(where, asked)

    @property
    def events(self) -> bool:
        """Whether it is of the stored Kubernetes Events."""
        return isinstance(self.where, EventFilter)

    async def page(self, connection: Connection) -> Page:
        """A page of it."""
        asked = self.asked
        token, full = asked.continue_ or "", asked.view is View.FULL
        if isinstance(self.where, EventFilter):
            sort = asked.sort or queries.NEWEST
            return await queries.list_events(
                connection, self.where, sort=sort, limit=asked.limit, continue_=token, full=full
            )
        return await queries.list_resources(
            connection, self.where, sort=asked.sort or "", limit=asked.limit, continue_=token, full=full
        )
