"""The grammar of label selectors."""

import re
from typing import NamedTuple

from schemas.selectors.errors import MAX_REQUIREMENTS, SelectorError, check_text
from schemas.selectors.labels import LabelSelector, Operator, Requirement, check_key, requirement

MAX_VALUES = 1000
"""Values of all requirements of a label selector together."""

_NEXT = (
    "write key=value, key!=value, key in (a,b), key notin (a,b), key, !key, key>1 or key<1, joined by commas"
)
_OPERATORS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "in": Operator.IN,
    "!=": Operator.NOT_IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}

# U+0000 ends the text; right behind a token it only ends the token.
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<end>\0|\Z)|(?P<symbol>[=!]=|[=!(),<>])\0?|(?P<word>[^=!(),<> \t\r\n\0]+)\0?)"
)


def parse_label_selector(text: str) -> LabelSelector:
    """`app=web,tier in (a,b),!canary,replicas>2`. Raises SelectorError.

        selector    = [ requirement { "," requirement } ]
        requirement = [ "!" ] key | key ( "=" | "==" | "!=" | ">" | "<" ) [ value ]
                    | key ( "in" | "notin" ) "(" [ value ] { "," [ value ] } ")"

    A value left out is the empty one. `in` and `notin` are words like others where no operator can stand.
    """
    check_text(text)
    return LabelSelector.of(_Parser(text).parse())


class _Token(NamedTuple):
    text: str
    """Empty for the end."""
    position: int
    """Of its first character, from 1."""
    is_word: bool


class _Parser:
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
        check_key(key.text, place)
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
        return requirement(key.text, _OPERATORS[sign.text], values, place, place_of_values)

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
        return SelectorError(f"{self._place(self._at)}: found {found}, expected {expected}", _NEXT)
