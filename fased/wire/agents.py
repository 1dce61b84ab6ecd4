"""Agents and tokens between core and protobuf; nothing else."""

from fased.api.policy.v1 import agent_pb2, token_pb2
from fased.api.types.v1 import access_pb2
from fased.core.access import Caller, Role
from fased.core.agents import Agent, AgentDefinition
from fased.core.names import AgentId, Namespace, parse_resource_name, resource_name
from fased.core.tokens import Token
from fased.wire.times import from_timestamp, to_timestamp

AGENTS = "agents"
TOKENS = "tokens"


def agent_to_pb(agent: Agent) -> agent_pb2.Agent:
    """An Agent as it stands."""
    definition = agent.definition
    return agent_pb2.Agent(
        name=resource_name(agent.namespace, AGENTS, agent.id),
        display_name=definition.display_name,
        model=definition.model,
        fallback_models=definition.fallback_models,
        model_roles=definition.model_roles,
        system_prompt=definition.system_prompt,
        workspace=definition.workspace,
        is_default=definition.is_default,
        revision=agent.revision,
        managed_by=agent.managed_by,
        etag=agent.etag,
        create_time=to_timestamp(agent.created_at),
        update_time=to_timestamp(agent.updated_at),
    )


def agent_from_pb(agent: agent_pb2.Agent) -> Agent:
    """An Agent as it stands; raises InvalidArgument on a name that is none."""
    namespace, agent_id = parse_resource_name(agent.name, AGENTS)
    return Agent(
        namespace=namespace,
        id=AgentId(agent_id),
        definition=definition_from_pb(agent),
        revision=agent.revision,
        managed_by=agent.managed_by,
        created_at=from_timestamp(agent, "create_time"),
        updated_at=from_timestamp(agent, "update_time"),
    )


def definition_from_pb(agent: agent_pb2.Agent) -> AgentDefinition:
    """What the message says of an Agent, whatever its name."""
    return AgentDefinition(
        display_name=agent.display_name,
        model=agent.model,
        fallback_models=tuple(agent.fallback_models),
        model_roles=dict(agent.model_roles),
        system_prompt=agent.system_prompt,
        workspace=agent.workspace,
        is_default=agent.is_default,
    )


def definition_to_pb(
    namespace: Namespace, agent_id: AgentId, definition: AgentDefinition
) -> agent_pb2.Agent:
    """A definition under its name, for an owner that applies it."""
    return agent_to_pb(Agent(namespace, agent_id, definition, revision=0))


def token_to_pb(token: Token) -> token_pb2.Token:
    """A token, without its secret."""
    return token_pb2.Token(
        name=resource_name(token.namespace, TOKENS, token.id),
        role=access_pb2.Role.ValueType(int(token.role)),
        namespaces=token.namespaces,
        create_time=to_timestamp(token.created_at),
        expire_time=to_timestamp(token.expires_at),
        revoke_time=to_timestamp(token.revoked_at),
    )


def role_from_pb(role: access_pb2.Role.ValueType) -> Role:
    """A role; unspecified is the least."""
    return Role(role) if role else Role.VIEWER


def caller_to_pb(caller: Caller) -> token_pb2.Caller:
    """A caller."""
    return token_pb2.Caller(
        subject=caller.subject,
        role=access_pb2.Role.ValueType(int(caller.role)),
        namespaces=caller.namespaces,
    )


def caller_from_pb(caller: token_pb2.Caller) -> Caller:
    """A caller."""
    return Caller(caller.subject, Role(caller.role), tuple(caller.namespaces))
