"""`get_logs`: a piece of a container's log, as it is now."""

from msgspec import Struct

from schemas.kubernetes.actions import LogParams
from services.agent.capability import Outcome, Refused, Untouched, Verdict
from services.agent.kubernetes.service.actions.base import Handler, Task, annotations_of
from services.agent.kubernetes.service.actions.errors import asking

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""The annotation by which a pod says which of its containers people mean."""


class Nothing(Struct, frozen=True):
    """It rests on nothing: reading twice is as good as once."""


class GetLogs(Handler[LogParams, Nothing]):
    """What containers print goes out as it is, as with `kubectl logs`: nobody knows its shape."""

    name = "get_logs"
    seen = Nothing

    async def look(self, task: Task[LogParams]) -> Nothing:  # noqa: ARG002 (it looks at nothing)
        return Nothing()

    async def perform(self, task: Task[LogParams], seen: Nothing) -> Outcome:  # noqa: ARG002
        params = task.params
        container, warnings = await self._container(task)
        query = {
            "container": container,
            "tailLines": params.tail_lines,
            "sinceSeconds": params.since_seconds,
            "sinceTime": params.since_time,
            "limitBytes": params.limit_bytes,
            "previous": "true" if params.previous else None,
            "timestamps": "true" if params.timestamps else None,
        }
        asked = {name: str(value) for name, value in query.items() if value not in (None, "")}
        path = await self.path(task, "log")
        with asking():
            log = await self.objects.read_text(path, asked)
        try:
            text = log.decode()
        except UnicodeDecodeError:
            text = log.decode(errors="replace")
            warnings += (_replaced(task, container),)
        data = {
            "container": container,
            "log": text,
            "bytes": len(log),
            "truncated": len(log) >= params.limit_bytes,
        }
        return Outcome(data, warnings)

    async def judge(self, task: Task[LogParams], seen: Nothing) -> Verdict:  # noqa: ARG002
        return Untouched()

    async def _container(self, task: Task[LogParams]) -> tuple[str, tuple[str, ...]]:
        """The container that kubectl would take; none named where the pod may not be read."""
        if task.params.container:
            return task.params.container, ()
        try:
            pod = await self.read(task)
        except Refused as error:
            if error.error.status == 403:
                return "", ()  # the API server takes the only one, or names those there are
            raise
        names = [container["name"] for container in pod["spec"]["containers"]]
        chosen = annotations_of(pod).get(DEFAULT_CONTAINER, names[0])
        told = (f'Defaulted container "{chosen}" out of: {", ".join(names)}',) if len(names) > 1 else ()
        return chosen, told


def _replaced(task: Task[LogParams], container: str) -> str:
    """A result is JSON, which holds text only; the logs of the REST API are the bytes themselves."""
    which = f" -c {container}" * bool(container) + " -p" * task.params.previous
    exact = f"`atlhyper logs {task.name} -n {task.namespace}{which}`"
    return f"bytes that are no UTF-8 stand as U+FFFD; {exact} gives the exact stream"
