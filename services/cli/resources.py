"""Resources as people write them, and what kubectl calls them."""

from dataclasses import dataclass

FLEET = ("clusters", "cluster", "agents", "agent")
"""What `get` shows besides: who is there."""


@dataclass(frozen=True, slots=True)
class Query:
    """One resource that was asked for, and maybe one name of it."""

    resource: str
    """kubectl's plural, as in the API's paths."""
    prefix: str
    """What kubectl writes before the `/` of a name: `deployment.apps`."""
    namespaced: bool
    """True where only its cluster knows."""
    name: str | None = None
    known: bool = True
    """Whether this version has the kind."""

    @classmethod
    def of(cls, word: str, name: str | None = None) -> "Query":
        """From a word such as `po`, `Pod`, `deployments.apps`."""
        from schemas.kubernetes import KINDS

        resource = plural(word)
        kind = KINDS.get(resource)
        if kind is None:
            return cls(resource, resource.partition(".")[0], True, name, known=False)
        return cls(
            resource, kind.kind.lower() + (f".{kind.group}" if kind.group else ""), kind.namespaced, name
        )


def queries(words: str, names: tuple[str, ...]) -> list[Query]:
    """`po`, `po,svc`, `po web-1 web-2`, `po/web-1 svc/web`: as kubectl reads them. Raises UserError."""
    from services.runtime.errors import UserError

    if any("/" in part for part in (words, *names)):
        pairs = [part.partition("/") for part in (words, *names)]
        if bad := next((kind for kind, slash, name in pairs if not (kind and slash and name)), None):
            raise UserError(f"{bad!r} does not name a kind and an object", "write each as kind/name", 2)
        return [Query.of(kind, name) for kind, _, name in pairs]
    kinds = [word for word in words.split(",") if word]
    if not kinds:
        raise UserError(
            "RESOURCE names no resource", "write one such as `pods`, or several: `pods,services`", 2
        )
    if len(kinds) > 1 and names:
        raise UserError("names are given with one kind", "write each as kind/name", 2)
    return [Query.of(kind, name) for kind in kinds for name in (names or (None,))]


def plural(word: str) -> str:
    """kubectl's plural of a resource as people write it; the API judges a word that is not known here."""
    from schemas.kubernetes.names import plural

    return plural(word)
