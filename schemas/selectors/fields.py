"""Field selectors: `pkg/fields` of k8s.io/apimachinery 0.36."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from schemas.selectors.errors import MAX_REQUIREMENTS, SelectorError, check_text

_NEXT = "write field=value or field!=value, joined by commas; in a value, put a backslash before \\ , and ="

_PART = re.compile(r"(?:[^\\,]|\\.|\\\Z)+", re.DOTALL)
_OPERATOR = re.compile(r"!=|==?")
_ESCAPED = re.compile(r"\\([\\,=])")
_WRONG_IN_VALUE = re.compile(r"[\\=]")


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

    def matches(self, value: Callable[[str], str]) -> bool:
        """Whether an object is selected of which `value` tells what it has in a field."""
        return all((value(term.field) == term.value) is term.equal for term in self.terms)

    def __str__(self) -> str:
        """A text that is parsed to the same selector."""
        return ",".join(map(str, self.terms))


def parse_field_selector(text: str) -> FieldSelector:
    """`status.phase=Running,spec.nodeName!=`. Raises SelectorError.

    Terms are `field=value`, `field==value` or `field!=value`, joined by commas. In a value a backslash takes
    the meaning from `\\`, `,` and `=`. Whether a resource can be selected by a field is not looked at.
    """
    check_text(text)
    terms: set[FieldTerm] = set()
    for part in _PART.finditer(text):
        operator = _OPERATOR.search(part[0])
        if operator is None:
            raise SelectorError(
                f"field selector: no operator in {part[0]!r} at character {part.start() + 1}", _NEXT
            )
        field, written = part[0][: operator.start()], part[0][operator.end() :]
        start = part.start() + operator.end()
        if (wrong := _WRONG_IN_VALUE.search(_ESCAPED.sub("..", written))) is not None:
            what = "a backslash that takes no meaning away" if wrong[0] == "\\" else "'=' without a backslash"
            raise SelectorError(
                f"field selector: {what} in the value of {field!r} at character {start + wrong.start() + 1}",
                _NEXT,
            )
        value = _ESCAPED.sub(r"\1", written)
        if field or value:  # `=` alone is accepted, and says nothing
            terms.add(FieldTerm(field, operator[0] != "!=", value))
    if len(terms) > MAX_REQUIREMENTS:
        raise SelectorError(
            f"field selector: {len(terms)} terms, more than {MAX_REQUIREMENTS}", "ask for less at a time"
        )
    return FieldSelector(tuple(sorted(terms, key=lambda term: (term.field, not term.equal, term.value))))
