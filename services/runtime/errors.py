"""Errors that are meant for the person who runs a command."""

from services.runtime.terminal import printable

EXIT_TEMPORARY = 75
"""`EX_TEMPFAIL` of sysexits.h: the same start may succeed later, whoever supervises us should try again."""


class UserError(Exception):
    """Something only a person can put right: one line that names the cause, and what to do next.

    The command line prints it as `error: …` and `  next: …` and ends with `exit_code`
    (1 failed, 2 usage, 3 not found, 4 denied, 5 partial, 124 timeout).
    """

    def __init__(self, message: str, next_step: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message

    def render(self) -> str:
        """The text for standard error, without a closing line break, and without secrets: a library's words
        may hold what it was given."""
        from services.runtime.logs import mask  # with structlog, for which only an error has to wait

        next_step = f"\n  next: {printable(mask(self.next_step))}" if self.next_step else ""
        return f"error: {printable(mask(self.message))}{next_step}"
