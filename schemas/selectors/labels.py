"""Label selectors: `pkg/labels` of k8s.io/apimachinery 0.36, `LabelSelector` of meta/v1."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.selectors.errors import SelectorError

MAX_INTEGER = 2**63 - 1
"""What `>` and `<` compare are 64-bit integers."""

_KEY_NEXT = "write a key as name or prefix/name, as in app or app.kubernetes.io/name"
_VALUE_NEXT = "write a value of at most 63 letters, digits, - _ and ., with a letter or digit at both ends"

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PREFIX = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MAX_NAME = 63
_MAX_PREFIX = 253


class Operator(StrEnum):
    """How a requirement relates a label to its values; `=` is IN and `!=` is NOT_IN with one value."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    NOT_EXISTS = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label has to be."""

    key: str
    operator: Operator
    values: tuple[str, ...]
    """Sorted, each once; none for EXISTS and NOT_EXISTS, one integer for GREATER and LESS."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it; those without the key meet NOT_IN as well as NOT_EXISTS."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.EXISTS:
                return value is not None
            case Operator.NOT_EXISTS:
                return value is None
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
        number = None if value is None else integer(value)
        if number is None:
            return False
        bound = int(self.values[0])
        return number > bound if self.operator is Operator.GREATER else number < bound

    def __str__(self) -> str:
        values = ",".join(self.values)
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.NOT_EXISTS:
                return f"!{self.key}"
            case Operator.GREATER:
                return f"{self.key}>{values}"
            case Operator.LESS:
                return f"{self.key}<{values}"
        wanted = self.operator is Operator.IN
        if len(self.values) == 1:
            return f"{self.key}{'=' if wanted else '!='}{values}"
        return f"{self.key} {'in' if wanted else 'notin'} ({values})"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of its requirements have to be met; without any it selects everything."""

    requirements: tuple[Requirement, ...]
    """By key."""

    @classmethod
    def of(cls, requirements: Iterable[Requirement]) -> "LabelSelector":
        """Of these, in whatever order."""
        return cls(tuple(sorted(requirements, key=lambda requirement: requirement.key)))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        """A text that is parsed to the same selector."""
        return ",".join(map(str, self.requirements))


_OPERATORS_OF_OBJECTS = {
    operator.value: operator
    for operator in (Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.NOT_EXISTS)
}


def label_selector_of(selector: Mapping[str, Any]) -> LabelSelector:
    """A meta/v1 LabelSelector as an object has it, `matchLabels` and `matchExpressions`.

    An empty one selects everything; what a selector that is not there selects is for its owner to say.
    Raises SelectorError.
    """
    found: list[Requirement] = []
    labels = _typed(selector.get("matchLabels") or {}, dict, "matchLabels")
    for key, value in labels.items():
        place = f"matchLabels[{key!r}]"
        found.append(requirement(key, Operator.IN, [_typed(value, str, place)], place, place))
    expressions = _typed(selector.get("matchExpressions") or [], list, "matchExpressions")
    for index, item in enumerate(expressions):
        place = f"matchExpressions[{index}]"
        expression = _typed(item, dict, place)
        key = _typed(expression.get("key", ""), str, f"{place}.key")
        values = _typed(expression.get("values") or [], list, f"{place}.values")
        operator = _OPERATORS_OF_OBJECTS.get(_typed(expression.get("operator", ""), str, f"{place}.operator"))
        if operator is None:
            raise SelectorError(
                f"{place}.operator: {expression.get('operator', '')!r} is no operator",
                "use In, NotIn, Exists or DoesNotExist",
            )
        if bool(values) != (operator in (Operator.IN, Operator.NOT_IN)):
            raise SelectorError(
                f"{place}.values: {operator} takes {'none' if values else 'at least one'}",
                "give values to In and NotIn only",
            )
        texts = [_typed(value, str, f"{place}.values") for value in values]
        found.append(requirement(key, operator, texts, f"{place}.key", f"{place}.values"))
    return LabelSelector.of(found)


def integer(value: str) -> int | None:
    """A label's value as `>` and `<` compare it; None when it is no 64-bit integer.

    It has no sign: a label's value begins with a letter or a digit.
    """
    if not (value.isascii() and value.isdecimal()):
        return None
    digits = value.lstrip("0")
    if len(digits) > len(str(MAX_INTEGER)):
        return None
    number = int(digits or "0")
    return number if number <= MAX_INTEGER else None


def requirement(
    key: str, operator: Operator, values: list[str], key_place: str, values_place: str
) -> Requirement:
    """Raises SelectorError for a key or a value that no label has; the places say where they stand."""
    check_key(key, key_place)
    for value in values:
        if value and not (len(value) <= _MAX_NAME and _NAME.fullmatch(value)):
            raise SelectorError(f"{values_place}: {_short(value)} is no value of a label", _VALUE_NEXT)
        if operator in (Operator.GREATER, Operator.LESS) and integer(value) is None:
            raise SelectorError(
                f"{values_place}: {_short(value)} is no 64-bit integer", "compare with a whole number"
            )
    return Requirement(key, operator, tuple(sorted(set(values))))


def check_key(key: str, place: str) -> None:
    """Raises SelectorError; `place` says where the key stands."""
    prefix, slash, name = key.rpartition("/")
    sound = len(name) <= _MAX_NAME and _NAME.fullmatch(name)
    if slash:
        sound = sound and len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix)
    if not sound:
        raise SelectorError(f"{place}: {_short(key)} is no key of a label", _KEY_NEXT)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _typed(value: Any, type_: type[Any], place: str) -> Any:
    if not isinstance(value, type_):
        raise SelectorError(f"{place}: {_short(str(value))} is no {type_.__name__}", "correct the object")
    return value
