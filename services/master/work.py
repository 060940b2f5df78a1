"""What all handlers of the master have in common: how a batch meets the database."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from schemas.topology import Stream
from services.master import metrics
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime.bus.consumer import Retry
from services.runtime.tasks import to_its_end

Result = TypeVar("Result")


class DatabaseWork:
    """Runs handlers' database work, and knows whether the last of it succeeded."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {}
        """By stream, since one may go on where another cannot."""

    def forget(self) -> None:
        """Some work has ended for good: what still fails says so again."""
        self._failing.clear()

    def health(self) -> str | None:
        """A readiness check."""
        return next(iter(self._failing.values()), None)

    async def run(self, stream: Stream, work: Coroutine[Any, Any, Result]) -> Result:
        """Do it to its end, also when we are cancelled meanwhile: the transaction in hand is finished.

        Raises Retry when the database is away.
        """
        with metrics.COMMIT_SECONDS.labels(stream=stream.name).time():
            try:
                result = await to_its_end(work)
            except DatabaseUnavailable as error:
                self._failing[stream.name] = str(error)
                raise Retry(str(error)) from error
        self._failing.pop(stream.name, None)
        return result
