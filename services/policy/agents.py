"""AgentService: keeps Agents. Decides nothing itself (`core/agents.py`)."""

import uuid
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.core.agents import Agent, AgentDefinition, checked_definition
from fased.core.errors import Aborted, AlreadyExists, NotFound
from fased.core.names import (
    AgentId,
    Namespace,
    canonical_agent,
    checked_request_id,
    parse_parent,
    parse_resource_name,
    resource_name,
)
from fased.core.owners import check_owner, checked_owner
from fased.rpc import owner_pages, paging
from fased.rpc.batches import check_count
from fased.store import database, owners
from fased.store.database import Database
from fased.store.owners import Owned
from fased.store.policy import agents, requests
from fased.wire.agents import AGENTS, agent_to_pb, definition_from_pb


class AgentServicer(policy_service_pb2_grpc.AgentServiceServicer):
    """Agents over gRPC."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        """One Agent."""
        namespace, agent_id = parse_resource_name(request.name, AGENTS)
        async with self._engine.connect() as conn:
            agent = await _existing(conn, namespace, AgentId(agent_id))
        return pb.GetAgentResponse(agent=agent_to_pb(agent))

    async def ListAgents(
        self, request: pb.ListAgentsRequest, context: Any
    ) -> pb.ListAgentsResponse:
        """A namespace's Agents in the order they were made."""
        namespace = parse_parent(request.parent)
        size, query = paging.page_size(request.page_size), {"agents": namespace}
        after = paging.decode(request.page_token, query) or [0]
        async with self._engine.connect() as conn:
            rows = await agents.list_after(conn, namespace, int(after[0]), size + 1)
            default_model = await agents.model_of_namespace(conn, namespace)
        token = paging.encode([rows[size - 1][0]], query) if len(rows) > size else ""
        return pb.ListAgentsResponse(
            agents=[agent_to_pb(agent) for _, agent in rows[:size]],
            next_page_token=token,
            default_model=default_model,
        )

    async def CreateAgent(
        self, request: pb.CreateAgentRequest, context: Any
    ) -> pb.CreateAgentResponse:
        """A new Agent; a repeated request answers with the first one's."""
        namespace = parse_parent(request.parent)
        agent_id = canonical_agent(request.agent_id)
        definition = checked_definition(definition_from_pb(request.agent))
        async with self._engine.begin() as conn:
            if not await _first_time(conn, namespace, request.request_id, agent_id):
                return pb.CreateAgentResponse(
                    agent=agent_to_pb(await _existing(conn, namespace, agent_id))
                )
            created = await agents.create(conn, Agent(namespace, agent_id, definition))
            if created is None:
                raise AlreadyExists(
                    f"there is an Agent {agent_id} already",
                    reason="AGENT_EXISTS",
                    metadata={"field": "agent_id"},
                )
            if definition.is_default:
                await agents.clear_default(conn, namespace, agent_id)
        return pb.CreateAgentResponse(agent=agent_to_pb(created))

    async def UpdateAgent(
        self, request: pb.UpdateAgentRequest, context: Any
    ) -> pb.UpdateAgentResponse:
        """A new revision."""
        namespace, agent_id = parse_resource_name(request.agent.name, AGENTS)
        definition = checked_definition(definition_from_pb(request.agent))
        async with self._engine.begin() as conn:
            agent = await _existing(conn, namespace, AgentId(agent_id), lock=True)
            check_owner("Agent", agent.id, agent.managed_by, "")
            if request.agent.etag and request.agent.etag != agent.etag:
                raise Aborted(
                    f"Agent {agent_id} was changed meanwhile; read it again",
                    reason="ETAG_MISMATCH",
                    metadata={"field": "etag"},
                )
            changed = await _replace(conn, agent, definition, agent.managed_by)
        return pb.UpdateAgentResponse(agent=agent_to_pb(changed))

    async def DeleteAgent(
        self, request: pb.DeleteAgentRequest, context: Any
    ) -> pb.DeleteAgentResponse:
        """Remove an Agent."""
        namespace, agent_id = parse_resource_name(request.name, AGENTS)
        async with self._engine.begin() as conn:
            if await _first_time(conn, namespace, request.request_id, agent_id):
                agent = await _existing(conn, namespace, AgentId(agent_id), lock=True)
                check_owner("Agent", agent.id, agent.managed_by, "")
                await agents.remove(conn, namespace, agent.id)
        return pb.DeleteAgentResponse()

    async def ApplyAgents(
        self, request: pb.ApplyAgentsRequest, context: Any
    ) -> pb.ApplyAgentsResponse:
        """Make one owner's Agents what the request says, and nothing else."""
        namespace, owner = parse_parent(request.parent), checked_owner(request.managed_by)
        check_count("agents", len(request.agents))
        claimed = Owned.AGENTS, namespace, owner
        wanted = {
            AgentId(parse_resource_name(each.name, AGENTS)[1]): checked_definition(
                definition_from_pb(each)
            )
            for each in request.agents
        }
        changed, removed = [], []
        async with self._engine.begin() as conn:
            driver = await database.driver(conn)
            await owners.claim(driver, *claimed, request.generation)
            for old in await agents.owned_by(conn, namespace, owner):
                if old.id not in wanted:
                    await agents.remove(conn, namespace, old.id)
                    removed.append(old.id)
            for agent_id, definition in wanted.items():
                if await _apply(conn, namespace, agent_id, definition, owner):
                    changed.append(agent_id)
            if request.set_default_model:
                await agents.set_default_model(conn, namespace, request.default_model, owner)
            if not wanted and not request.set_default_model:
                await owners.forget(driver, *claimed)
        return pb.ApplyAgentsResponse(changed=changed, removed=removed)

    async def ListAgentOwners(
        self, request: pb.ListAgentOwnersRequest, context: Any
    ) -> pb.ListAgentOwnersResponse:
        """Who defines Agents from elsewhere."""
        async with self._engine.begin() as conn:
            driver = await database.driver(conn)
            found, token = await owner_pages.read(driver, Owned.AGENTS, request)
        return pb.ListAgentOwnersResponse(owners=found, next_page_token=token)


async def _apply(
    conn: AsyncConnection,
    namespace: Namespace,
    agent_id: AgentId,
    definition: AgentDefinition,
    owner: str,
) -> bool:
    agent = await agents.get(conn, namespace, agent_id, lock=True)
    if definition.is_default:
        for other in await agents.defaults_but(conn, namespace, agent_id):
            check_owner("the default Agent", other.id, other.managed_by, owner)
    if agent is None:
        await agents.create(conn, Agent(namespace, agent_id, definition, managed_by=owner))
    else:
        check_owner("Agent", agent_id, agent.managed_by, owner)
        if agent.definition == definition and agent.managed_by == owner:
            return False
        await agents.replace_definition(
            conn, Agent(namespace, agent_id, definition, managed_by=owner)
        )
    if definition.is_default:
        await agents.clear_default(conn, namespace, agent_id)
    return True


async def _replace(
    conn: AsyncConnection, agent: Agent, definition: AgentDefinition, owner: str
) -> Agent:
    if definition == agent.definition:
        return agent
    changed = await agents.replace_definition(
        conn, Agent(agent.namespace, agent.id, definition, managed_by=owner)
    )
    if definition.is_default:
        await agents.clear_default(conn, agent.namespace, agent.id)
    return changed


async def _existing(
    conn: AsyncConnection, namespace: Namespace, agent_id: AgentId, *, lock: bool = False
) -> Agent:
    agent = await agents.get(conn, namespace, agent_id, lock=lock)
    if agent is None:
        raise NotFound(
            f"there is no Agent {agent_id[:80]}; list them with: fased agents list",
            reason="AGENT_MISSING",
            metadata={"field": "name"},
        )
    return agent


async def _first_time(
    conn: AsyncConnection, namespace: Namespace, request_id: str, agent_id: str
) -> bool:
    if not request_id:
        return True
    key: uuid.UUID = checked_request_id(request_id)
    resource = resource_name(namespace, AGENTS, agent_id)
    return await requests.claim(conn, namespace, key, resource)
