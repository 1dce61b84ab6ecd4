"""Calls for a caller: who asks goes with each, so that the services enforce role and namespace.

Decides deadlines only.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from fased.core.access import Caller
from fased.core.names import parse_namespace
from fased.rpc.interceptors import actor_metadata
from services.gateway.callers import authenticate, secret_of
from services.gateway.services import Services

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Asking:
    """A request with its caller, in the namespace of its path."""

    request: Request
    services: Services
    caller: Caller
    parent: str

    async def call(self, method: Callable[..., Awaitable[Any]], message: Any) -> Any:
        """Call a service as this caller."""
        return await method(message, timeout=TIMEOUT_S, metadata=actor_metadata(self.caller))

    def name(self, collection: str, parameter: str) -> str:
        """The resource name whose id is a parameter of the path."""
        return f"{self.parent}/{collection}/{self.request.path_params[parameter]}"


async def asking(request: Request) -> Asking:
    """Who asks, and where; raises Unauthenticated, InvalidArgument."""
    services: Services = request.app.state.services
    caller = await authenticate(services, secret_of(request))
    namespace = parse_namespace(request.path_params["namespace"])
    return Asking(request, services, caller, f"namespaces/{namespace}")
