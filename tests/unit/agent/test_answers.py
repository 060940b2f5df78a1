"""What an API server says beside what it was asked for: its words reach people, and no secret with them."""

import time

import pytest

from services.agent.kubernetes.sdk.answers import MAX_SAID, MAX_WORDS, warnings_of, words

CANARY = "canary-2c41"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            f'spec: Forbidden: pod updates may not change fields\n@@ -1,7 +1,7 @@\n- "Value": "{CANARY}",\n',
            "may not change fields",
        ),
        (
            f'spec: Invalid value: core.PodSpec{{Env: []core.EnvVar{{Name: "A", Value: "{CANARY}"}}}}',
            "spec: Invalid value",
        ),
        (
            f'x: Invalid value: {{"env":[{{"name":"P","value":"{CANARY}"}}],"size":3}}: field is immutable',
            '"size": 3',
        ),
        (f'x: Invalid value: {{"env":[{{"name":"P","value":"{CANARY}', "x: Invalid value"),
        (f'spec.password: Invalid value: "{CANARY}": is too short', "is too short"),
        (f"spec.apiToken: Invalid value: {CANARY}: is too short", "is too short"),
        (
            f'spec.template.spec.containers[0].env[1].value: Invalid value: "{CANARY}": is none',
            "env[1].value",
        ),
        (f"admission webhook denied it: postgres://user:{CANARY}@db/shop is not allowed", "is not allowed"),
    ],
)
def test_what_is_quoted_is_left_out(said: str, kept: str) -> None:
    """However it is quoted: as a difference, as Go or JSON has it, whole or cut short, by a field's name."""
    told = words(said)
    assert CANARY not in told
    assert kept in told


@pytest.mark.parametrize(
    "said",
    [
        'deployments.apps "web" not found',
        'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas',
        'pods "a" is forbidden: User "system:serviceaccount:x:y" cannot delete resource "pods"',
        "The disruption budget at-least-two needs 2 healthy pods and has 2 currently",
        'spec.replicas: Invalid value: -3: must be positive, spec.name: Invalid value: "a_b"',
    ],
)
def test_the_rest_stays_word_for_word(said: str) -> None:
    """What a person needs to know is not redacted."""
    assert words(said) == said


def test_one_line_of_bounded_length() -> None:
    """A text of many lines is one, and a huge one is cut."""
    assert words("a\n  b\tc") == "a b c"
    assert len(words("word " * 10_000)) == MAX_WORDS


def test_warnings() -> None:
    """Each `Warning: 299` once, its quotes undone; other codes are not the API server's."""
    header = r'299 - "unknown field \"spec.replica\"", 299 - "second"'
    assert warnings_of([header, '299 - "second"', '199 - "other"']) == (
        'unknown field "spec.replica"',
        "second",
    )


MANY = 1024 * 1024


@pytest.mark.parametrize(
    "said",
    [
        "a" * MANY,
        " " * MANY + "x",
        "-" * MANY,
        "a" * MANY + ": ",
        "a.A" * (MANY // 3),
        "-\t" * (MANY // 2),
        '"' * MANY,
        'a"' * (MANY // 2),
        'x: Invalid value: "' * (MANY // 19),
        'x: Invalid value: "' + "\\" * MANY,
        '{"' * (MANY // 2),
        "[" * MANY,
        "password=" * (MANY // 9),
    ],
    ids=lambda said: said[:19],
)
def test_the_time_for_a_text_grows_with_its_length(said: str) -> None:
    """Whoever is quoted may choose how long and of what it is; the agent does nothing else meanwhile."""
    began = time.process_time()
    told = words(said)
    assert time.process_time() - began < 5
    assert len(told) <= MAX_WORDS
    assert told.endswith(f" … ({len(said)} characters)")
    began = time.process_time()
    words(said[:MAX_SAID])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("quote", ['5" of ', ""])
@pytest.mark.parametrize("length", [0, 1, 40, 3000])
def test_no_half_of_a_secret_is_told(quote: str, length: int) -> None:
    """A value that ends behind what is looked at is no secret in part."""
    value = f'spec.password: Invalid value: "two {CANARY} '
    # Much of it shrinks, so that the end of what is looked at is told.
    environment = f'{{"password":"{"x" * (MAX_SAID - len(quote) - len(value) - length - 15)}"}} '
    told = words(f'{quote}{environment}{value}{CANARY * MAX_SAID}": is too long')
    assert "spec.password" in told
    assert CANARY not in told
    assert "characters)" in told
