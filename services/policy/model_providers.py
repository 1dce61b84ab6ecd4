"""ModelProviderService: keeps model providers. Decides nothing itself
(`core/model_providers.py`).
"""

from dataclasses import replace
from typing import Any

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.core.errors import Aborted, InvalidArgument
from fased.core.model_providers import ModelProvider, checked_id, checked_provider
from fased.core.names import Namespace, parse_parent
from fased.core.owners import check_credential, check_owner, checked_owner
from fased.rpc import owner_pages
from fased.rpc.batches import check_count
from fased.store import owners
from fased.store.database import Database
from fased.store.owners import Owned
from fased.store.policy import model_providers
from fased.wire.model_providers import provider_from_pb, provider_to_pb


class ModelProviderServicer(policy_service_pb2_grpc.ModelProviderServiceServicer):
    """Model providers over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def ListModelProviders(
        self, request: pb.ListModelProvidersRequest, context: Any
    ) -> pb.ListModelProvidersResponse:
        """A namespace's providers by id."""
        async with self._pool.acquire() as conn:
            found = await model_providers.list_all(conn, parse_parent(request.parent))
        return pb.ListModelProvidersResponse(providers=map(provider_to_pb, found))

    async def ApplyModelProviders(
        self, request: pb.ApplyModelProvidersRequest, context: Any
    ) -> pb.ApplyModelProvidersResponse:
        """Make one owner's providers what the request says, and no others."""
        namespace, owner = parse_parent(request.parent), checked_owner(request.managed_by)
        wanted = _wanted(request, namespace)
        claimed = Owned.MODEL_PROVIDERS, namespace, owner
        changed, removed = [], []
        async with self._pool.acquire() as conn, conn.transaction():
            await owners.claim(conn, *claimed, request.generation)
            known = await model_providers.lock_all(conn, namespace)
            for old in known.values():
                if old.managed_by == owner and old.id not in wanted:
                    await model_providers.remove(conn, namespace, old.id)
                    removed.append(old.id)
            for provider in wanted.values():
                stands = known.get(provider.id)
                if stands is not None:
                    check_owner("ModelProvider", provider.id, stands.managed_by, owner)
                if stands == provider:
                    continue
                if not await model_providers.put(conn, provider):
                    raise Aborted(
                        f"ModelProvider {provider.id} was made by another owner meanwhile",
                        reason="PROVIDER_CHANGED",
                    )
                changed.append(provider.id)
            if not wanted:
                await owners.forget(conn, *claimed)
        return pb.ApplyModelProvidersResponse(changed=changed, removed=removed)

    async def ListModelProviderOwners(
        self, request: pb.ListModelProviderOwnersRequest, context: Any
    ) -> pb.ListModelProviderOwnersResponse:
        """Who defines model providers from elsewhere."""
        async with self._pool.acquire() as conn:
            found, token = await owner_pages.read(conn, Owned.MODEL_PROVIDERS, request)
        return pb.ListModelProviderOwnersResponse(owners=found, next_page_token=token)


def _wanted(
    request: pb.ApplyModelProvidersRequest, namespace: Namespace
) -> dict[str, ModelProvider]:
    check_count("providers", len(request.providers))
    wanted: dict[str, ModelProvider] = {}
    for each in request.providers:
        provider = provider_from_pb(each)
        if provider.namespace != namespace or checked_id(provider.id) in wanted:
            raise InvalidArgument(
                f"name: {each.name[:120]!r} is of another namespace, or named twice",
                reason="INVALID_MODEL_PROVIDER",
                metadata={"field": "name"},
            )
        definition = checked_provider(provider.definition)
        check_credential(request.managed_by, definition.credential)
        wanted[provider.id] = replace(
            provider, definition=definition, managed_by=request.managed_by
        )
    return wanted
