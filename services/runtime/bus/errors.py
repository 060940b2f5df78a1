"""What can go wrong between us and the broker."""


class BusError(Exception):
    """Base of all errors of the bus."""


class BusUnavailable(BusError):
    """No connection, or no answer in time. The broker may have taken the message all the same:
    safe to repeat with the same envelope id."""


class NoAnswer(BusUnavailable):
    """There is a connection, and no answer came over it in time."""


class PermissionDenied(BusError):
    """The broker refused it. `subject` is what `user` may not publish to or subscribe."""

    def __init__(self, user: str, verb: str, subject: str) -> None:
        super().__init__(f"the broker does not allow user {user!r} to {verb} {subject}")
        self.user = user
        self.subject = subject


class StreamMissing(BusError):
    """No stream takes this subject: `atlhyper bus apply` creates the streams."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"no stream takes {subject}; `atlhyper bus apply` creates the streams")
        self.subject = subject


class MessageTooLarge(BusError):
    """Headers and payload are over the broker's limit; nothing was sent."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"message for {subject} has {size} bytes with its headers, the broker takes {limit}")
        self.subject = subject
        self.size = size
        self.limit = limit


class ApiError(BusError):
    """JetStream answered with an error; `code` is its `err_code`, such as 10059 (no such stream)."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream: {description} ({code})")
        self.code = code
        self.description = description
