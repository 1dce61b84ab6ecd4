"""What a WebChat conversation is attached to. Decides that the Agent and session are there and
belong together, by asking the services that own them.
"""

from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2, router_service_pb2_grpc
from fased.core.errors import FailedPrecondition, InvalidArgument
from fased.core.names import (
    AgentId,
    Namespace,
    SessionKey,
    canonical_agent,
    resource_name,
)
from fased.core.sessions import main_key, parse_session_key
from fased.process import Host

TIMEOUT_S = 5.0


class Attachments:
    """Agents and sessions, as the services that own them know them."""

    def __init__(self, host: Host) -> None:
        self._agents = policy_service_pb2_grpc.AgentServiceStub(host.client("policy"))
        self._sessions = router_service_pb2_grpc.SessionServiceStub(host.client("router"))

    async def resolve(
        self, namespace: Namespace, agent: str, session: str
    ) -> tuple[AgentId, SessionKey]:
        """The Agent and session that these texts name; empty ones mean the default and its main.

        Raises NotFound, and InvalidArgument for a session of another Agent or a closed one.
        """
        owner = parse_session_key(session)[0] if session else None
        if owner and agent and owner != canonical_agent(agent):
            raise InvalidArgument(
                f"session {session[:120]} does not belong to Agent {agent[:64]}",
                reason="SESSION_OF_ANOTHER_AGENT",
                metadata={"field": "session_key"},
            )
        agent_id = await self._agent(namespace, owner or (agent and canonical_agent(agent)))
        key = SessionKey(session.strip().lower()) if session else main_key(agent_id)
        if key != main_key(agent_id):
            await self._check_session(namespace, key)
        return agent_id, key

    async def _agent(self, namespace: Namespace, agent_id: str) -> AgentId:
        if agent_id:
            name = resource_name(namespace, "agents", agent_id)
            request = policy_service_pb2.GetAgentRequest(name=name)
            await self._agents.GetAgent(request, timeout=TIMEOUT_S)
            return AgentId(agent_id)
        listed = await self._agents.ListAgents(
            policy_service_pb2.ListAgentsRequest(parent=f"namespaces/{namespace}", page_size=1000),
            timeout=TIMEOUT_S,
        )
        return _default(list(listed.agents))

    async def _check_session(self, namespace: Namespace, key: SessionKey) -> None:
        name = resource_name(namespace, "sessions", key)
        request = router_service_pb2.GetSessionRequest(name=name)
        found = await self._sessions.GetSession(request, timeout=TIMEOUT_S)
        if found.session.closed:
            raise FailedPrecondition(
                f"session {key} was closed; pick another one",
                reason="SESSION_CLOSED",
                metadata={"field": "session_key"},
            )


def _default(agents: list[agent_pb2.Agent]) -> AgentId:
    """The Agent marked default, else the first (behaviour §1)."""
    if not agents:
        raise FailedPrecondition(
            "there is no Agent yet; add one with `fased agents add`",
            reason="NO_AGENT",
            metadata={"setup_target": "fased agents add"},
        )
    chosen = next((agent for agent in agents if agent.is_default), agents[0])
    return AgentId(chosen.name.rpartition("/")[2])
