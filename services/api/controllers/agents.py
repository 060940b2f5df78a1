"""Agents, and clusters as the short form of the Kubernetes ones."""

from litestar import Controller, get
from litestar.di import NamedDependency

from schemas.ids import AgentKind
from schemas.snapshot import ClusterSummary
from services.api import examples, parameters, problems
from services.api.examples import answer
from services.api.lookup import collection_status, find_agent
from services.api.models import Agent, AgentHealth, AgentList
from services.persistence import queries
from services.persistence.engine import Database
from services.persistence.queries import AgentStatus

_LIST = problems.responses() | answer(AgentList, "All of them, by kind and id", examples.AGENTS)


class AgentController(Controller):
    """Who is there, and how they are."""

    tags = ("agents",)

    @get("/clusters", summary="All clusters", responses=_LIST)
    async def list_clusters(self, database: NamedDependency[Database]) -> AgentList:
        """Every cluster whose agent was ever heard of, with what is not collected and why."""
        return await _list(database, AgentKind.KUBERNETES)

    @get("/agents", summary="All agents", responses=_LIST)
    async def list_agents(self, database: NamedDependency[Database]) -> AgentList:
        """Every agent that was ever heard of, of all kinds."""
        return await _list(database, None)

    @get(
        ["/clusters/{id:str}", "/agents/{kind:str}/{id:str}"],
        summary="One cluster or agent",
        responses=problems.responses(problems.UNKNOWN_AGENT)
        | answer(Agent, "The agent, or cluster", examples.AGENT),
    )
    async def get_agent(
        self,
        database: NamedDependency[Database],
        id: parameters.AgentId,
        kind: parameters.Kind = AgentKind.KUBERNETES,
    ) -> Agent:
        """One agent and what it serves. `/clusters/…` is the short form of `/agents/kubernetes/…`."""
        async with database.read() as session:
            status = await find_agent(session, parameters.target(kind, id))
            summaries = await queries.summaries(session, [status.target])
        return _agent(status, summaries[status.target])


async def _list(database: Database, kind: AgentKind | None) -> AgentList:
    async with database.read() as session:
        found = await queries.list_agents(session, kind)
        summaries = await queries.summaries(session, [status.target for status in found])
    moments = [status.as_of for status in found if status.as_of is not None]
    items = [_agent(status, summaries[status.target]) for status in found]
    return AgentList(items=items, as_of=min(moments, default=None))


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
        health=AgentHealth(**heartbeat.health.model_dump()) if heartbeat else AgentHealth(),
        in_sync=status.in_sync,
        resync_reason=status.resync_reason,
        resync_since=status.resync_since,
        collection=[collection_status(entry) for entry in status.collection],
        summary=summary,
    )
