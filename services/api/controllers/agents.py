"""Agents, and clusters as the short form of the Kubernetes ones."""

from litestar import Controller, get
from litestar.di import NamedDependency
from msgspec import structs

from schemas.ids import AgentKind
from schemas.snapshot import ClusterSummary
from services.api import examples, parameters
from services.api.examples import answer
from services.api.http import problems
from services.api.lookup import collection_status, find_agent
from services.api.models import Agent, AgentHealth, AgentList, Clock, OneAgent, Rival
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.presence.clockwatch import ClockWatch
from services.persistence.queries import AgentStatus, ClockReading

_LIST = problems.responses() | answer(AgentList, "A page of them, by kind and id", examples.AGENTS)


class AgentController(Controller):
    """Who is there, and how they are."""

    tags = ("agents",)

    @get("/clusters", summary="All clusters", responses=_LIST)
    async def list_clusters(
        self,
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> AgentList:
        """Every cluster whose agent was ever heard of, with what is not collected and why."""
        return await _list(database, clock, AgentKind.KUBERNETES, limit, continue_)

    @get("/agents", summary="All agents", responses=_LIST)
    async def list_agents(
        self,
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> AgentList:
        """Every agent that was ever heard of, of all kinds."""
        return await _list(database, clock, None, limit, continue_)

    @get(
        ["/clusters/{id:str}", "/agents/{kind:str}/{id:str}"],
        summary="One cluster or agent",
        responses=problems.responses(problems.UNKNOWN_AGENT)
        | answer(OneAgent, "The agent, or cluster", examples.ONE_AGENT),
    )
    async def get_agent(
        self,
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        id: parameters.AgentId,
        kind: parameters.Kind = AgentKind.KUBERNETES,
    ) -> OneAgent:
        """One agent and what it serves. `/clusters/…` is the short form of `/agents/kubernetes/…`."""
        async with database.read() as connection:
            status = await find_agent(connection, parameters.target(kind, id))
            summaries = await queries.summaries(connection, [status.target])
            announced = await queries.announced(connection, [status])
            reading = await queries.clock(connection)
        agent = _agent(status, summaries[status.target])
        return OneAgent(
            **structs.asdict(agent), actions=announced.get(status.target), clock=_clock(reading, clock)
        )


async def _list(
    database: Database, clock: ClockWatch | None, kind: AgentKind | None, limit: int, continue_: str | None
) -> AgentList:
    async with database.read() as connection:
        page = await queries.list_agents(connection, kind, limit=limit, continue_=continue_ or "")
        summaries = await queries.summaries(connection, [status.target for status in page.items])
        reading = await queries.clock(connection)
    moments = [status.as_of for status in page.items if status.as_of is not None]
    return AgentList(
        items=[_agent(status, summaries[status.target]) for status in page.items],
        clock=_clock(reading, clock),
        continue_=page.continue_ or None,
        remaining=page.remaining,
        as_of=min(moments, default=None),
    )


def _clock(reading: ClockReading | None, watch: ClockWatch | None) -> Clock:
    return Clock(
        as_of=reading.latest if reading else None,
        continuous_since=reading.continuous_since if reading else None,
        stands=(watch.stands() if watch else None) or "",
    )


def _rival(status: AgentStatus) -> Rival | None:
    if (rival := status.rival) is None:
        return None
    said = rival.heartbeat
    return Rival(seen=rival.seen, version=said.version, instance=said.instance, reason=rival.reason)


def _agent(status: AgentStatus, summary: ClusterSummary) -> Agent:
    heartbeat = status.heartbeat
    return Agent(
        kind=status.target.kind,
        id=status.target.id,
        state=status.state,
        version=status.version,
        as_of=status.as_of,
        last_seen=status.last_seen,
        agent_version=heartbeat.version if heartbeat else "",
        platform=heartbeat.platform if heartbeat else "",
        instance=status.instance,
        epoch=status.epoch,
        # Until an agent says that it takes commands, it does not.
        read_only=heartbeat.read_only if heartbeat else True,
        capabilities=heartbeat.capabilities if heartbeat else [],
        labels=heartbeat.labels if heartbeat else {},
        health=AgentHealth(**structs.asdict(heartbeat.health)) if heartbeat else AgentHealth(),
        in_sync=status.in_sync,
        resync_reason=status.resync_reason,
        resync_since=status.resync_since,
        rival=_rival(status),
        collection=[collection_status(entry) for entry in status.collection],
        summary=summary,
    )
