"""Hints that something changed, between coroutines and between processes.

Decides how a hint travels: at once inside the process, through one connection of LISTEN and NOTIFY
to the others, at most one notification each 20 ms. A hint may be lost or come for nothing: who
waits for one polls as well.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import structlog

from fased.core.errors import FasedError
from fased.store import background, database, transient

NOTIFY_PERIOD_S = 0.02
PROBE_PERIOD_S = 30.0
RECONNECT_FIRST_S = 0.1
RECONNECT_CAP_S = 2.0
_CHANNEL = "fased"
# PostgreSQL takes 8000 bytes; longer sets of names go out in several notifications.
_PAYLOAD_BYTES = 4000

logger = structlog.get_logger(__name__)


class Hints:
    """The hints of one process. Names are free text without commas, such as `outbox/scheduler`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._callbacks: defaultdict[str, set[Callable[[], None]]] = defaultdict(set)
        self._unsent: dict[str, None] = {}
        self._stirred = asyncio.Event()

    def send(self, *names: str) -> None:
        """Tell everyone who listens to a name; call it after the commit it is about."""
        self._dispatch(names)
        self._unsent.update(dict.fromkeys(names))
        self._stirred.set()

    @contextmanager
    def listen(self, callback: Callable[[], None], *names: str) -> Iterator[None]:
        """Call `callback` at each hint by one of the names, and after each lost connection."""
        for name in names:
            self._callbacks[name].add(callback)
        try:
            yield
        finally:
            for name in names:
                self._callbacks[name].discard(callback)
                if not self._callbacks[name]:
                    del self._callbacks[name]

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        delay_s = RECONNECT_FIRST_S
        while True:
            try:
                conn = await database.connect(self._url, name="fased-hints")
            except FasedError as exc:
                logger.warning("hints_unreachable", reason=exc.reason)
            else:
                delay_s = RECONNECT_FIRST_S
                await self._serve(conn)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, RECONNECT_CAP_S)

    async def _serve(self, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        conn.add_termination_listener(lambda _: self._stirred.set())
        own_pid = conn.get_server_pid()

        def heard(_conn: object, pid: int, _channel: str, payload: object) -> None:
            if pid != own_pid:
                self._dispatch(tuple(str(payload).split(",")))

        try:
            await conn.add_listener(_CHANNEL, heard)
            self._dispatch(tuple(self._callbacks))
            while not conn.is_closed():
                await self._send_or_probe(conn)
        except transient.DRIVER_ERRORS as exc:
            if not transient.is_transient(exc):
                raise
            logger.warning("hints_disconnected", error=type(exc).__name__)
        finally:
            conn.terminate()

    async def _send_or_probe(self, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        if not await wait(self._stirred, PROBE_PERIOD_S):
            await conn.execute("SELECT 1", timeout=5)
        if not self._unsent or conn.is_closed():
            return
        payload = self._next_payload()
        await conn.execute(
            "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)",
            _CHANNEL,
            payload,
            timeout=5,
        )
        await asyncio.sleep(NOTIFY_PERIOD_S)
        if self._unsent:
            self._stirred.set()

    def _next_payload(self) -> str:
        names: list[str] = []
        while self._unsent and sum(map(len, names)) < _PAYLOAD_BYTES:
            name = next(iter(self._unsent))
            del self._unsent[name]
            names.append(name)
        return ",".join(names)

    def _dispatch(self, names: tuple[str, ...]) -> None:
        for name in names:
            for callback in tuple(self._callbacks.get(name, ())):
                callback()


@asynccontextmanager
async def open_hints(url: str) -> AsyncIterator[Hints]:
    """The hints of this process, over one connection that is mended when it breaks."""
    hints = Hints(url)
    async with background.beside(hints.run(), "hints"):
        yield hints


async def wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set, and clear it; False when the time was over first."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True


async def wait_any(timeout_s: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set or the time is over; clears none."""
    if any(event.is_set() for event in events):
        return
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
