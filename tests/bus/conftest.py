"""What all tests of the bus have in common."""

import pytest


@pytest.fixture(autouse=True)
def _patient(patient_connections: None) -> None:
    """For those who connect once, and take a failure for the answer."""
