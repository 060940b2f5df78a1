"""What somebody could not read, and why."""

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from services.api import examples, parameters
from services.api.examples import answer
from services.api.http import problems
from services.api.models import DeadLetter, DeadLetterList, WholeDeadLetter, as_stored
from services.persistence import queries
from services.persistence.database.engine import Database

_ID = PathParameter(
    description="Its id.",
    max_length=parameters.MAX_TEXT,
    examples=[Example(value=examples.DEAD_LETTER["id"])],
)


class DeadLetterController(Controller):
    """Messages that broke the contract, or that no attempt could apply."""

    path = "/dead-letters"
    tags = ("dead letters",)

    @get(
        summary="Messages that could not be read",
        responses=problems.responses() | answer(DeadLetterList, "A page of them", examples.DEAD_LETTERS),
    )
    async def list_dead_letters(
        self,
        database: NamedDependency[Database],
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> DeadLetterList:
        """A page of dead letters without their payloads, the newest first."""
        async with database.read() as connection:
            page = await queries.list_dead_letters(connection, limit=limit, continue_=continue_ or "")
        return DeadLetterList(
            items=[as_stored(item, DeadLetter) for item in page.items],
            continue_=page.continue_ or None,
            remaining=page.remaining,
            as_of=page.as_of,
        )

    @get(
        "/{id:str}",
        summary="One message that could not be read",
        responses=problems.responses(problems.UNKNOWN_OBJECT)
        | answer(WholeDeadLetter, "The dead letter", examples.DEAD_LETTER),
    )
    async def get_dead_letter(
        self,
        database: NamedDependency[Database],
        id: Annotated[str, _ID],
    ) -> WholeDeadLetter:
        """One dead letter, with the payload in Base64 as `body`."""
        async with database.read() as connection:
            row = await queries.get_dead_letter(connection, id)
        if row is None:
            raise problems.ProblemError(
                problems.UNKNOWN_OBJECT,
                f"no dead letter {id!r} is stored",
                "see what there is: /api/v1/dead-letters",
            )
        return as_stored(row, WholeDeadLetter)
