"""Everything that an agent can do in its cluster: the Actions of the Kubernetes capability."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import ValidationError

from schemas.actions import capability
from schemas.commands import Action, Command, ErrorCode, Nature
from schemas.errors import explained
from schemas.kubernetes.actions import ACTIONS
from services.agent.capability import Done, Outcome, Progress, Refused, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import ObjectRepository
from services.agent.kubernetes.sdk.interfaces import Access
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.agent.kubernetes.service.actions.applying import Apply
from services.agent.kubernetes.service.actions.base import Handler, Task
from services.agent.kubernetes.service.actions.deleting import Delete, DeletePod
from services.agent.kubernetes.service.actions.draining import Drain
from services.agent.kubernetes.service.actions.dynamic import Dynamic
from services.agent.kubernetes.service.actions.errors import Denied, Throttled, refused
from services.agent.kubernetes.service.actions.images import UpdateImage
from services.agent.kubernetes.service.actions.logs import GetLogs
from services.agent.kubernetes.service.actions.names import check_object
from services.agent.kubernetes.service.actions.nodes import Cordon, Uncordon
from services.agent.kubernetes.service.actions.restarting import Restart
from services.agent.kubernetes.service.actions.rollback import Rollback
from services.agent.kubernetes.service.actions.scaling import Scale
from services.runtime.backoff import Backoff

SETTLED = 1.0
"""Seconds after which a write that was denied has had the effect that it may have had all the same."""

Rights = Mapping[str, Sequence[Sequence[Access]]]
"""What each action takes of the API server: all rights of one of several ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the settings let people do."""

    read_only: bool = True
    dynamic: AllowList = field(default_factory=AllowList)
    """What `dynamic` may ask the API server for."""


class KubernetesActions:
    """Actions of one cluster: each by its handler."""

    def __init__(self, objects: ObjectRepository, allowance: Allowance, rights: Rights) -> None:
        self._objects = objects
        self._rights = rights
        self._allowance = allowance
        handlers: Sequence[Handler[Any, Any]] = (
            Scale(objects),
            Restart(objects),
            DeletePod(objects),
            Delete(objects),
            GetLogs(objects),
            Dynamic(objects, allowance.dynamic),
            Apply(objects),
            Cordon(objects),
            Uncordon(objects),
            Drain(objects),
            UpdateImage(objects),
            Rollback(objects),
        )
        self._handlers = {handler.name: handler for handler in handlers}

    def declared(self) -> Mapping[str, Action]:
        return ACTIONS

    async def announce(self) -> Sequence[str]:
        """`act:…` for each action that the settings and the agent's role allow on something.

        Raises KubernetesError.
        """
        names = [name for name, action in ACTIONS.items() if self._is_let(action)]
        needed = {access for name in names for way in self._rights[name] for access in way}
        answers = await asyncio.gather(*(self._objects.allowed(access) for access in needed))
        lacking = {access for access, allowed in zip(needed, answers, strict=True) if not allowed}
        return [
            capability(name) for name in names if any(lacking.isdisjoint(way) for way in self._rights[name])
        ]

    def _is_let(self, action: Action) -> bool:
        """Whether the settings let people do it with some parameters."""
        if action.name == Dynamic.name and not self._allowance.dynamic.rules:
            return False
        natures = (action.nature, *action.by_verb.values())
        return Nature.READ in natures or not self._allowance.read_only

    async def check(self, command: Command) -> None:
        if command.action not in self._handlers:
            raise refused(ErrorCode.UNKNOWN_ACTION, f"this agent has no action {command.action!r}")
        action = ACTIONS[command.action]
        check_object(action, command.object)
        task = self._task(command)
        if refusal := action.refusal(command.params):
            raise refused(ErrorCode.NOT_ALLOWED, refusal)
        self._handler(command).check(task)

    async def look(self, command: Command) -> bytes:
        return msgspec.json.encode(await self._handler(command).look(self._task(command)))

    async def perform(self, command: Command, seen: bytes, progress: Progress) -> Outcome:
        try:
            task = self._task(command, progress)
            return await self._handler(command).perform(task, self._seen(command, seen))
        except Denied as denied:
            if command.dry_run:
                raise Refused(denied.error) from denied
            match await self._judge_denied(command, seen, denied):
                case Done(outcome):
                    return outcome
                case Untouched():
                    raise Refused(denied.error) from denied
            raise

    async def _judge_denied(self, command: Command, seen: bytes, denied: Denied) -> Verdict:
        """What became of it. Raises `denied` itself where that can't be asked now, which does not mean that
        nothing was done. Who throttles writes may do so to looks as well: they are asked for again, until
        the caller's time is over.
        """
        await asyncio.sleep(SETTLED)
        backoff = Backoff(base=SETTLED, cap=5.0)
        while True:
            try:
                return await self.judge(command, seen)
            except Refused:
                if not isinstance(denied, Throttled):
                    raise denied from None
            await backoff.sleep()

    async def judge(self, command: Command, seen: bytes) -> Verdict:
        if command.dry_run:
            return Untouched()
        return await self._handler(command).judge(self._task(command), self._seen(command, seen))

    def _handler(self, command: Command) -> Handler[Any, Any]:
        return self._handlers[command.action]

    def _task(self, command: Command, progress: Progress | None = None) -> Task[Any]:
        """Raises Refused when the parameters are not those of the action."""
        try:
            params = ACTIONS[command.action].params.model_validate(command.params)
            return Task(command, params, progress)
        except ValidationError as error:
            # From None: the text of the error itself quotes what was given.
            raise refused(ErrorCode.INVALID, explained(error, "params")) from None

    def _seen(self, command: Command, seen: bytes) -> Any:
        return msgspec.json.decode(seen, type=self._handler(command).seen)
