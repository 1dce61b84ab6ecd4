"""Services in the test's own process, on one real gRPC server, PostgreSQL and log bus."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from fased.bus.pglog import open_pglog
from fased.process import Host, OpenService, serve
from fased.rpc.client import Client, open_client
from fased.store.database import open_database
from fased.store.notify import open_hints


@dataclass(frozen=True, slots=True)
class Running:
    """Started services. `channel` calls as a service, `host` is what they run on."""

    channel: grpc.aio.Channel
    host: Host
    listen: str
    service_token: str


@asynccontextmanager
async def running(
    database_url: str,
    make: Callable[[str, str], Sequence[OpenService]],
) -> AsyncIterator[Running]:
    """Services of `make(listen, service_token)`, started; stopped in their own order after."""
    service_token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="fased-") as folder:
        listen = f"unix:{Path(folder)}/s"
        channel, client = open_client(listen, service_token)
        async with (
            open_database(database_url) as database,
            open_hints(database_url) as hints,
            open_pglog(database_url, hints) as bus,
        ):
            host = Host(database, bus, hints, lambda name: channel, asyncio.Event())
            up = asyncio.Event()

            async def started() -> None:
                up.set()

            serving = asyncio.create_task(
                serve(
                    host,
                    make(listen, service_token),
                    listen=listen,
                    service_token=service_token,
                    grace_s=2,
                    started=started,
                )
            )
            try:
                await _until_up(serving, up)
                yield Running(channel, host, listen, service_token)
            finally:
                host.stop.set()
                await serving
                await _close(client)


async def _until_up(serving: "asyncio.Task[None]", up: asyncio.Event) -> None:
    waiting = asyncio.create_task(up.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        waiting.cancel()
        serving.result()


async def _close(client: Client) -> None:
    await client.close()
