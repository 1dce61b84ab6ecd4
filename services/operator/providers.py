"""ModelProviders as resources: kept by policy, their Secrets read by the executor, which is asked
whether they are there. Decides nothing itself (`core/resource_status.py`).
"""

from collections.abc import AsyncIterator

from fased.api.policy.v1 import model_provider_pb2
from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.types.v1 import owner_pb2
from fased.core import resource_status
from fased.core.conditions import ConditionType
from fased.core.findings import Finding
from fased.core.resource_definitions import provider_of
from fased.core.resource_status import Observed
from fased.core.resources import Key, Kind, Resource, owner_of
from fased.wire.resources import provider_to_pb
from services.operator.directory import Directory, missing_credentials
from services.operator.keepers import CALL_TIMEOUT_S, pages
from services.operator.services import Services


class Providers:
    """The keeper of ModelProviders."""

    kind = Kind.MODEL_PROVIDER
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS)

    def __init__(self, services: Services, directory: Directory) -> None:
        self._services = services
        self._directory = directory

    async def apply(self, resource: Resource) -> None:
        """Make the provider stand."""
        key = resource.key
        provider = provider_to_pb(key.namespace, key.name, provider_of(resource))
        await self._apply(key, [provider], resource.generation)
        await self._directory.of(key.namespace).providers.get()

    async def withdraw(self, key: Key) -> None:
        """Remove the provider."""
        await self._apply(key, [], 0)
        await self._directory.of(key.namespace).providers.get()

    async def observe(self, resource: Resource) -> Observed:
        """Whether its Secret is there; those whose models need it hear of a change."""
        credential = provider_of(resource).credential
        missing = await self._missing(resource.key, credential) if credential else None
        providers = self._directory.of(resource.key.namespace).providers
        if (await providers.get()).unusable.get(resource.key.name) != missing:
            providers.invalidate()
            await providers.get()
        return resource_status.provider(missing)

    async def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """Those that define providers."""

        async def ask(prefix: str, token: str) -> pb.ListModelProviderOwnersResponse:
            request = pb.ListModelProviderOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.providers.ListModelProviderOwners(request)

        async for owner in pages(ask):
            yield owner

    async def _missing(self, key: Key, credential: str) -> Finding | None:
        asked = {key.name: credential}
        found = await missing_credentials(self._services, f"namespaces/{key.namespace}", asked)
        return found.get(key.name)

    async def _apply(
        self, key: Key, providers: list[model_provider_pb2.ModelProvider], generation: int
    ) -> None:
        answer = await self._services.providers.ApplyModelProviders(
            pb.ApplyModelProvidersRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                providers=providers,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        if answer.changed or answer.removed:
            self._directory.of(key.namespace).providers.invalidate()
