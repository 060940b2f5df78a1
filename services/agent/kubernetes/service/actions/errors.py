"""What the API server says, as the end of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.commands import CommandError, ErrorCode
from schemas.kubernetes.redaction import redact_text
from services.agent.capability import Doubtful, Refused, Stale
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Answer,
    KubernetesError,
    TooLarge,
    Unanswered,
    Unauthorized,
    Unreachable,
)

_BY_STATUS = {
    401: ErrorCode.FORBIDDEN,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.TOO_LARGE,
    429: ErrorCode.THROTTLED,
}


class Denied(Doubtful):
    """The answer says that it was not done, which is so in nearly every case: a look at the object tells."""


class FaultInside(Denied):
    """500 and above, in the words of the API server itself."""


class Throttled(Denied):
    """429, whoever says it: priority and fairness does so as plain text, and something on the way may say it
    after the effect. Not the one of a disruption budget: that is the eviction's own answer.
    """


def refused(code: ErrorCode, message: str) -> Refused:
    """A refusal of ours."""
    return Refused(CommandError(code=code, message=redact_text(message)))


def error_of(error: KubernetesError) -> CommandError:
    """The same as a command tells it, in the API server's own words where it has spoken."""
    answer = error.answer
    if answer is None:
        return CommandError(code=_unanswered(error), message=redact_text(error.reason))
    code = _BY_STATUS.get(answer.status)
    if code is None:
        code = ErrorCode.SERVER if _inside(answer) else ErrorCode.INVALID
    return CommandError(code=code, message=_message(answer), status=answer.status, reason=answer.reason)


def _unanswered(error: KubernetesError) -> ErrorCode:
    match error:
        case Unanswered():
            return ErrorCode.TIMEOUT
        case Unreachable():
            return ErrorCode.UNREACHABLE
        case Unauthorized():
            return ErrorCode.FORBIDDEN
        case Absent():
            return ErrorCode.NOT_FOUND
        case TooLarge():
            return ErrorCode.TOO_LARGE
    return ErrorCode.SERVER


_UNTYPED = "failed to create typed patch object"
"""How the API server says, with status 500, that what is to be applied is not of its kind."""


def _inside(answer: Answer) -> bool:
    """Whether it is a fault of the server's, after which it is open whether something was done."""
    return answer.status >= 500 and not answer.message.startswith(_UNTYPED)


def _message(answer: Answer) -> str:
    """Its message, with those causes that it does not name: which budget allows no eviction, for one."""
    causes = (cause.message for cause in answer.causes if cause.message)
    further = [cause for cause in dict.fromkeys(causes) if cause not in answer.message]
    return " ".join((answer.message, *further)).strip()


def is_precondition(error: KubernetesError) -> bool:
    """Whether the object is not, or no longer, as we have said that it must be."""
    answer = error.answer
    return (
        answer is not None
        and (answer.status, answer.reason) == (409, "Conflict")
        and not any(cause.reason == "FieldManagerConflict" for cause in answer.causes)
    )


def _is_over_budget(answer: Answer) -> bool:
    """Whether a disruption budget allows no eviction now."""
    return any(cause.reason == "DisruptionBudget" for cause in answer.causes)


@contextmanager
def asking() -> Iterator[None]:
    """Around reading: whatever fails, nothing was done."""
    try:
        yield
    except KubernetesError as error:
        raise Refused(error_of(error)) from error


@contextmanager
def writing(*, precondition: bool) -> Iterator[None]:
    """Around a write. `precondition`: whether it names the version, or the uid, that was seen.

    Raises Stale, Throttled, FaultInside, Doubtful, and Refused for what certainly was not done.
    """
    try:
        yield
    except Unanswered as error:
        raise Doubtful(error_of(error)) from error
    except KubernetesError as error:
        if precondition and is_precondition(error):
            raise Stale(error_of(error)) from error
        answer = error.answer
        if answer and answer.status == 429 and not _is_over_budget(answer):
            raise Throttled(error_of(error)) from error
        if answer and _inside(answer):
            raise (FaultInside if answer.spoken else Doubtful)(error_of(error)) from error
        raise Refused(error_of(error)) from error
