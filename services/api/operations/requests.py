"""What is sent to ask for an operation, and to pause or cancel one."""

from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from schemas.ids import ID_PATTERN
from services.api.commands.requests import MAX_TIMEOUT, Content, Duration, Wanted

MAX_TARGETS = 10_000

ClusterId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]


def _number_or_part(least: str) -> WrapValidator:
    """One message about the field, instead of one about each of the forms it may have."""

    def checked(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"is neither a number nor a part from {least} to 100%") from None

    return WrapValidator(checked)


class StrategyWanted(Content):
    """How fast it goes, and when it stops by itself."""

    max_unavailable: Annotated[
        int | Annotated[str, Field(pattern=r"^(100|[1-9][0-9]?)%$")],
        _number_or_part("1%"),
        Field(
            description="Commands under way at one time: a number, or a part of all agents such as `25%`, "
            "rounded up. The next one begins when one of them has ended."
        ),
    ] = 1
    max_failures: Annotated[
        int | Annotated[str, Field(pattern=r"^(100|[0-9]|[1-9][0-9])%$")],
        _number_or_part("0%"),
        Field(
            description="Commands that may end otherwise than `succeeded`: a number, or a part of all agents "
            "such as `10%`, rounded down. One more pauses the operation, which can then be resumed."
        ),
    ] = 0
    timeout: Annotated[
        Duration,
        Field(gt=0, le=MAX_TIMEOUT, description="Time that each command has, from acceptance to end."),
    ] = 600.0


class NewOperation(Wanted):
    """One intent for many clusters, named by `clusters`, by `label_selector`, or by both."""

    clusters: Annotated[
        list[ClusterId] | None,
        Field(
            min_length=1,
            max_length=MAX_TARGETS,
            description="The clusters, in the order in which they are taken.",
        ),
    ] = None
    label_selector: Annotated[
        str | None,
        Field(
            max_length=4096,
            description="Those clusters whose agents have such labels (AGENT_LABELS), by name; an empty one "
            "selects all. Beside `clusters`: those of them.",
        ),
    ] = None
    strategy: Annotated[StrategyWanted, Field(description="How fast, and when to stop.")] = StrategyWanted()


class DecisionWanted(Content):
    """Why it is paused or canceled."""

    reason: Annotated[str, Field(max_length=1024, description="For people.")] = ""
