"""The content of a request: JSON that says what it means, read into a model, or refused with the reason."""

import difflib
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from litestar import Request
from pydantic import BaseModel, ValidationError

from services.api.http import problems
from services.api.http.problems import InvalidParameter, ProblemError

MAX_DEPTH = 100
"""Levels of arrays and objects in each other at most."""
MAX_ERRORS = 20
"""Fields that a problem explains; the others are counted."""
_MAX_PLACE = 200
"""Characters of the place of a field, whose name may be of a whole content."""
_JSON = "application/json"

Model = TypeVar("Model", bound=BaseModel)


async def read(request: Request[Any, Any, Any], model: type[Model]) -> tuple[Model, Any]:
    """The content as a model, and as the bare JSON it is. Raises ProblemError.

    No content at all is an empty object. Types are not converted: `"3"` is no number, 1 is no boolean.
    """
    given = request.headers.get("content-type", "")
    content = await request.body()
    if content and not _is_json(given):
        raise ProblemError(
            problems.UNSUPPORTED_MEDIA_TYPE,
            f"the content is {given or 'of no type'}, and is to be {_JSON}",
            f"send JSON with `Content-Type: {_JSON}`; `curl --json` does",
        )
    plain = decoded(content or b"{}")
    return checked(model, plain), plain


def checked(model: type[Model], plain: Any, *where: str) -> Model:
    """JSON values as a model. Raises ProblemError; `where` is the place of the value in the content."""
    try:
        return model.model_validate_json(msgspec.json.encode(plain), strict=True)
    except ValidationError as error:
        entries = error.errors(include_url=False, include_input=False, include_context=False)
        errors = [_explained(model, entry, where) for entry in entries[:MAX_ERRORS]]
        if more := len(entries) - len(errors):
            errors.append(InvalidParameter(parameter="", message=f"and {more} more"))
        raise invalid(errors) from None


def invalid(errors: Sequence[InvalidParameter], next_step: str = "") -> ProblemError:
    """Fields that cannot be used."""
    detail = "; ".join(f"{e.parameter}: {e.message}" if e.parameter else e.message for e in errors)
    kind = problems.INVALID_CONTENT
    return ProblemError(kind, detail, next_step or kind.next, list(errors))


def wrong(field: str, message: str, next_step: str = "") -> ProblemError:
    """One field that cannot be used."""
    return invalid([InvalidParameter(parameter=field, message=message)], next_step)


def decoded(content: bytes) -> Any:
    """JSON by RFC 8259, strictly: UTF-8, numbers that can be held, each name once. Raises ProblemError."""
    try:
        plain = msgspec.json.decode(content)
        if _depth(plain) > MAX_DEPTH:
            raise _unreadable(f"it has more than {MAX_DEPTH} levels")
        # msgspec takes the last of two members with one name; who else reads the content may take the first.
        json.loads(content, object_pairs_hook=_each_once)
    except RecursionError:
        raise _unreadable(f"it has more than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise _unreadable("it is not UTF-8") from None
    except (msgspec.MsgspecError, _Twice) as error:
        raise _unreadable(str(error)) from None
    return plain


class _Twice(ValueError):
    """A member is there twice."""


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _Twice(f"{name[:100]!r} is there twice in one object")
        seen.add(name)


def _depth(value: Any) -> int:
    """Levels of arrays and objects; without recursion, or what is too deep would end in it."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _is_json(media_type: str) -> bool:
    name, *parameters = (part.strip().lower() for part in media_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")]
    return name == _JSON and all(charset == "utf-8" for charset in charsets)


def _unreadable(why: str) -> ProblemError:
    return ProblemError(
        problems.INVALID_CONTENT, f"the content is no JSON that can be used: {why}", "correct the JSON"
    )


def _explained(model: type[BaseModel], entry: Any, where: Sequence[str]) -> InvalidParameter:
    """One of pydantic's errors, with the place of the field; what was sent is not repeated."""
    place = [*where, *(str(step) for step in entry["loc"])]
    message: str = entry["msg"].removeprefix("Value error, ")
    match entry["type"]:
        case "extra_forbidden":
            message = "is not known" + _similar(place[-1], model) * (len(entry["loc"]) == 1)
        case "missing":
            message = "is missing"
        case "model_type" | "dict_type":
            message = "is not an object"
    name = ".".join(place)
    if len(name) > _MAX_PLACE:
        name = f"{name[:_MAX_PLACE]}…"
    return InvalidParameter(parameter=name, message=message)


def _similar(name: str, model: type[BaseModel]) -> str:
    names = [info.alias or field for field, info in model.model_fields.items()]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
