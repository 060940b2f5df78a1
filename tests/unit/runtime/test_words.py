"""Numbers in what people read."""

import pytest

from services.runtime.words import are, counted


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 pods are"), (1, "1 pod is"), (2, "2 pods are"), (21, "21 pods are")]
)
def test_of_one_it_is_the_singular(number: int, told: str) -> None:
    """And of none and of several the plural."""
    assert f"{counted(number, 'pod')} {are(number)}" == told
