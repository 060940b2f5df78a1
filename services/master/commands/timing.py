"""When commands are looked at again, from the settings."""

from dataclasses import dataclass
from datetime import timedelta

from services.master.settings import MasterSettings
from services.persistence.commands.pace import Pace

_SLOWER = 6.0
"""Times the first interval: so rarely a command is asked about in the end."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How often, and how long."""

    pace: Pace
    grace: timedelta
    """After `finish_by`, for results that are on their way."""

    @classmethod
    def of(cls, settings: MasterSettings) -> "Timing":
        """What the settings say."""
        first = settings.command_resend_interval
        return cls(Pace(first, first * _SLOWER), timedelta(seconds=settings.command_grace))
