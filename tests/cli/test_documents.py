"""Files for `atlhyper apply` that somebody wrote by mistake, or to do harm: refused in a line, and soon."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.acting import documents
from services.cli.cluster.control_plane import ControlPlane
from services.cli.main import cli

_HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
_MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)
_LADDER = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
_LONG = f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 100)}]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_BOMB, "1,000,000 values"),
        (_MERGES, "1,000,000 entries"),
        (_LADDER, "more than 200 levels"),
        (_LONG, "larger than 16 MiB"),
        ("data: &a {x: *a}\n", "more than 200 levels"),
        ("data: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("data: {a: !!binary aGVsbG8=}\n", ".data.a is of a kind that JSON does not know: bytes"),
        ("data: {a: !!timestamp 2026-11-22}\n", "JSON does not know: date"),
        ("data: {a: !!timestamp zz}\n", "not what it says"),
        ("data: !!set {a, b}\n", "JSON does not know: set"),
        ("data: !!omap [a: b]\n", ".data.0 is of a kind that JSON does not know: tuple"),
        ("data: {a: [1, 1e999]}\n", ".data.a.1 is no finite number: inf"),
        ("data: {a: !!float .nan}\n", "no finite number: nan"),
        ("data: {a: !!int abc}\n", "not what it says"),
        ("data: {a: !!int ''}\n", "not what it says"),
        ("data: {a: !!bool zz}\n", "not what it says"),
        (f"data: {{a: {'7' * 5000}}}\n", "not what it says"),
        (f"data: {{a: {'7' * 400}}}\n", ".data.a is a number that is too large"),
        (f"data: {{? 0x{'f' * 5000} : x}}\n", "a key in .data is no text"),
        ("data: {9223372036854775808: x}\n", "a key in .data is no text"),
        ("data: {1e39 : x}\n", "a key in .data is no text"),
        ("data: {!!float .nan : x}\n", "a key in .data is no text"),
        ("data: {~: x}\n", "a key in .data is no text"),
        ('data: {1: x, "1": y}\n', "the key '1' is there twice"),
        ("data: {1: x, 1.0: y}\n", "the key '1' is there twice"),
        ('data: {a: "\\ud800"}\n', ".data.a is no text in Unicode"),
        ('data: {a: "\\ude00\\ud83d"}\n', ".data.a is no text in Unicode"),
        ('data: {"\\ud800": a}\n', "a key in .data is no text in Unicode"),
        ("data: {a: x, b: y, a: z}\n", "the key 'a' is there twice"),
        ("kind: Secret\n", "the key 'kind' is there twice"),
        ("data: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
    ids=lambda value: " ".join(value[:40].split()),
)
def test_what_json_cannot_say(text: str, says: str, tmp_path: Path) -> None:
    """Aliases count as often as they repeat; nothing is asked of any API, and no trace is shown."""
    refused(_HEAD + text, says, tmp_path / "web.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"data": {"a" 1}}', "is neither JSON nor YAML: Expecting ':' delimiter: line 1 column 15"),
        ('{"data":\n\t{"a" 1}}', "is neither JSON nor YAML: Expecting ':' delimiter: line 2 column 7"),
        ('{"data": {"a": "\\ud83d"}}', ".data.a is no text in Unicode"),
        ('{"data": {"\\ud83d": "a"}}', "a key in .data is no text in Unicode"),
        ('{"data": {"a": NaN}}', ".data.a is no finite number: nan"),
        ('{"data": {"a": 1e400}}', ".data.a is no finite number: inf"),
        (f'{{"data": {"7" * 400}}}', ".data is a number that is too large"),
        (f'{{"data": {"7" * 5000}}}', "not what it says"),
        ('{"data": {"a": "x", "a": "y"}}', "the key 'a' is there twice"),
        (f'{{"data": {"[" * 100_000}{"]" * 100_000}}}', "nested too deeply"),
        (f'{{"data": {"[" * 300}{"]" * 300}}}', "more than 200 levels"),
        (f'{{"data": [{"0," * 1_000_000}0]}}', "1,000,000 values"),
    ],
    ids=lambda value: " ".join(value[:40].split()),
)
def test_what_a_file_of_json_may_not_hold(text: str, says: str, tmp_path: Path) -> None:
    """The same limits as in YAML, and a place in terms of JSON where it is neither."""
    refused(text, says, tmp_path / "web.json")


def refused(text: str, says: str, file: Path) -> None:
    """By a line of what is wrong and a line of what to do."""
    file.write_text(text)
    result = CliRunner().invoke(cli, ["apply", "-f", str(file)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    first, advice = result.stderr.splitlines()
    assert first.startswith(f"error: {file} ")
    assert says in first
    assert len(first) < 1000
    assert advice.startswith("  next: ")


def test_what_it_can_say() -> None:
    """Aliases and merges as people use them; numbers and truths as keys are texts, as kubectl has it."""
    text = """
        base: &base {image: web, ports: &ports [80, 443]}
        one: {<<: *base, image: api}
        two: {<<: [*base, {extra: 1}], again: *ports}
        data: {9000: "shop/web:80", true: yes, plain: -9223372036854775808, sign: =}
    """
    [read] = documents.load(text)
    assert json.loads(json.dumps(read)) == {
        "base": {"image": "web", "ports": [80, 443]},
        "one": {"image": "api", "ports": [80, 443]},
        "two": {"image": "web", "ports": [80, 443], "extra": 1, "again": [80, 443]},
        "data": {"9000": "shop/web:80", "true": True, "plain": -(2**63), "sign": "="},
    }
    assert documents.load("--- {}\n---\n--- [1]\n") == [{}, None, [1]]


def test_json() -> None:
    """As JSON has it, which YAML does not read: tabs, long keys, characters in two halves, several values."""
    long = "k" * 2000
    text = f'{{"a":\t"\\ud83d\\ude00", "b\\/c":\t[18446744073709551615, {-(2**63)}, 1.0], "{long}": null}}'
    read = {"a": "😀", "b/c": [float(2**64), -(2**63), 1.0], long: None}
    assert documents.load(f" \n{text}\n{text}\n") == [read, read]
    assert documents.load("{}") == [{}]


@pytest.mark.parametrize(
    "text",
    ['{a: "\\ud83d\\ude00"}', '{"a": "😀"}\n---\n{"a": "\\ud83d\\ude00"}', 'a: "\\U0001f600"'],
)
def test_what_looks_like_json_may_be_yaml(text: str) -> None:
    """And YAML takes a character in two halves too, so that it reads all that JSON can write."""
    assert all(document == {"a": "😀"} for document in documents.load(text))


_NUMBERS = """
whole: [0, -1, 0x10, 0o17, 010, 0b11, +7, 9223372036854775807, -9223372036854775808]
large: [9223372036854775808, 18446744073709551615, 18446744073709551616, -9223372036854775809, 1e30]
large: 100000000000000000000000000
broken: [1.5, -0.25, 1e3, .5, 3.0, 12e-7]
texts: [0x, 1e, 1.2.3, 2026-11-22, "1", .]
keys: {9000: a, 0x10: b, 1.5: c, 1e3: d, 1.0: e, true: f, Off: g, 1000000.0: h, 123456789.123: i}
small keys: {0.00001: a, 0.0001: b, -1.5: c, -0.0: d, 3.14159265358979: e, 123456.0: f, 1e38: g, 1e-45: h}
"""


def test_numbers_are_read_as_kubectl_reads_them(control_plane: ControlPlane) -> None:
    """Ints of 64 bits, larger ones as floats, and numbers and truths that are keys as texts."""
    for line in _NUMBERS.strip().splitlines():
        text = f"{_HEAD}{line}\n"
        arguments = ("create", "--validate=false", "--dry-run=client", "-o", "json", "-f", "-")
        # kubectl writes a float as `18446744073709552000`.
        read = json.loads(
            control_plane.kubectl(*arguments, stdin=text),
            parse_int=lambda digits: int(digits) if abs(int(digits)) <= 2**63 - 1 else float(digits),
        )
        read["metadata"].pop("namespace")
        assert documents.load(text) == [read]
