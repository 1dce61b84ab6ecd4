"""An executor as a process of its own, for tests that kill it: everything else stays with the test.

Run as `python -m tests.support.executor_process`, told by its environment.
"""

import asyncio
import os
from functools import partial

from fased.bus.pglog import open_pglog
from fased.process import Host, serve, stopping_on_signals
from fased.rpc.client import open_client
from fased.settings import read
from fased.store.database import open_database
from fased.store.notify import open_hints
from services.executor import service as executor
from services.executor.settings import Settings


async def main() -> None:
    """Serve until stopped; the scheduler and policy are at FASED_SCHEDULER_ADDRESS."""
    settings = read(Settings)
    token = settings.service_token.get_secret_value()
    others, others_client = open_client(settings.scheduler_address, token)
    own, own_client = open_client(settings.listen, token)
    stop = asyncio.Event()
    async with (
        stopping_on_signals(stop),
        open_database(settings.database_url) as database,
        open_hints(settings.database_url) as hints,
        open_pglog(settings.database_url, hints) as bus,
    ):
        host = Host(database, bus, hints, lambda name: own if name == "executor" else others, stop)
        await serve(
            host,
            [partial(executor.open_service, settings=settings, environment=os.environ)],
            listen=settings.listen,
            service_token=token,
        )
    await others_client.close()
    await own_client.close()


if __name__ == "__main__":
    asyncio.run(main())
