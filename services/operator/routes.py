"""Routes as resources: bindings that the router keeps, and checks together with all others of the
namespace. Decides nothing itself (`core/resource_status.py`).
"""

from collections.abc import AsyncIterator

from fased.api.router.v1 import binding_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import owner_pb2
from fased.core import resource_status
from fased.core.conditions import ConditionType
from fased.core.resource_definitions import binding_of
from fased.core.resource_references import account_of_binding, missing_account
from fased.core.resource_status import Observed, RouteFacts
from fased.core.resources import Key, Kind, Resource, owner_of
from fased.wire.routes import binding_to_pb
from services.operator.directory import Directory
from services.operator.keepers import CALL_TIMEOUT_S, pages
from services.operator.services import Services


class Routes:
    """The keeper of Routes."""

    kind = Kind.ROUTE
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.CONFLICTED)

    def __init__(self, services: Services, directory: Directory) -> None:
        self._services = services
        self._directory = directory

    async def apply(self, resource: Resource) -> None:
        """Make the binding stand."""
        binding = binding_to_pb(resource.key.namespace, binding_of(resource), resource.owner)
        await self._apply(resource.key, [binding], resource.generation)

    async def withdraw(self, key: Key) -> None:
        """Remove the binding."""
        await self._apply(key, [], 0)
        # Those that it took messages from hear of it.
        await self._directory.of(key.namespace).routes.get()

    async def observe(self, resource: Resource) -> Observed:
        """What the binding does among the others."""
        binding, room = binding_of(resource), self._directory.of(resource.key.namespace)
        checks, accounts = await room.routes.get(), await room.accounts.get()
        return resource_status.route(
            binding,
            missing_account(account_of_binding(binding), accounts),
            checks.get(binding.id, RouteFacts()),
        )

    async def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """Those that define bindings."""

        async def ask(prefix: str, token: str) -> pb.ListRoutingOwnersResponse:
            request = pb.ListRoutingOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.routes.ListRoutingOwners(request)

        async for owner in pages(ask):
            yield owner

    async def _apply(self, key: Key, bindings: list[binding_pb2.Binding], generation: int) -> None:
        await self._services.routes.ApplyRouting(
            pb.ApplyRoutingRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                bindings=bindings,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        self._directory.of(key.namespace).routes.invalidate()
