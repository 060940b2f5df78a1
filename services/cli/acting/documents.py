"""YAML and JSON as kubectl reads them, from anybody: what JSON can say, and no more than a file can hold."""

import json
import math
import re
import struct
from typing import Any

import yaml

LARGEST = 16 * 1024 * 1024
"""Bytes of a file; with all that its aliases repeat, characters of a document too."""
_MOST = 1_000_000
"""Values of a document. One that is said once and meant a million times by aliases counts a million times."""
_DEEPEST = 200
"""Levels of a document. Python's encoder of JSON ends at about a thousand."""
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_PLAIN_EXPONENTS = range(-4, 6)
"""Those of the numbers that Go's `%g` writes without one."""

_Path = tuple["_Path", str] | None
"""Where a value is: where its owner is, and its key there."""


class BadDocument(Exception):
    """What is wrong, as the end of a sentence that begins with the name of the file."""


def load(text: str) -> list[Any]:
    """The documents: each None or made of str, int of 64 bits, finite float, bool, None, list, and dict with
    str keys. A larger int is the float next to it, as Kubernetes has it. Raises BadDocument.
    """
    documents = _read(text)
    for number, document in enumerate(documents, 1):
        try:
            _check(document)
        except BadDocument as error:
            raise BadDocument(f"cannot be applied: {_nth(number, documents)}{error}") from None
    return documents


def _read(text: str) -> list[Any]:
    """As JSON if it looks like it and is it: YAML knows no tabs between values, and no long keys."""
    no_json = ""
    try:
        if text.lstrip().startswith("{"):
            try:
                return _json(text)
            except json.JSONDecodeError as error:
                no_json = str(error)
        return list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        if no_json:
            raise BadDocument(f"is neither JSON nor YAML: {no_json}") from None
        raise BadDocument(f"is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadDocument("cannot be read: it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # PyYAML takes a tag at its word: `!!int abc`, `!!bool zz`, `!!timestamp zz`, and 5,000 digits.
        first = str(error).partition("\n")[0][:200]
        raise BadDocument(f"cannot be read: it holds a value that is not what it says ({first})") from None


def _json(text: str) -> list[Any]:
    """One value after the other, with nothing but white space around them."""
    decoder, found, position = json.JSONDecoder(object_pairs_hook=_once_each), [], 0
    while (position := _after_space(text, position)) < len(text):
        value, position = decoder.raw_decode(text, position)
        found.append(value)
    return found


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _once_each(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in entries:
        if key in made:
            raise BadDocument(f"cannot be applied: the key {key[:100]!r} is there twice")
        made[key] = value
    return made


def _nth(number: int, documents: list[Any]) -> str:
    return f"document {number}: " if len(documents) > 1 else ""


def _check(document: Any) -> None:
    """Raises BadDocument for what `load` does not give. An int that is too large becomes a float.

    Without recursion: aliases make what is nested far deeper than its text, or in itself.
    """
    values = characters = 0
    waiting: list[tuple[Any, int, _Path]] = [(document, 0, None)]
    while waiting:
        value, depth, path = waiting.pop()
        values += 1
        if type(value) is dict:
            _check_keys(value, path)
            value.update({key: _as_float(each) for key, each in value.items() if _is_large(each)})
            characters += sum(map(len, value))
            inside = [(each, depth + 1, (path, key)) for key, each in value.items()]
        elif type(value) is list:
            value[:] = [_as_float(each) if _is_large(each) else each for each in value]
            inside = [(each, depth + 1, (path, str(number))) for number, each in enumerate(value)]
        else:
            if wrong := _wrong(value):
                raise BadDocument(f"{_shown(path)} is {wrong}")
            characters += len(value) if type(value) is str else 0
            continue
        if depth >= _DEEPEST:
            raise BadDocument(f"it has more than {_DEEPEST} levels")
        waiting += inside
        if values + len(waiting) > _MOST:
            raise BadDocument(f"it has more than {_MOST:,} values, counted as often as aliases repeat them")
        if characters > LARGEST:
            raise BadDocument(f"it is larger than {LARGEST >> 20} MiB with all that aliases repeat")
    if characters > LARGEST:
        raise BadDocument(f"it is larger than {LARGEST >> 20} MiB with all that aliases repeat")


def _check_keys(value: dict[Any, Any], path: _Path) -> None:
    for key in value:
        if type(key) is not str:
            raise BadDocument(f"a key in {_shown(path)} is no text; write it in quotes")
        if wrong := _wrong(key):
            raise BadDocument(f"a key in {_shown(path)} is {wrong}")


def _name(key: Any) -> str | None:
    """A key as kubectl writes it; None for what it refuses, and for numbers of which it keeps no digit."""
    if type(key) is float:
        return _float_name(key)
    if type(key) not in (str, int, bool) or _wrong(key):
        return None
    return str(key).lower() if type(key) is bool else str(key)


def _float_name(key: float) -> str | None:
    """As Go's `strconv.FormatFloat(key, 'g', -1, 32)`: the fewest digits that a float of 32 bits needs."""
    if not math.isfinite(key):
        return None
    try:
        kept = struct.pack("<f", key)
        (single,) = struct.unpack("<f", kept)
        shortest = (number for number in range(9) if struct.pack("<f", float(f"{single:.{number}e}")) == kept)
        digits = next(shortest)
    except OverflowError:
        return None
    text = f"{single:.{digits}e}"
    exponent = int(text.partition("e")[2])
    return f"{single:.{max(digits - exponent, 0)}f}" if exponent in _PLAIN_EXPONENTS else text


def _is_large(value: Any) -> bool:
    return type(value) is int and not -(2**63) <= value < 2**63


def _as_float(value: int) -> float | int:
    """The int itself where there is no such float: it is refused later."""
    try:
        return float(value)
    except OverflowError:
        return value


def _wrong(value: Any) -> str:
    """Why JSON, or Kubernetes, has no such value; empty where they have."""
    if value is None or type(value) is bool:
        return ""
    if type(value) is str:
        return "" if value.isascii() or _is_unicode(value) else "no text in Unicode: half of a surrogate pair"
    if type(value) is int:
        return "a number that is too large" if _is_large(value) else ""
    if type(value) is float:
        return "" if math.isfinite(value) else f"no finite number: {value}"
    return f"of a kind that JSON does not know: {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: _Path) -> str:
    """`.spec.template`; the end of a long one."""
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name[:100])
    return "." + ".".join(reversed(names[:10])) if names else "it"


class _Loader(yaml.SafeLoader):
    """A date and `22:22` are texts, `1e3` is a number; a key that is there twice is refused."""

    _entries = 0
    """Of mappings, each time that they are made or merged."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A character beyond 16 bits that is written as JSON writes it, as two halves, is one."""
        node = super().compose_scalar_node(anchor)
        if isinstance(node.value, str) and not _is_unicode(node.value):
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Here, since later the keys of merged mappings are among them, which may be there twice.

        Numbers and truths become texts as in kubectl: `data: {9000: …}` is usual. For Python 1, 1.0 and true
        were one key.
        """
        node = super().compose_mapping_node(anchor)
        seen = set()
        for number, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.tag != _TEXT and (name := _name(self.construct_object(key))) is not None:
                key = yaml.ScalarNode(_TEXT, name, key.start_mark, key.end_mark)  # noqa: PLW2901
                node.value[number] = (key, value)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value[:100]!r} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges nine times nine times … are counted before they are made."""
        super().flatten_mapping(node)
        self._entries += len(node.value)
        if self._entries > _MOST:
            raise yaml.YAMLError(f"it has more than {_MOST:,} entries, counted as often as `<<` merges them")


_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float", "value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in some if tag not in _PLAIN]
    for first, some in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)\Z"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)
