"""What can be wrong with something that crossed the bus."""


class ContractError(ValueError):
    """A message, subject or identifier breaks the contract.

    Its text names the cause; consumers put it, as the reason, on the dead letter.
    """


class UnknownType(ContractError):
    """The envelope is sound but no event type of that name is registered."""
