"""YAML as kubectl reads it, from anybody: what JSON can say, and no more of it than a file can hold."""

import math
import re
from typing import Any

import yaml

LARGEST = 16 * 1024 * 1024
"""Bytes of a file; with all that its aliases repeat, characters of a document too."""
_MOST = 1_000_000
"""Values of a document. One that is said once and meant a million times by aliases counts a million times."""
_DEEPEST = 200
"""Levels of a document. Python's encoder of JSON ends at about a thousand."""
_MERGE = "tag:yaml.org,2002:merge"

_Path = tuple["_Path", str] | None
"""Where a value is: where its owner is, and its key there."""


class BadDocument(Exception):
    """What is wrong, as the end of a sentence that begins with the name of the file."""


def load(text: str) -> list[Any]:
    """The documents: each None or made of str, int of 64 bits, finite float, bool, None, list, and dict with
    str keys. Raises BadDocument.
    """
    try:
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        raise BadDocument(f"is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadDocument("cannot be read: it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # PyYAML takes a tag at its word: `!!int abc`, `!!bool zz`, `!!timestamp zz`, and 5,000 digits.
        first = str(error).partition("\n")[0][:200]
        raise BadDocument(f"cannot be read: it holds a value that is not what it says ({first})") from None
    for number, document in enumerate(documents, 1):
        try:
            _check(document)
        except BadDocument as error:
            raise BadDocument(f"cannot be applied: {_nth(number, documents)}{error}") from None
    return documents


def _nth(number: int, documents: list[Any]) -> str:
    return f"document {number}: " if len(documents) > 1 else ""


def _check(document: Any) -> None:
    """Without recursion: aliases make what is nested far deeper than its text, or in itself."""
    values = characters = 0
    waiting: list[tuple[Any, int, _Path]] = [(document, 0, None)]
    while waiting:
        value, depth, path = waiting.pop()
        values += 1
        if type(value) is dict:
            _name_as_texts(value, path)
            characters += sum(map(len, value))
            inside = [(each, depth + 1, (path, key)) for key, each in value.items()]
        elif type(value) is list:
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


def _name_as_texts(value: dict[Any, Any], path: _Path) -> None:
    """Whole numbers and truths become keys as kubectl writes them: `data: {9000: …}` is usual."""
    if all(type(key) is str for key in value):
        wrong = next((key for key in value if _wrong(key)), None)
        if wrong is not None:
            raise BadDocument(f"a key in {_shown(path)} is {_wrong(wrong)}")
        return
    entries = list(value.items())
    value.clear()
    for key, each in entries:
        if type(key) not in (str, int, bool) or _wrong(key):
            raise BadDocument(f"a key in {_shown(path)} is no text; write it in quotes")
        name = str(key).lower() if type(key) is bool else str(key)
        if name in value:
            raise BadDocument(f"{_shown(path)} has the key {name!r} twice")
        value[name] = each


def _wrong(value: Any) -> str:
    """Why JSON, or Kubernetes, has no such value; empty where they have."""
    if value is None or type(value) is bool:
        return ""
    if type(value) is str:
        return "" if value.isascii() or _is_unicode(value) else "no text in Unicode: half of a surrogate pair"
    if type(value) is int:
        return "" if -(2**63) <= value < 2**63 else "a number of more than 64 bits"
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

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Here, since later the keys of merged mappings are among them, which may be there twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, key.value))
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
