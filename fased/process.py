"""What a process of Fased is made of, and how it starts and stops. Decides the order of both;
not what its services do.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
import structlog

from fased.bus.port import Bus
from fased.core.errors import FasedError
from fased.rpc.server import new_server
from fased.store.database import Database, translate
from fased.store.notify import Hints

logger = structlog.get_logger()

Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Host:
    """What a process lends to the services in it.

    `stop` is set once, when the process is asked to end: every loop watches it. `client` gives
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


OpenService = Callable[[Host], AbstractAsyncContextManager[Service]]


async def serve(
    host: Host,
    services: Sequence[OpenService],
    *,
    listen: str,
    service_token: str,
    drain_s: float = 0.0,
    grace_s: float = 10.0,
    started: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run services on one gRPC server at `listen` until `host.stop` is set.

    Stops in this order: NOT_SERVING, `drain_s`, loops (which finish or release what they hold),
    server, and what the services opened, in reverse. Raises the error of a loop that failed.
    """
    server, health = new_server(service_token, translate)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_(host)) for open_ in services]
        for service in opened:
            service.register(server)
        if not server.add_insecure_port(listen):
            raise FasedError(f"cannot listen on {listen}", reason="LISTEN_FAILED")
        await server.start()
        try:
            async with asyncio.TaskGroup() as group:
                for service in opened:
                    for loop in service.loops:
                        group.create_task(_named(service.name, loop), name=service.name)
                group.create_task(_stop_later(host.stop, health, drain_s))
                if started is not None:
                    await started()
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


async def wait_or_stop(stop: asyncio.Event, timeout_s: float) -> bool:
    """Wait up to `timeout_s` seconds; says whether `stop` was set."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def _named(service: str, loop: Loop) -> None:
    try:
        await loop()
    except Exception:
        logger.exception("loop_failed", service=service, loop=getattr(loop, "__name__", str(loop)))
        raise


async def _stop_later(stop: asyncio.Event, health: object, drain_s: float) -> None:
    await stop.wait()
    await health.enter_graceful_shutdown()  # type: ignore[attr-defined]
    await asyncio.sleep(drain_s)
