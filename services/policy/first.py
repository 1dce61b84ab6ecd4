"""What a new installation finds: a token for its first admin, and an Agent to talk to.

Decides when they are made; any number of replicas may start at once.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from fased.core.access import Role
from fased.core.agents import Agent, AgentDefinition
from fased.core.names import DEFAULT_NAMESPACE, canonical_agent
from fased.core.tokens import Token
from fased.store.policy import agents, tokens
from services.policy.settings import FirstSettings

ADMIN_TOKEN_ID = "admin"


async def make_first(engine: AsyncEngine, settings: FirstSettings) -> None:
    """Let the admin's token stand with the secret of the settings, and a first Agent."""
    async with engine.begin() as conn:
        if settings.admin_token is not None:
            token = Token(DEFAULT_NAMESPACE, ADMIN_TOKEN_ID, Role.ADMIN, ("*",))
            await tokens.ensure(conn, token, settings.admin_token.get_secret_value())
        if not settings.default_agent or await agents.list_after(conn, DEFAULT_NAMESPACE, 0, 1):
            return
        agent_id = canonical_agent(settings.default_agent)
        await agents.create(conn, Agent(DEFAULT_NAMESPACE, agent_id, AgentDefinition()))
