"""Agents as resources: kept by policy. Decides nothing itself (`core/resource_status.py`)."""

from collections.abc import AsyncIterator

from fased.api.policy.v1 import agent_pb2
from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.types.v1 import owner_pb2
from fased.core import resource_status
from fased.core.conditions import ConditionType
from fased.core.names import AgentId
from fased.core.resource_definitions import agent_of
from fased.core.resource_references import missing_provider, providers_of
from fased.core.resource_status import Observed
from fased.core.resources import Key, Kind, Resource, owner_of
from fased.core.runs import ExecutionMode
from fased.wire.agents import definition_to_pb
from fased.wire.findings import finding_from_pb
from services.operator.directory import AgentFacts, Directory
from services.operator.keepers import CALL_TIMEOUT_S, pages
from services.operator.services import Services


class Agents:
    """The keeper of Agents."""

    kind = Kind.AGENT
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.PREFLIGHT)

    def __init__(self, services: Services, directory: Directory) -> None:
        self._services = services
        self._directory = directory

    async def apply(self, resource: Resource) -> None:
        """Make the Agent stand."""
        key = resource.key
        agent = definition_to_pb(key.namespace, AgentId(key.name), agent_of(resource))
        await self._apply(key, [agent], resource.generation)

    async def withdraw(self, key: Key) -> None:
        """Remove the Agent."""
        await self._apply(key, [], 0)
        # Those that name it hear of it.
        await self._directory.of(key.namespace).agents.get()

    async def observe(self, resource: Resource) -> Observed:
        """What its models need, and what it has."""
        key, room = resource.key, self._directory.of(resource.key.namespace)
        definition = agent_of(resource)
        providers = await room.providers.get()
        counts = await room.counts.get()
        facts = (await room.agents.get()).get(key.name, AgentFacts(0, definition.model))
        answer = await self._services.policy.Preflight(
            pb.PreflightRequest(
                namespace=key.namespace,
                agent_id=key.name,
                mode=ExecutionMode.AGENT_TURN,
                # Policy knows those of the namespace by itself.
                usable_providers=sorted(providers.brought),
            ),
            timeout=CALL_TIMEOUT_S,
        )
        findings = [finding_from_pb(each) for each in answer.findings]
        return resource_status.agent(
            missing_provider(providers_of(definition), providers.all, providers.unusable),
            findings[0] if findings else None,
            revision=facts.revision,
            model=facts.model,
            sessions=counts.sessions.get(key.name, 0),
            tasks=counts.tasks.get(key.name, 0),
        )

    async def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """Those that define Agents."""

        async def ask(prefix: str, token: str) -> pb.ListAgentOwnersResponse:
            request = pb.ListAgentOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.agents.ListAgentOwners(request)

        async for owner in pages(ask):
            yield owner

    async def _apply(self, key: Key, agents: list[agent_pb2.Agent], generation: int) -> None:
        answer = await self._services.agents.ApplyAgents(
            pb.ApplyAgentsRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                agents=agents,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        if answer.changed or answer.removed:
            self._directory.of(key.namespace).agents.invalidate()
