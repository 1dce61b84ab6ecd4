"""One service as a process of its own. Decides what such a process opens, from its settings; the
order of start and stop is `process.py`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
from opentelemetry import trace
from prometheus_client import start_http_server

from fased.bus.port import Bus
from fased.core.errors import FasedError
from fased.process import Host, OpenService, serve, stopping_on_signals
from fased.rpc.client import open_client
from fased.settings import SERVICES, SharedSettings
from fased.store.database import open_database
from fased.store.notify import Hints, open_hints
from fased.telemetry import logging, tracing

# The gateway is called by people only.
_CALLED: Sequence[str] = tuple(service for service in SERVICES if service != "gateway")


def run_service(name: str, settings: SharedSettings, open_service: OpenService) -> None:
    """Run one service until SIGTERM; exits with one line for what keeps it from starting."""
    logging.configure(name, level=settings.log_level.upper())
    try:
        asyncio.run(_run(name, settings, open_service))
    except FasedError as exc:
        print(f"{name}: {exc.message} ({exc.reason})", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)


@asynccontextmanager
async def traced(service: str, otlp_endpoint: str) -> AsyncIterator[None]:
    """Traces of this process, exported to an OTLP endpoint where one is given."""
    exporter = tracing.otlp_exporter(otlp_endpoint) if otlp_endpoint else None
    provider = tracing.provider(service, version="", exporter=exporter)
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


async def _run(name: str, settings: SharedSettings, open_service: OpenService) -> None:
    asked, stop = asyncio.Event(), asyncio.Event()
    token = settings.service_token.get_secret_value()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stopping_on_signals(asked))
        await stack.enter_async_context(traced(name, settings.otlp_endpoint))
        _serve_metrics(stack, settings.metrics_listen)
        database = await stack.enter_async_context(open_database(settings.database_url))
        hints = await stack.enter_async_context(open_hints(settings.database_url))
        bus = await stack.enter_async_context(_bus(name, settings, hints))
        client = _clients(stack, settings, token)
        await serve(
            Host(database, bus, hints, client, stop),
            [open_service],
            listen=settings.listen,
            service_token=token,
            drain_s=settings.drain_s,
            grace_s=settings.grace_s,
            asked=asked,
        )


@asynccontextmanager
async def _bus(name: str, settings: SharedSettings, hints: Hints) -> AsyncIterator[Bus]:
    if settings.kafka_bootstrap:
        # Imported here: one machine's log bus needs none of Kafka's memory.
        from fased.bus.kafka import open_kafka
        from fased.bus.kafka_security import security_options

        async with open_kafka(
            settings.kafka_bootstrap,
            client_id=f"fased-{name}",
            instance_id=settings.kafka_instance_id or None,
            security=security_options(settings),
        ) as kafka:
            yield kafka
        return
    from fased.bus.pglog import open_pglog

    async with open_pglog(settings.database_url, hints) as log:
        yield log


def _clients(
    stack: AsyncExitStack, settings: SharedSettings, token: str
) -> Callable[[str], grpc.aio.Channel]:
    channels: dict[str, grpc.aio.Channel] = {}
    for service in _CALLED:
        channel, client = open_client(settings.address_of(service), token)
        stack.push_async_callback(client.close)
        channels[service] = channel
    return channels.__getitem__


def _serve_metrics(stack: AsyncExitStack, listen: str) -> None:
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"))
    except (OSError, ValueError) as exc:
        raise FasedError(
            f"cannot serve metrics on {listen}; choose another with FASED_METRICS_LISTEN",
            reason="LISTEN_FAILED",
            metadata={"field": "metrics_listen"},
        ) from exc

    async def close() -> None:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()

    stack.push_async_callback(close)
