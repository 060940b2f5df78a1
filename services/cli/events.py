"""`atlhyper events`: what Kubernetes reported, over the whole fleet."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import rich_click as click

from services.cli import options
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.follow import Follower
from services.cli.listing import Listing
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.render import Display
from services.cli.resources import Query, plural
from services.runtime.errors import UserError
from services.runtime.words import are, counted

_SPAN = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.command()
@options.where
@click.option("--for", "about", metavar="KIND/NAME", help="Only those about this object: `pod/web-1`.")
@click.option("--types", help="Only these types, such as `Warning`; several with commas.")
@click.option("--reason", help="Only this reason, such as `BackOff`.")
@click.option(
    "--since", help="Only those seen in this time (`30m`, `2h`, `1d`) or after this moment (RFC 3339)."
)
@click.option("--until", help="Only those seen before: a time ago, or a moment.")
@click.option("-q", "--query", "text", help="Only those with this text in message, reason or object.")
@click.option("-w", "--watch", is_flag=True, help="Then follow what comes.")
@options.display
@click.option(
    "--limit", type=click.IntRange(min=0), default=500, show_default=True, help="Most of them; 0 for all."
)
@options.context
def events(
    where: Selection,
    about: str | None,
    types: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    watch: bool,
    display: Display,
    limit: int,
    context: str | None,
) -> None:
    """Show Kubernetes Events, the newest last. They outlive the object they are about.

    Examples: `atlhyper events -A --types Warning --since 1h`, `atlhyper events --for pod/web-1 -n shop -w`
    """
    if watch and until:
        raise UserError("--until and --watch exclude each other", "leave one of them away", 2)
    filters = {
        "type": _type(types),
        "reason": reason,
        "since": _moment("--since", since),
        "until": _moment("--until", until),
        "q": text,
        **_object(about),
    }
    with Client(resolve(context)) as client:
        listing = EventListing(client, where, filters, display, limit)
        if not watch:
            raise SystemExit(listing.run())
        Follower(listing).run(initial=True)


class EventListing(Listing):
    """One run of `events`."""

    def __init__(
        self, client: Client, where: Selection, filters: dict[str, str | None], display: Display, limit: int
    ) -> None:
        super().__init__(client, [Query("events", "event", True)], where, filters, display, limit)

    def path(self, query: Query) -> str:  # noqa: ARG002 - there is one
        return "/events"

    def parameters(self, query: Query) -> dict[str, Any]:  # noqa: ARG002
        return {"namespace": self.where.namespace, **self.filters}

    def rows(self, query: Query, clusters: list[str]) -> list[dict[str, Any]]:
        """The newest last, where the eye is."""
        found = super().rows(query, clusters)
        if self.remaining:
            left = f"{counted(self.remaining, 'older Event')} {are(self.remaining)} not shown"
            note(f"{left}; --limit 0 shows all, --since narrows it")
        return found[::-1]

    def follows(self, query: Query, row: dict[str, Any]) -> bool:
        """As the API selects by the same filters; all that follows is newer than `since`."""
        involved, filters = row["involved"], self.filters
        shown = f"{row['message']}\n{row['reason']}\n{involved['name']}".casefold()
        return (
            super().follows(query, row)
            and filters["type"] in (None, row["type"])
            and filters["reason"] in (None, row["reason"])
            and filters["kind"] in (None, involved["kind"])
            and filters["name"] in (None, involved["name"])
            and (filters["q"] or "").casefold() in shown
        )


def _type(types: str | None) -> str | None:
    known = {"normal": "Normal", "warning": "Warning"}
    named = {part.strip().lower() for part in (types or "").split(",") if part.strip()}
    if wrong := named - known.keys():
        raise UserError(f"--types: there is no type {min(wrong)!r}", "types are Normal and Warning", 2)
    return known[named.pop()] if len(named) == 1 else None


def _object(about: str | None) -> dict[str, str | None]:
    """What the API calls kind and name."""
    from schemas.kubernetes import KINDS

    if about is None:
        return {"kind": None, "name": None}
    word, slash, name = about.partition("/")
    if not (word and slash and name):
        raise UserError(f"--for: {about!r} does not name an object", "write kind/name, such as pod/web-1", 2)
    known = KINDS.get(plural(word))
    return {"kind": known.kind if known else word, "name": name}


def _moment(option: str, text: str | None) -> str | None:
    """An RFC 3339 time, from one or from a length of time before now."""
    if not text:
        return None
    parts = _SPAN.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        ago = timedelta(**{_UNITS[unit]: int(number) for number, unit in parts})
        return (datetime.now(UTC) - ago).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option}: {text!r} is no time", "write 30m, 2h, 1d12h or 2026-11-21T08:00:00Z", 2
        ) from None
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()
