"""What a process of Fased is made of, and how it starts and stops. Decides the order of both;
not what its services do.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import structlog
from grpc_health.v1._async import HealthServicer

from fased.bus.port import Bus
from fased.core.errors import FasedError
from fased.rpc.server import new_server
from fased.store.database import Database, translate
from fased.store.notify import Hints

# What one collection of young objects waits for.
YOUNG_OBJECTS = 50_000

logger = structlog.get_logger()

Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Host:
    """What a process lends to the services in it.

    `stop` is set once, when the process ends its work: every loop watches it. `client` gives
    the channel to a service by name; the process closes it.
    """

    database: Database
    bus: Bus
    hints: Hints
    client: Callable[[str], grpc.aio.Channel]
    stop: asyncio.Event


@dataclass(frozen=True, slots=True)
class Service:
    """What a service gives to its process: its gRPC servicers and its loops.

    A loop returns when `Host.stop` is set; one that raises ends the process.
    """

    name: str
    register: Callable[[grpc.aio.Server], None] = lambda server: None
    loops: tuple[Loop, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class RowlessHost:
    """What a process lends to a service that keeps no rows; `bus` only where brokers are named."""

    bus: Bus | None
    client: Callable[[str], grpc.aio.Channel]
    stop: asyncio.Event


H = TypeVar("H", Host, RowlessHost)
OpenService = Callable[[Host], AbstractAsyncContextManager[Service]]
OpenRowless = Callable[[RowlessHost], AbstractAsyncContextManager[Service]]


async def serve(
    host: H,
    services: Sequence[Callable[[H], AbstractAsyncContextManager[Service]]],
    *,
    listen: str,
    service_token: str,
    drain_s: float = 0.0,
    grace_s: float = 10.0,
    asked: asyncio.Event | None = None,
    started: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run services on one gRPC server at `listen` until `asked` is set; without one, `host.stop`.

    Stops in this order: NOT_SERVING, `drain_s` in which all goes on while callers look elsewhere,
    then `host.stop` is set: loops (which finish or release what they hold), server, and what the
    services opened, in reverse. Raises the error of a loop that failed.
    """
    server, health = new_server(service_token, translate)
    asked = asked or host.stop
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_(host)) for open_ in services]
        for service in opened:
            service.register(server)
        _listen(server, listen)
        await server.start()
        try:
            async with asyncio.TaskGroup() as group:
                for service in opened:
                    for loop in service.loops:
                        group.create_task(_named(service.name, loop), name=service.name)
                group.create_task(_stop_later(asked, host.stop, health, drain_s))
                if started is not None:
                    await started()
                settle_collector()
        except ExceptionGroup as group:
            # What failed first; the others were stopped because of it.
            raise _first(group) from group
        finally:
            host.stop.set()
            await server.stop(grace_s)


@asynccontextmanager
async def stopping_on_signals(stop: asyncio.Event) -> AsyncIterator[None]:
    """Set `stop` on SIGTERM and SIGINT while inside; a second SIGINT ends at once."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def settle_collector() -> None:
    """Keep the garbage collector off what lives long; call it once all is loaded and started.

    What is alive now, code and settings mostly, is never walked again. New objects are walked every
    50,000 instead of every 700: batches of 500 runs outlive many such walks, which find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


async def wait_or_stop(stop: asyncio.Event, timeout_s: float) -> bool:
    """Wait up to `timeout_s` seconds; says whether `stop` was set."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _listen(server: grpc.aio.Server, address: str) -> None:
    try:
        server.add_insecure_port(address)
    except RuntimeError as exc:
        raise FasedError(
            f"cannot listen on {address}; choose another with FASED_LISTEN",
            reason="LISTEN_FAILED",
            metadata={"field": "listen"},
        ) from exc


async def _named(service: str, loop: Loop) -> None:
    try:
        await loop()
    except Exception:
        logger.exception("loop_failed", service=service, loop=getattr(loop, "__name__", str(loop)))
        raise


async def _stop_later(
    asked: asyncio.Event, stop: asyncio.Event, health: HealthServicer, drain_s: float
) -> None:
    await asked.wait()
    await health.enter_graceful_shutdown()
    await wait_or_stop(stop, drain_s)
    stop.set()
