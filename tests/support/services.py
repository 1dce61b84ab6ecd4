"""Services of Fased in the test's own process: a real gRPC server on a Unix socket, the real bus.

Decides nothing of their behaviour.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fased.bus import pglog
from fased.core.access import Caller, Role
from fased.process import Host, OpenService, serve
from fased.rpc.client import Client
from fased.rpc.interceptors import actor_metadata
from fased.store import database, notify

SERVICE_TOKEN = "the-service-token-of-the-tests"
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """Services that run; `client` calls them as a service of Fased, `address` is theirs."""

    host: Host
    client: Client
    address: str
    folder: Path


@asynccontextmanager
async def running(url: str, *services: OpenService) -> AsyncIterator[Running]:
    """Run the services on the database at `url` until the block ends, then stop them cleanly."""
    folder = Path(tempfile.mkdtemp(prefix="fased-", dir="/tmp"))
    address = f"unix:{folder}/grpc.sock"
    client = Client(address, SERVICE_TOKEN)
    stop, started = asyncio.Event(), asyncio.Event()

    async def say_started() -> None:
        started.set()

    try:
        async with (
            database.open_database(url) as opened,
            notify.open_hints(url) as hints,
            pglog.open_pglog(url, hints) as bus,
            asyncio.TaskGroup() as group,
        ):
            host = Host(opened, bus, hints, lambda name: client, stop)
            serving = group.create_task(
                serve(
                    host,
                    services,
                    listen=address,
                    service_token=SERVICE_TOKEN,
                    grace_s=1.0,
                    started=say_started,
                )
            )
            waiting = asyncio.create_task(started.wait())
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not serving.done():
                yield Running(host, client, address, folder)
            stop.set()
    finally:
        await client.close()
        shutil.rmtree(folder)


def acting(
    namespace: str = "default", role: Role = Role.OPERATOR, subject: str = "ada"
) -> dict[str, Any]:
    """Keyword arguments of a call that the gateway would make for a person."""
    return {"metadata": actor_metadata(Caller(subject, role, (namespace,)))}


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What `condition` gives once it is true; fails the test when it never is."""
    async with asyncio.timeout(DEADLINE_S):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
    return value
