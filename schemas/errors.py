"""What can be wrong with something that crossed the bus."""

from pydantic import ValidationError


class ContractError(ValueError):
    """A message, subject or identifier breaks the contract.

    Its text names the cause; consumers put it, as the reason, on the dead letter.
    """


class UnknownType(ContractError):
    """The envelope is sound but no event type of that name is registered."""


def explained(error: ValidationError, *within: str) -> str:
    """Each mistake with its place, such as `params.replicas: …`, and without the value: it may be secret."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        (".".join(str(step) for step in (*within, *mistake["loc"])), mistake["msg"]) for mistake in mistakes
    ]
    return "; ".join(f"{place}: {message.removeprefix('Value error, ')}" for place, message in told)
