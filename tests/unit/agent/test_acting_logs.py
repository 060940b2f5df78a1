"""`get_logs` gives text: what is none is replaced, and it is said so."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.kubernetes.actions import LogParams
from services.agent.kubernetes.repository.access import ACTING
from services.agent.kubernetes.service.actions.actions import Allowance, KubernetesActions
from tests.unit.agent.test_acting_faults import Objects, command, told


class Logging(Objects):
    """An ObjectRepository with one log."""

    def __init__(self, log: bytes) -> None:
        super().__init__()
        self._log = log

    async def read_text(self, path: str, query: Any) -> bytes:
        return self._log


@pytest.mark.parametrize(
    ("log", "text", "replaced"),
    [
        (b"ready\n", "ready\n", False),
        ("bereit für \ufffd\n".encode(), "bereit für \ufffd\n", False),
        (b"\x89PNG\xff\n", "\ufffdPNG\ufffd\n", True),
        ("fü".encode()[:2], "f\ufffd", True),
    ],
)
async def test_bytes_that_are_no_text(log: bytes, text: str, replaced: bool) -> None:
    """A warning names the command that gives them as they are; the size is that of the bytes."""
    actions = KubernetesActions(Logging(log), Allowance(), ACTING)  # type: ignore[arg-type]
    about = command("get_logs", "pods", "shop", container="app", previous=True)
    outcome = await actions.perform(about, await actions.look(about), told)
    assert (outcome.data["log"], outcome.data["bytes"]) == (text, len(log))
    assert [warning.split("`")[1] for warning in outcome.warnings] == (
        ["atlhyper logs web -n shop -c app -p"] if replaced else []
    )


def test_a_container_has_a_name() -> None:
    """What is longer than any name is refused before an API server is asked, which would quote it whole."""
    assert LogParams(container="a" * 253).container
    with pytest.raises(ValidationError, match="container"):
        LogParams(container="a" * 254)
