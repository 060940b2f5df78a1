"""Whether a command may be begun: all that can be said without asking what is served."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from schemas.commands import Action, Command, CommandError, CommandState, ErrorCode, Nature
from schemas.errors import explained
from schemas.ids import Target
from services.agent.capability import Actions, Refused
from services.agent.gateway.interfaces import Order
from services.agent.scheduler.commands.results import Refusal, fault
from services.agent.store.journal import Journal
from services.runtime import logs

_log = logs.get_logger(__name__)


class Checks:
    """What one agent takes. `now`: the core's time, as far as it is known here."""

    def __init__(
        self,
        target: Target,
        instance: str,
        actions: Actions,
        journal: Journal,
        *,
        read_only: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._target = target
        self._instance = instance
        self._actions = actions
        self._journal = journal
        self._read_only = read_only
        self._now = now

    async def refusal(self, order: Order) -> Refusal | None:
        """Why a command that is not in the journal is not begun; None: it may be."""
        try:
            return (
                self._lost(order)
                or self._late(order)
                or _wrong_subject(order)
                or await self.of_command(order.command)
            )
        except Exception as error:  # noqa: BLE001 - it would come again and again, and hold up all others
            _log.exception("a command can't be checked", command=order.command.id)
            return _rejected(ErrorCode.INTERNAL, fault(error))

    async def of_command(self, command: Command) -> Refusal | None:
        """The part that does not depend on how and when it came."""
        return self._wrong_target(command) or self._wrong_action(command) or await self._forbidden(command)

    def _lost(self, order: Order) -> Refusal | None:
        """Another journal of this agent may have begun it."""
        meant = order.extensions.get("journal", "")
        if not meant:
            return _rejected(
                ErrorCode.INVALID,
                "its message does not say which journal it is for (extension `journal`), so nobody can tell "
                "whether it was begun before",
            )
        if meant == self._journal.id:
            return None
        error = CommandError(
            code=ErrorCode.JOURNAL_LOST,
            message=f"it was first sent to the journal {meant}, which this agent no longer has",
        )
        return Refusal(CommandState.UNKNOWN, error)

    def late_by_own_clock_only(self, order: Order) -> bool:
        """Whether it is late only by a clock that the core's messages have not confirmed yet."""
        return not order.timed and order.stored_at <= order.command.start_by < self._now()

    def _late(self, order: Order) -> Refusal | None:
        start_by, now = order.command.start_by, self._now()
        if max(order.stored_at, now) <= start_by and not self._journal.may_have_forgotten(start_by):
            return None
        return Refusal(
            CommandState.EXPIRED,
            CommandError(
                code=ErrorCode.LATE,
                message=f"it was to begin by {_text(start_by)}; the broker took it at "
                f"{_text(order.stored_at)}, and it came at {_text(now)}, which is {_text(datetime.now(UTC))} "
                "by the agent's own clock",
            ),
        )

    def _wrong_target(self, command: Command) -> Refusal | None:
        if (command.target.kind, command.target.id) != (self._target.kind, self._target.id):
            text = f"it is for {command.target.kind}/{command.target.id}, and this is {self._target}"
            return _rejected(ErrorCode.WRONG_TARGET, text)
        if command.instance and self._instance and command.instance != self._instance:
            text = f"it is for the instance {command.instance}, and this is {self._instance}"
            return _rejected(ErrorCode.WRONG_TARGET, text)
        return None

    def _wrong_action(self, command: Command) -> Refusal | None:
        action = self._actions.declared().get(command.action)
        if action is None:
            text = (
                f"this agent has no action {command.action!r}; it has {', '.join(self._actions.declared())}"
            )
            return _rejected(ErrorCode.UNKNOWN_ACTION, text)
        if problem := _wrong_params(command, action) or _wrong_object(command, action):
            return _rejected(ErrorCode.INVALID, problem)
        if command.dry_run and not action.dry_run:
            return _rejected(ErrorCode.INVALID, f"{action.name} can't be tried without an effect")
        if self._read_only and not command.dry_run and action.nature_of(command.params) is not Nature.READ:
            text = f"the agent is read-only, so it does not {action.name}; AGENT_READ_ONLY=false allows it"
            return _rejected(ErrorCode.NOT_ALLOWED, text)
        return None

    async def _forbidden(self, command: Command) -> Refusal | None:
        try:
            await self._actions.check(command)
        except Refused as refused:
            return Refusal(CommandState.REJECTED, refused.error)
        return None


def _wrong_subject(order: Order) -> Refusal | None:
    if order.subject_action == order.command.action:
        return None
    text = f"it came as {order.subject_action!r}, and is a {order.command.action!r}"
    return _rejected(ErrorCode.INVALID, text)


def _wrong_params(command: Command, action: Action) -> str:
    try:
        action.params.model_validate(command.params)
    except ValidationError as error:
        return explained(error, "params")
    return ""


def _wrong_object(command: Command, action: Action) -> str:
    about = command.object
    if action.needs_object and not (about.resource and about.name):
        return f"{action.name} needs an object: its resource and its name"
    if about.resource and action.resources and about.resource not in action.resources:
        return f"{action.name} works on {', '.join(action.resources)}, not on {about.resource}"
    return ""


def _rejected(code: ErrorCode, message: str) -> Refusal:
    return Refusal(CommandState.REJECTED, CommandError(code=code, message=message))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
