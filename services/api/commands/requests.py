"""What is sent to ask for a command, and what it says: OpenAPI shows one shape for each action."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from schemas.actions import ACTIONS
from schemas.commands import Action
from schemas.ids import ID_PATTERN, AgentKind
from services.runtime.settings import parse_duration

MAX_START_WITHIN = 7 * 86400.0
"""Seconds that a command may wait for its beginning: the stream that carries it keeps it as long."""
MAX_TIMEOUT = 86400.0
"""Seconds that it may take from then on."""

_NAME = r"^[^/%\x00-\x20\x7f]+$"
_NAMESPACE = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"
_RESOURCE = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"
_DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["30s", "5m"]}),
]
Resource = Annotated[
    str | None,
    Field(
        pattern=_RESOURCE,
        max_length=253,
        description="As kubectl takes it: `deployments`, `deploy`, `Deployment`, `widgets.v1.example.com`.",
    ),
]
Namespace = Annotated[
    str | None,
    Field(
        pattern=_NAMESPACE,
        max_length=63,
        description="Its namespace; none for a cluster-scoped object.",
    ),
]
Name = Annotated[str | None, Field(pattern=_NAME, max_length=253, description="Its name.")]
Uid = Annotated[
    str | None,
    Field(
        pattern=r"^[!-~]*$",
        max_length=128,
        description="Its `metadata.uid`: an object of the same name that is another one is left alone.",
    ),
]


class Content(BaseModel):
    """Base of what is sent: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectWanted(Content):
    """The object that a command is about."""

    resource: Resource = None
    kind: Annotated[Resource, Field(description="The same as `resource`.")] = None
    namespace: Namespace = None
    name: Name = None
    uid: Uid = None


class AgentWanted(Content):
    """The agent that a command is for."""

    kind: AgentKind = AgentKind.KUBERNETES
    id: Annotated[str, Field(pattern=f"^{ID_PATTERN}$", description="For Kubernetes the cluster id.")]


class Wanted(Content):
    """What is to be done with which object, wherever."""

    action: Annotated[str, Field(max_length=64, description="What is to be done.")]
    object: Annotated[ObjectWanted | None, Field(description="The object it is about.")] = None
    resource: Annotated[Resource, Field(description="Short for `object.resource`.")] = None
    kind: Annotated[Resource, Field(description="The same as `resource`.")] = None
    namespace: Annotated[Namespace, Field(description="Short for `object.namespace`.")] = None
    name: Annotated[Name, Field(description="Short for `object.name`.")] = None
    uid: Annotated[Uid, Field(description="Short for `object.uid`.")] = None
    params: Annotated[dict[str, Any], Field(description="The action's parameters.")] = {}
    dry_run: Annotated[bool, Field(description="Let the API server check it, and change nothing.")] = False


class NewCommand(Wanted):
    """One command. Its agent is named by `target`, or by `cluster_id`."""

    target: Annotated[AgentWanted | None, Field(description="The agent it is for.")] = None
    cluster_id: Annotated[
        str | None,
        Field(pattern=f"^{ID_PATTERN}$", description="Short for a `target` of kind `kubernetes`."),
    ] = None
    start_by: Annotated[
        datetime | None,
        Field(description="It is not begun after this moment; by default 5 minutes from now."),
    ] = None
    start_within: Annotated[
        Duration | None, Field(gt=0, le=MAX_START_WITHIN, description="The same from now on; at most 7d.")
    ] = None
    finish_by: Annotated[
        datetime | None,
        Field(
            description="Its agent cuts it off then. Its end may be stored up to 10s later "
            "(MASTER_COMMAND_GRACE), as `unknown` where nobody can tell it."
        ),
    ] = None
    timeout: Annotated[
        Duration | None,
        Field(
            gt=0,
            le=MAX_TIMEOUT,
            description="The same from `start_by` on; at most 1d, by default 2m, or 10m for long actions.",
        ),
    ] = None


class CancelWanted(Content):
    """Why a command is to end."""

    reason: Annotated[str, Field(max_length=1024, description="For people.")] = ""


# --- for the documentation ---------------------------------------------------------------------------


def _shape(action: Action) -> type[BaseModel]:
    """NewCommand of one action."""
    required = any(field.is_required() for field in action.params.model_fields.values())
    default = ... if required else action.params.model_construct()
    params = Field(default, description="Its parameters.")
    fields: dict[str, Any] = {
        "action": (Literal[action.name], Field(description=action.description)),
        "params": (action.params, params),
    }
    name = "New" + "".join(word.capitalize() for word in action.name.split("_"))
    return create_model(name, __base__=NewCommand, __doc__=action.description, **fields)


SHAPES: tuple[type[BaseModel], ...] = tuple(
    _shape(action) for actions in ACTIONS.values() for action in actions.values()
)
"""What may be sent: one for each action."""
