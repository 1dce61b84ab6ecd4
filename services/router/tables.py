"""Routing tables, compiled from rows and Agents, kept while neither changes. Decides no route."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.core.names import DEFAULT_AGENT, AgentId, Namespace, parse_resource_name
from fased.core.route_table import RoutingTable, compile_table, with_agents
from fased.store.router import bindings
from fased.store.router.bindings import Routing
from fased.wire.agents import AGENTS

MAX_NAMESPACES = 1_000
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """What routing and commands need of an Agent."""

    id: AgentId
    display_name: str
    model: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class _Compiled:
    version: int
    agents: tuple[KnownAgent, ...]
    table: RoutingTable


class RoutingTables:
    """The table of each namespace. Every read asks for the version and the Agents, so that no
    change is seen late; only compiling is saved.
    """

    def __init__(
        self, engine: AsyncEngine, agents: "policy_service_pb2_grpc.AgentServiceAsyncStub"
    ) -> None:
        self._engine = engine
        self._agents_stub = agents
        self._compiled: dict[Namespace, _Compiled] = {}

    async def read(self, namespace: Namespace) -> tuple[RoutingTable, tuple[KnownAgent, ...]]:
        """The current table of a namespace and its Agents, in the order they were made."""
        agents = await self._agents(namespace)
        known = self._compiled.get(namespace)
        async with self._engine.connect() as conn:
            version = await bindings.version(conn, namespace)
            if known is None or known.version != version:
                known = _compiled(await bindings.read(conn, namespace), agents)
        if known.agents != agents:
            table = with_agents(known.table, _ids(agents), default_agent(agents))
            known = _Compiled(known.version, agents, table)
        self._keep(namespace, known)
        return known.table, agents

    def _keep(self, namespace: Namespace, compiled: _Compiled) -> None:
        if namespace not in self._compiled and len(self._compiled) >= MAX_NAMESPACES:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[namespace] = compiled

    async def _agents(self, namespace: Namespace) -> tuple[KnownAgent, ...]:
        found: list[KnownAgent] = []
        token = ""
        while True:
            page = await self._agents_stub.ListAgents(
                policy_service_pb2.ListAgentsRequest(
                    parent=f"namespaces/{namespace}", page_size=_PAGE, page_token=token
                )
            )
            for agent in page.agents:
                agent_id = AgentId(parse_resource_name(agent.name, AGENTS)[1])
                model = agent.model or page.default_model
                found.append(KnownAgent(agent_id, agent.display_name, model, agent.is_default))
            token = page.next_page_token
            if not token:
                return tuple(found)


def default_agent(agents: tuple[KnownAgent, ...]) -> AgentId:
    """The Agent where no binding matches: the one marked, else the first, else `main`."""
    marked = next((agent.id for agent in agents if agent.is_default), None)
    return marked or (agents[0].id if agents else DEFAULT_AGENT)


def _compiled(routing: Routing, agents: tuple[KnownAgent, ...]) -> _Compiled:
    table = compile_table(
        [stored.binding for stored in routing.bindings],
        agents=_ids(agents),
        default_agent=default_agent(agents),
        session=routing.settings.session,
        options=routing.settings.options,
    )
    return _Compiled(routing.version, agents, table)


def _ids(agents: tuple[KnownAgent, ...]) -> list[AgentId]:
    return [agent.id for agent in agents]
