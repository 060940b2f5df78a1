"""What is related to one object: a graph, in both directions, as of one moment.

    found = await moment(connection, target)  # how far it can be trusted
    graph = await related(connection, target, "deployments", "shop", "web", generic=[], depth=8, limit=250)

- `schemas.kubernetes.links` knows what an object declares, and which way each relation points.
- `walk` knows which relations are followed from where.
- `lookups` asks: one statement per step, however many objects there are; `statements` has their parts.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import AgentKind, Target
from schemas.kubernetes import KINDS
from services.persistence.queries.related.graph import Catalogue, Edge, Graph, Node, entry_of, object_id
from services.persistence.queries.related.lookups import Lookups
from services.persistence.queries.related.moment import Moment, moment
from services.persistence.queries.related.walk import Walk, node_of

__all__ = ["Edge", "Graph", "Moment", "Node", "moment", "object_id", "related"]


async def related(
    connection: AsyncConnection,
    target: Target,
    resource: str,
    namespace: str,
    name: str,
    *,
    generic: Sequence[str],
    depth: int,
    limit: int,
) -> Graph | None:
    """The graph around one object; None where it is not stored. An Event's name is its uid.

    `generic` are the agent's resources beyond KINDS. The graph ends `depth` steps from the root, and each
    relation adds at most `limit` objects.
    """
    lookups = Lookups(connection, target)
    root = await lookups.one(resource, namespace, name)
    if root is None:
        return None
    catalogue = Catalogue()
    if target.kind is AgentKind.KUBERNETES:
        catalogue.add(map(entry_of, KINDS.values()))
    catalogue.add(await lookups.generic(generic))
    walk = Walk(lookups, catalogue, limit)
    await walk.run(node_of(root), depth)
    nodes = list(walk.nodes.values())
    return Graph(
        root=nodes[0].id,
        nodes=nodes,
        edges=sorted(walk.edges),
        truncated=walk.truncated,
        searched=sorted(walk.searched),
        namespaces=await lookups.namespaces() if any(node.is_missing for node in nodes) else (),
    )
