"""Times in messages."""

from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def of_the_calendar(value: datetime) -> datetime:
    """The same. Raises ValueError unless it is a time in UTC, with others on both sides."""
    try:
        year = value.astimezone(UTC).year
    except OverflowError:
        year = MAXYEAR
    if not MINYEAR < year < MAXYEAR:
        raise ValueError(f"{value.isoformat()} is no time that can be counted from in UTC")
    return value


Time = Annotated[AwareDatetime, AfterValidator(of_the_calendar)]
"""A time with its zone, kept as it was said: it exists in UTC, and so does what is hours before or after it.

Whoever stores, compares or adds to one need not expect an OverflowError.
"""
