"""Files for `atlhyper apply` that somebody wrote by mistake, or to do harm: refused in a line, and soon."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.acting import documents
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
        ("data: {a: 9223372036854775808}\n", ".data.a is a number of more than 64 bits"),
        (f"data: {{? 0x{'f' * 5000} : x}}\n", "a key in .data is no text"),
        ("data: {1.5: x}\n", "a key in .data is no text"),
        ("data: {~: x}\n", "a key in .data is no text"),
        ('data: {1: x, "1": y}\n', ".data has the key '1' twice"),
        ('data: {a: "\\ud800"}\n', ".data.a is no text in Unicode"),
        ('data: {"\\ud800": a}\n', "a key in .data is no text in Unicode"),
        ("data: {a: x, b: y, a: z}\n", "the key 'a' is there twice"),
        ("kind: Secret\n", "the key 'kind' is there twice"),
        ("data: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
    ids=lambda value: " ".join(value[:40].split()),
)
def test_what_json_cannot_say(text: str, says: str, tmp_path: Path) -> None:
    """Aliases count as often as they repeat; nothing is asked of any API, and no trace is shown."""
    file = tmp_path / "web.yaml"
    file.write_text(_HEAD + text)
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
