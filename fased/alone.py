"""One service as a process of its own. Decides what such a process opens, from its settings; the
order of start and stop is `process.py`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import grpc
import uvloop
from opentelemetry import trace
from prometheus_client import start_http_server

from fased.bus.port import Bus
from fased.core.errors import FasedError
from fased.process import (
    H,
    Host,
    OpenRowless,
    OpenService,
    RowlessHost,
    Service,
    serve,
    stopping_on_signals,
)
from fased.rpc.client import open_client
from fased.settings import SERVICES, SharedSettings
from fased.store.database import open_database
from fased.store.notify import Hints, open_hints
from fased.telemetry import logging, tracing

# The gateway is called by people only.
_CALLED: Sequence[str] = tuple(service for service in SERVICES if service != "gateway")


def run_service(name: str, settings: SharedSettings, open_service: OpenService) -> None:
    """Run one service until SIGTERM; exits with one line for what keeps it from starting."""
    _exiting(name, settings, _run(name, settings, open_service))


def run_rowless(name: str, settings: SharedSettings, open_service: OpenRowless) -> None:
    """As `run_service`, for a service without a database; it has a bus where there are brokers."""
    _exiting(name, settings, _run_rowless(name, settings, open_service))


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


def _exiting(name: str, settings: SharedSettings, run: Coroutine[None, None, None]) -> None:
    logging.configure(name, level=settings.log_level.upper())
    try:
        uvloop.run(run)
    except FasedError as exc:
        print(f"{name}: {exc.message} ({exc.reason})", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)


async def _run(name: str, settings: SharedSettings, open_service: OpenService) -> None:
    asked, stop = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        await _begin(stack, name, settings, asked)
        database = await stack.enter_async_context(open_database(settings.database_url))
        hints = await stack.enter_async_context(open_hints(settings.database_url))
        bus = await stack.enter_async_context(_bus(name, settings, hints))
        host = Host(database, bus, hints, _clients(stack, settings), stop)
        await _serve(host, open_service, settings, asked)


async def _run_rowless(name: str, settings: SharedSettings, open_service: OpenRowless) -> None:
    asked, stop = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        await _begin(stack, name, settings, asked)
        bus = None
        if settings.kafka_bootstrap:
            bus = await stack.enter_async_context(_kafka(name, settings))
        await _serve(
            RowlessHost(bus, _clients(stack, settings), stop), open_service, settings, asked
        )


async def _begin(
    stack: AsyncExitStack, name: str, settings: SharedSettings, asked: asyncio.Event
) -> None:
    await stack.enter_async_context(stopping_on_signals(asked))
    await stack.enter_async_context(traced(name, settings.otlp_endpoint))
    _serve_metrics(stack, settings.metrics_listen)


async def _serve(
    host: H,
    open_service: Callable[[H], AbstractAsyncContextManager[Service]],
    settings: SharedSettings,
    asked: asyncio.Event,
) -> None:
    await serve(
        host,
        [open_service],
        listen=settings.listen,
        service_token=settings.service_token.get_secret_value(),
        drain_s=settings.drain_s,
        grace_s=settings.grace_s,
        asked=asked,
    )


@asynccontextmanager
async def _bus(name: str, settings: SharedSettings, hints: Hints) -> AsyncIterator[Bus]:
    if settings.kafka_bootstrap:
        async with _kafka(name, settings) as kafka:
            yield kafka
        return
    from fased.bus.pglog import open_pglog

    async with open_pglog(settings.database_url, hints) as log:
        yield log


@asynccontextmanager
async def _kafka(name: str, settings: SharedSettings) -> AsyncIterator[Bus]:
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


def _clients(stack: AsyncExitStack, settings: SharedSettings) -> Callable[[str], grpc.aio.Channel]:
    token = settings.service_token.get_secret_value()
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
