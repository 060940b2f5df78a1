"""Selectors: what is accepted, what it means, what is refused and where.

That the API server accepts and refuses the same is shown against a real one in tests/e2e/test_selectors.py.
"""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kubernetes import KINDS
from schemas.selectors import (
    MAX_BYTES,
    FieldSelector,
    FieldTerm,
    LabelSelector,
    Operator,
    Requirement,
    SelectorError,
    integer,
    label_selector_of,
    parse_field_selector,
    parse_label_selector,
)

IN, NOT_IN, EXISTS, NOT_EXISTS = Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.NOT_EXISTS


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" \t\r\n", []),
        ("a=b", [("a", IN, "b")]),
        (" a == b ", [("a", IN, "b")]),
        ("a!=b", [("a", NOT_IN, "b")]),
        ("a", [("a", EXISTS)]),
        ("! a", [("a", NOT_EXISTS)]),
        ("a=", [("a", IN, "")]),
        ("a=,b!=", [("a", IN, ""), ("b", NOT_IN, "")]),
        ("z,a", [("a", EXISTS), ("z", EXISTS)]),
        ("a=1,a=2", [("a", IN, "1"), ("a", IN, "2")]),
        ("a in(c,b,c)", [("a", IN, "b", "c")]),
        ("a notin (b)", [("a", NOT_IN, "b")]),
        ("a in ()", [("a", IN, "")]),
        ("a in (,)", [("a", IN, "")]),
        ("a in (,b)", [("a", IN, "", "b")]),
        ("a in (b,,c)", [("a", IN, "", "b", "c")]),
        ("a in (b,)", [("a", IN, "", "b")]),
        ("a>1", [("a", Operator.GREATER, "1")]),
        ("a < 007", [("a", Operator.LESS, "007")]),
        ("a>9223372036854775807", [("a", Operator.GREATER, "9223372036854775807")]),
        ("in in (in,notin)", [("in", IN, "in", "notin")]),
        ("notin=in", [("notin", IN, "in")]),
        ("in", [("in", EXISTS)]),
        ("!notin", [("notin", NOT_EXISTS)]),
        ("app.kubernetes.io/name=a.b-c_D", [("app.kubernetes.io/name", IN, "a.b-c_D")]),
        (f"{'k' * 63}={'v' * 63}", [("k" * 63, IN, "v" * 63)]),
        (f"{'p' * 253}/k", [(f"{'p' * 253}/k", EXISTS)]),
        ("a=b\0", [("a", IN, "b")]),
        (" \0, and what follows", []),
    ],
)
def test_what_a_label_selector_means(text: str, wanted: list[tuple[Any, ...]]) -> None:
    """Each form of a requirement, in any white space, by key; values sorted and each once."""
    expected = tuple(Requirement(key, operator, tuple(values)) for key, operator, *values in wanted)
    assert parse_label_selector(text).requirements == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (",", "character 1: found ','"),
        ("=b", "character 1: found '='"),
        ("a,", "character 3: found the end, expected a key"),
        ("a,,b", "character 3: found ','"),
        ("a b", "character 3: found 'b', expected an operator"),
        ("a=b c", "character 5: found 'c', expected ',' or the end"),
        ("a==b=c", "character 5: found '='"),
        ("a===b", "character 4: found '='"),
        ("!", "character 2: found the end"),
        ("!!a", "character 2: found '!'"),
        ("!a=b", "character 3: found '='"),
        ("!a in (b)", "character 4: found 'in'"),
        ("a!b", "character 2: found '!'"),
        ("a in", "character 5: found the end, expected '('"),
        ("a in b", "character 6: found 'b', expected '('"),
        ("a in (b", "character 8: found the end"),
        ("a in (b c)", "character 9: found 'c'"),
        ("a in (=)", "character 7: found '='"),
        ("a in (b))", "character 9: found ')'"),
        ("a IN (b)", "character 3: found 'IN'"),
        ("a=(b)", "character 3: found '('"),
        ("a=>1", "character 3: found '>'"),
        ("a>", "character 3: '' is no 64-bit integer"),
        ("a>b", "character 3: 'b' is no 64-bit integer"),
        ("a>1.5", "character 3: '1.5' is no 64-bit integer"),
        ("a>-1", "character 3: '-1' is no value of a label"),
        ("a<9223372036854775808", "character 3: '9223372036854775808' is no 64-bit integer"),
        ("-a", "character 1: '-a' is no key of a label"),
        ("a.", "character 1: 'a.' is no key"),
        ("x,  a/b/c", "character 5: 'a/b/c' is no key"),
        ("/a", "character 1: '/a' is no key"),
        ("a/", "character 1: 'a/' is no key"),
        ("A/b", "character 1: 'A/b' is no key"),
        ("a..b/c", "character 1: 'a..b/c' is no key"),
        ("ä=b", "character 1: 'ä' is no key"),
        ("a'b", 'character 1: "a\'b" is no key'),
        ("k" * 64, "is no key of a label"),
        (f"{'p' * 254}/k", "is no key of a label"),
        ("a=-b", "character 3: '-b' is no value of a label"),
        ("a=b/c", "character 3: 'b/c' is no value"),
        ('a="b"', "character 3: '\"b\"' is no value"),
        (f"a={'v' * 64}", "is no value of a label"),
        ("a in (b,c*)", "character 6: 'c*' is no value"),
        (",".join(["a"] * 65), "more than 64 requirements"),
        (f"a in ({','.join(['b'] * 1001)})", "more than 1000 values"),
        ("a" * (MAX_BYTES + 1), "16385 bytes, more than 16384"),
        ("a=\ud800", "character 3 of the selector is no text"),
    ],
)
def test_what_is_no_label_selector(text: str, place: str) -> None:
    """The refusal says what was found, at which character, and how it would be right."""
    with pytest.raises(SelectorError) as caught:
        parse_label_selector(text)
    assert place in str(caught.value)
    assert caught.value.next_step
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a=b", {"a": "B"}, False),
        ("a=b", {}, False),
        ("a=", {}, False),
        ("a=", {"a": ""}, True),
        ("a!=b", {}, True),
        ("a!=", {"a": ""}, False),
        ("a notin (b,c)", {}, True),
        ("a notin (b,c)", {"a": "c"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a=1,a=2", {"a": "1"}, False),
        ("a>1", {"a": "2"}, True),
        ("a>1", {"a": "1"}, False),
        ("a>9", {"a": "10"}, True),
        ("a<010", {"a": "09"}, True),
        ("a<0", {"a": "0"}, False),
        ("a>1", {}, False),
        ("a<1", {}, False),
        ("a<1", {"a": ""}, False),
        ("a>1", {"a": "2x"}, False),
        ("a>1", {"a": "9223372036854775807"}, True),
        ("a>1", {"a": "9223372036854775808"}, False),
        ("a>1", {"a": "9" * 63}, False),
    ],
)
def test_what_is_selected(text: str, labels: dict[str, str], selected: bool) -> None:
    """`!=` and `notin` select what lacks the key; numbers are compared as such, and other values never."""
    assert parse_label_selector(text).matches(labels) is selected


NAMES = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?", fullmatch=True)
KEYS = NAMES | st.sampled_from(["in", "notin", "app.kubernetes.io/name", "a.b/1"])
VALUES = NAMES | st.sampled_from(["", "in", "notin"])
NUMBERS = st.integers(0, 2**63 - 1).map(str)


@st.composite
def requirements(draw: st.DrawFn, keys: st.SearchStrategy[str] = KEYS) -> Requirement:
    operator = draw(st.sampled_from(Operator))
    values: set[str] = set()
    if operator in (IN, NOT_IN):
        values = draw(st.sets(VALUES, min_size=1, max_size=4))
    elif operator in (Operator.GREATER, Operator.LESS):
        values = {draw(NUMBERS | st.sampled_from(["007", "1"]))}
    return Requirement(draw(keys), operator, tuple(sorted(values)))


def label_selectors(keys: st.SearchStrategy[str] = KEYS) -> st.SearchStrategy[LabelSelector]:
    by_key = st.lists(requirements(keys), max_size=5).map(lambda some: sorted(some, key=lambda one: one.key))
    return by_key.map(lambda some: LabelSelector(tuple(some)))


@given(label_selectors())
def test_the_text_of_a_label_selector_means_the_same(selector: LabelSelector) -> None:
    """Every selector can be written down and read again."""
    assert parse_label_selector(str(selector)) == selector


@given(st.text(st.sampled_from("ab1./-_ =!<>(),in\t\0é"), max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else than SelectorError comes out, and what is read has one canonical text."""
    for parse in (parse_label_selector, parse_field_selector):
        try:
            selector = parse(text)  # type: ignore[operator]
        except SelectorError:
            continue
        if not any(set(",\\") & set(term.field) for term in getattr(selector, "terms", ())):
            assert parse(str(selector)) == selector  # type: ignore[operator]


FEW = st.sampled_from(["a", "b", "c"])


@given(label_selectors(FEW), st.dictionaries(FEW, VALUES | NUMBERS | st.just("2")))
def test_matching_agrees_with_sets(selector: LabelSelector, labels: dict[str, str]) -> None:
    """A requirement is a set of values or all but these; a label has to be in each."""

    def holds(requirement: Requirement) -> bool:
        found = {labels[requirement.key]} if requirement.key in labels else set()
        wanted = set(requirement.values)
        match requirement.operator:
            case Operator.IN:
                return bool(found & wanted)
            case Operator.NOT_IN:
                return not found & wanted
            case Operator.EXISTS:
                return bool(found)
            case Operator.NOT_EXISTS:
                return not found
        numbers = [int(value) for value in found if value and not set(value) - set(string.digits)]
        sign = 1 if requirement.operator is Operator.GREATER else -1
        return any(number < 2**63 and sign * number > sign * int(min(wanted)) for number in numbers)

    assert selector.matches(labels) == all(map(holds, selector.requirements))


@pytest.mark.parametrize(
    ("value", "number"), [("0", 0), ("00012", 12), ("", None), ("٣", None), ("1e3", None)]
)
def test_integers(value: str, number: int | None) -> None:
    """Decimal digits of ASCII, and nothing else."""
    assert integer(value) == number


def test_selectors_of_objects() -> None:
    """`matchLabels` and `matchExpressions` together, as their text would say it; empty is everything."""
    selector = {
        "matchLabels": {"tier": "web", "app": "shop"},
        "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["b", "a", "a"]},
            {"key": "canary", "operator": "NotIn", "values": [""]},
            {"key": "old", "operator": "DoesNotExist"},
            {"key": "new", "operator": "Exists", "values": []},
        ],
    }
    wanted = parse_label_selector("app=shop,tier=web,zone in (a,b),canary!=,!old,new")
    assert label_selector_of(selector) == wanted
    for nothing in ({}, {"matchLabels": None, "matchExpressions": []}):
        assert label_selector_of(nothing) == LabelSelector(())


@pytest.mark.parametrize(
    ("selector", "place"),
    [
        ({"matchLabels": {"a": "b c"}}, "matchLabels['a']: 'b c' is no value"),
        ({"matchLabels": {"a b": "c"}}, "matchLabels['a b']: 'a b' is no key"),
        ({"matchLabels": {"a": 1}}, "matchLabels['a']: '1' is no str"),
        ({"matchLabels": ["a"]}, "matchLabels: "),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}, "[0].operator: 'Gt'"),
        ({"matchExpressions": [{"key": "a"}]}, "matchExpressions[0].operator: ''"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "matchExpressions[0].values: In takes"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists", "values": [""]}]}, "takes none"),
        ({"matchExpressions": [{"key": "", "operator": "Exists"}]}, "matchExpressions[0].key: '' is no key"),
        ({"matchExpressions": ["a"]}, "matchExpressions[0]: 'a' is no dict"),
    ],
)
def test_what_is_no_selector_of_an_object(selector: dict[str, Any], place: str) -> None:
    """The refusal names the place in the object."""
    with pytest.raises(SelectorError) as caught:
        label_selector_of(selector)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (",,", []),
        ("a=b", [("a", True, "b")]),
        ("a==b", [("a", True, "b")]),
        ("a!=b", [("a", False, "b")]),
        ("a=", [("a", True, "")]),
        ("b=2,,a!=1,", [("a", False, "1"), ("b", True, "2")]),
        ("=", []),
        ("==b", [("", True, "b")]),
        (" a = b ", [(" a ", True, " b ")]),
        (r"a=b\,c", [("a", True, "b,c")]),
        (r"a=b\=c", [("a", True, "b=c")]),
        (r"a=b\\,c=d", [("a", True, "b\\"), ("c", True, "d")]),
        ("a=!b", [("a", True, "!b")]),
        ("a!b=c", [("a!b", True, "c")]),
        ("a=ü\n", [("a", True, "ü\n")]),
    ],
)
def test_what_a_field_selector_means(text: str, wanted: list[tuple[str, bool, str]]) -> None:
    """Terms sorted; a backslash takes the meaning from what follows; white space is a part of the text."""
    assert parse_field_selector(text) == FieldSelector(tuple(FieldTerm(*term) for term in wanted))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", "no operator in 'a' at character 1"),
        ("a=b,c>d", "no operator in 'c>d' at character 5"),
        ("a=b=c", "'=' without a backslash in the value of 'a' at character 4"),
        ("a===b", "in the value of 'a' at character 4"),
        ("x=,a!==b", "in the value of 'a' at character 7"),
        (r"a=b\c", "a backslash that takes no meaning away in the value of 'a' at character 4"),
        ("a=b\\", "in the value of 'a' at character 4"),
        ("a=\\\\\\", "in the value of 'a' at character 5"),
        (",".join(f"a={number}" for number in range(65)), "65 terms, more than 64"),
        (f"a={'b' * MAX_BYTES}", "more than 16384"),
        ("a=\udfff", "character 3 of the selector is no text"),
    ],
)
def test_what_is_no_field_selector(text: str, place: str) -> None:
    """The refusal says what is wrong, at which character, and how it would be right."""
    with pytest.raises(SelectorError) as caught:
        parse_field_selector(text)
    assert place in str(caught.value)
    assert caught.value.next_step


@given(
    st.sets(
        st.builds(
            FieldTerm,
            st.sampled_from(["metadata.name", "status.phase", "type"]),
            st.booleans(),
            st.text(st.sampled_from("ab\\,=!. \0é"), max_size=6),
        ),
        max_size=4,
    )
)
def test_the_text_of_a_field_selector_means_the_same(terms: set[FieldTerm]) -> None:
    """Every value can be written down, whatever is in it."""
    selector = parse_field_selector(",".join(map(str, terms)))
    assert set(selector.terms) == terms
    assert parse_field_selector(str(selector)) == selector


def test_the_usual_scheduler_costs_no_byte() -> None:
    """A pod that names it and one that names none are the same; another scheduler is kept."""
    pods = KINDS["pods"]
    bare, usual, own = (
        pods.encode(pods.decode(text))
        for text in (
            b'{"spec":{}}',
            b'{"spec":{"schedulerName":"default-scheduler"}}',
            b'{"spec":{"schedulerName":"own"}}',
        )
    )
    assert bare == usual
    assert b'"schedulerName":"own"' in own
