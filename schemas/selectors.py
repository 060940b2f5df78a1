"""Label and field selectors, in Kubernetes' grammar.

What is accepted, and what it selects, is what the API server accepts and selects: `pkg/labels` and
`pkg/fields` of k8s.io/apimachinery 0.36, `LabelSelector` of meta/v1. Only the limits are ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

MAX_BYTES = 16 * 1024
"""Length of a selector's text."""
MAX_REQUIREMENTS = 64
"""Requirements of a label selector, terms of a field selector."""
MAX_VALUES = 1000
"""Values of all requirements of a label selector together."""
MAX_INTEGER = 2**63 - 1
"""What `>` and `<` compare are 64-bit integers."""


class SelectorError(ValueError):
    """Not a selector, or none that can be answered.

    The text says what is wrong and at which character, counted from 1, or at which place of an object.
    """

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


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

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        """A text that is parsed to the same selector."""
        return ",".join(map(str, self.requirements))


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """What one field has to be, or must not be. What an object lacks is empty, or its type's default."""

    field: str
    equal: bool
    value: str

    def __str__(self) -> str:
        escaped = re.sub(r"[\\,=]", r"\\\g<0>", self.value)
        return f"{self.field}{'=' if self.equal else '!='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of its terms have to hold; without any it selects everything."""

    terms: tuple[FieldTerm, ...]

    def __str__(self) -> str:
        """A text that is parsed to the same selector."""
        return ",".join(map(str, self.terms))


def parse_label_selector(text: str) -> LabelSelector:
    """`app=web,tier in (a,b),!canary,replicas>2`. Raises SelectorError.

        selector    = [ requirement { "," requirement } ]
        requirement = [ "!" ] key | key ( "=" | "==" | "!=" | ">" | "<" ) [ value ]
                    | key ( "in" | "notin" ) "(" [ value ] { "," [ value ] } ")"

    A value left out is the empty one. `in` and `notin` are words like others where no operator can stand.
    """
    _check_length(text)
    return _sorted(_LabelParser(text).parse())


def label_selector_of(selector: Mapping[str, Any]) -> LabelSelector:
    """A meta/v1 LabelSelector as an object has it, `matchLabels` and `matchExpressions`.

    An empty one selects everything; what a selector that is not there selects is for its owner to say.
    Raises SelectorError.
    """
    found: list[Requirement] = []
    labels = _typed(selector.get("matchLabels") or {}, dict, "matchLabels")
    for key, value in labels.items():
        place = f"matchLabels[{key!r}]"
        found.append(_requirement(key, Operator.IN, [_typed(value, str, place)], place, place))
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
        found.append(_requirement(key, operator, texts, f"{place}.key", f"{place}.values"))
    return _sorted(found)


def parse_field_selector(text: str) -> FieldSelector:
    """`status.phase=Running,spec.nodeName!=`. Raises SelectorError.

    Terms are `field=value`, `field==value` or `field!=value`, joined by commas. In a value a backslash takes
    the meaning from `\\`, `,` and `=`. Whether a resource can be selected by a field is not looked at.
    """
    _check_length(text)
    terms: set[FieldTerm] = set()
    for part in _PART.finditer(text):
        operator = _FIELD_OPERATOR.search(part[0])
        if operator is None:
            raise SelectorError(
                f"field selector: no operator in {part[0]!r} at character {part.start() + 1}", _FIELD_NEXT
            )
        field, written = part[0][: operator.start()], part[0][operator.end() :]
        start = part.start() + operator.end()
        if (wrong := _WRONG_IN_VALUE.search(_ESCAPED.sub("..", written))) is not None:
            what = "a backslash that takes no meaning away" if wrong[0] == "\\" else "'=' without a backslash"
            raise SelectorError(
                f"field selector: {what} in the value of {field!r} at character {start + wrong.start() + 1}",
                _FIELD_NEXT,
            )
        value = _ESCAPED.sub(r"\1", written)
        if field or value:  # `=` alone is accepted, and says nothing
            terms.add(FieldTerm(field, operator[0] != "!=", value))
    if len(terms) > MAX_REQUIREMENTS:
        raise SelectorError(
            f"field selector: {len(terms)} terms, more than {MAX_REQUIREMENTS}", "ask for less at a time"
        )
    return FieldSelector(tuple(sorted(terms, key=lambda term: (term.field, not term.equal, term.value))))


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


# -- inside -----------------------------------------------------------------------------------------------

_FIELD_NEXT = (
    "write field=value or field!=value, joined by commas; in a value, put a backslash before \\ , and ="
)
_LABEL_NEXT = (
    "write key=value, key!=value, key in (a,b), key notin (a,b), key, !key, key>1 or key<1, joined by commas"
)
_KEY_NEXT = "write a key as name or prefix/name, as in app or app.kubernetes.io/name"
_VALUE_NEXT = "write a value of at most 63 letters, digits, - _ and ., with a letter or digit at both ends"

_OPERATORS_OF_OBJECTS = {
    operator.value: operator
    for operator in (Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.NOT_EXISTS)
}
_OPERATORS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "in": Operator.IN,
    "!=": Operator.NOT_IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PREFIX = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MAX_NAME = 63
_MAX_PREFIX = 253

_SURROGATE = re.compile("[\ud800-\udfff]")
_PART = re.compile(r"(?:[^\\,]|\\.|\\\Z)+", re.DOTALL)
_FIELD_OPERATOR = re.compile(r"!=|==?")
_ESCAPED = re.compile(r"\\([\\,=])")
_WRONG_IN_VALUE = re.compile(r"[\\=]")

# U+0000 ends the text; right behind a token it only ends the token.
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<end>\0|\Z)|(?P<symbol>[=!]=|[=!(),<>])\0?|(?P<word>[^=!(),<> \t\r\n\0]+)\0?)"
)


class _Token(NamedTuple):
    text: str
    """Empty for the end."""
    position: int
    """Of its first character, from 1."""
    is_word: bool


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._tokens: list[_Token] = []
        at = 0
        while not self._tokens or self._tokens[-1].text:
            match = _TOKEN.match(text, at)
            assert match is not None, "every text is made of tokens"
            group = match.lastgroup or "end"
            found = "" if group == "end" else match[group]
            self._tokens.append(_Token(found, match.start(group) + 1, group == "word"))
            at = match.end()
        self._next = 0
        self._values = 0

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        if not self._at.text:
            return found
        while True:
            found.append(self._requirement())
            if len(found) > MAX_REQUIREMENTS:
                raise SelectorError(
                    f"label selector: more than {MAX_REQUIREMENTS} requirements", "ask for less at a time"
                )
            if not self._at.text:
                return found
            if self._at.text != ",":
                raise self._unexpected("',' or the end")
            self._take()

    def _requirement(self) -> Requirement:
        negated = self._at.text == "!"
        if negated:
            self._take()
        if not self._at.is_word:
            raise self._unexpected("a key" if negated else "a key or '!'")
        key = self._take()
        place = self._place(key)
        _check_key(key.text, place)
        if negated or self._at.text in ("", ","):
            operator = Operator.NOT_EXISTS if negated else Operator.EXISTS
            return Requirement(key.text, operator, ())
        sign = self._at
        if sign.text not in _OPERATORS:
            raise self._unexpected("an operator (=, ==, !=, in, notin, > or <), ',' or the end")
        self._take()
        place_of_values = self._place(self._at)
        values = self._list() if sign.is_word else [self._value()]
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise SelectorError(f"label selector: more than {MAX_VALUES} values", "ask for less at a time")
        return _requirement(key.text, _OPERATORS[sign.text], values, place, place_of_values)

    def _value(self) -> str:
        if self._at.text in ("", ","):
            return ""
        if not self._at.is_word:
            raise self._unexpected("a value")
        return self._take().text

    def _list(self) -> list[str]:
        if self._at.text != "(":
            raise self._unexpected("'('")
        self._take()
        values: list[str] = []
        while True:
            values.append(self._take().text if self._at.is_word else "")
            if self._at.text == ")":
                self._take()
                return values
            if self._at.text != ",":
                raise self._unexpected("',' or ')'" if values[-1] else "a value, ',' or ')'")
            self._take()

    @property
    def _at(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._at
        self._next += 1
        return token

    def _place(self, token: _Token) -> str:
        return f"label selector, character {token.position}"

    def _unexpected(self, expected: str) -> SelectorError:
        found = repr(self._at.text) if self._at.text else "the end"
        return SelectorError(f"{self._place(self._at)}: found {found}, expected {expected}", _LABEL_NEXT)


def _requirement(
    key: str, operator: Operator, values: list[str], key_place: str, values_place: str
) -> Requirement:
    _check_key(key, key_place)
    for value in values:
        if value and not (len(value) <= _MAX_NAME and _NAME.fullmatch(value)):
            raise SelectorError(f"{values_place}: {_short(value)} is no value of a label", _VALUE_NEXT)
        if operator in (Operator.GREATER, Operator.LESS) and integer(value) is None:
            raise SelectorError(
                f"{values_place}: {_short(value)} is no 64-bit integer", "compare with a whole number"
            )
    return Requirement(key, operator, tuple(sorted(set(values))))


def _check_key(key: str, place: str) -> None:
    prefix, slash, name = key.rpartition("/")
    sound = len(name) <= _MAX_NAME and _NAME.fullmatch(name)
    if slash:
        sound = sound and len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix)
    if not sound:
        raise SelectorError(f"{place}: {_short(key)} is no key of a label", _KEY_NEXT)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _check_length(text: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise SelectorError(f"a selector of {size} bytes, more than {MAX_BYTES}", "ask for less at a time")
    if (wrong := _SURROGATE.search(text)) is not None:
        raise SelectorError(f"character {wrong.start() + 1} of the selector is no text", "send it in UTF-8")


def _typed(value: Any, type_: type[Any], place: str) -> Any:
    if not isinstance(value, type_):
        raise SelectorError(f"{place}: {_short(str(value))} is no {type_.__name__}", "correct the object")
    return value


def _sorted(requirements: list[Requirement]) -> LabelSelector:
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))
