"""The gateway service: HTTP and the public gRPC port. Wires only."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from fased.core.errors import FasedError
from fased.process import Host, Service
from services.gateway import passthrough, web_server
from services.gateway.app import new_app
from services.gateway.services import Services
from services.gateway.settings import Settings

GRPC_GRACE_S = 2.0


@asynccontextmanager
async def open_service(
    host: Host, settings: Settings, bound: Callable[[int], None] = lambda port: None
) -> AsyncIterator[Service]:
    """The service, listening on both ports; `bound` is told the HTTP port it took.

    Raises FasedError when a port is taken.
    """
    services = Services.of(host)
    public = passthrough.new_server(services)
    _listen_public(public, settings.grpc_listen)
    app = new_app(services, settings, host.stop)
    with web_server.listen(settings.http_host, settings.http_port) as http:
        bound(http.getsockname()[1])

        async def serve_http() -> None:
            await web_server.serve(app, http, host.stop)

        async def serve_grpc() -> None:
            await public.start()
            await host.stop.wait()
            await public.stop(GRPC_GRACE_S)

        yield Service("gateway", loops=(serve_http, serve_grpc))


def _listen_public(server: grpc.aio.Server, address: str) -> None:
    try:
        taken = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise _cannot_listen(address) from exc
    if not taken:
        raise _cannot_listen(address)


def _cannot_listen(address: str) -> FasedError:
    return FasedError(
        f"cannot listen on {address}; choose another with FASED_GRPC_LISTEN",
        reason="LISTEN_FAILED",
        metadata={"field": "grpc_listen"},
    )
