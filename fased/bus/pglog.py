"""The bus as a log in PostgreSQL, for one machine. Decides batching, hints and retention.

Its consumers are `pglog_consumer.py`, its tails `tails.py`, its statements `store/buslog.py`.
Offsets of a partition have no gap and become visible in order, so reading on from an offset is
enough; hints make it quick, polling makes it sure.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias
from zlib import crc32

import asyncpg
import structlog

from fased.bus import pglog_access, tails, topics
from fased.bus.coalesce import Coalescer
from fased.bus.pglog_consumer import TIMING, PgLogConsumer, Timing
from fased.bus.port import MAX_BATCH, MAX_OUTSTANDING, MAX_TAIL_WAITING, Received, Record
from fased.core.errors import InvalidArgument
from fased.store import background, buslog, outbox, transient
from fased.store.buslog import Commit, Entry, Position
from fased.store.notify import Hints
from fased.telemetry import metrics

POOL_SIZE = 4
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 9.0
PRUNE_PERIOD_S = 300.0
PRUNE_BATCH = 1000

# Every statement is short: a frozen process must not keep what it has locked.
_SERVER_SETTINGS = {
    "application_name": "fased-bus",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": "8s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "3s",
}

logger = structlog.get_logger(__name__)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@asynccontextmanager
async def open_pglog(
    url: str,
    hints: Hints,
    *,
    known: tuple[topics.Topic, ...] = topics.ALL,
    timing: Timing = TIMING,
) -> AsyncIterator["PgLogBus"]:
    """The log bus in the database at `url`, with the partitions of its topics made.

    Raises Unavailable when the database cannot be reached.
    """
    with pglog_access.translated():
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=_SERVER_SETTINGS,
            reset=_keep_session,
        )
    async with pool:
        with pglog_access.translated():
            async with pool.acquire() as conn:
                await buslog.ensure_partitions(conn, {t.name: t.partitions for t in known})
        bus = PgLogBus(pool, hints, known, timing)
        async with background.beside(bus.keep_pruned(), "bus-retention"):
            yield bus
        await bus.close()


class PgLogBus:
    """The bus port over one pool of connections; `open_pglog` makes it."""

    def __init__(
        self, pool: Pool, hints: Hints, known: tuple[topics.Topic, ...], timing: Timing
    ) -> None:
        self._pool = pool
        self._hints = hints
        self._partitions = {topic.name: topic.partitions for topic in known}
        self._retention = {topic.name: topic.retention for topic in known}
        self._timing = timing
        self._publishes = Coalescer(self._append, max_calls=256)
        self._commits = Coalescer(self._commit, max_calls=256)
        self._tails = tails.Tails(self._read, hints, poll_s=timing.poll_s)

    async def publish(self, records: Sequence[Record]) -> None:
        """See `port.Bus`."""
        if not records:
            return
        entries = [self._entry(record) for record in records]
        with pglog_access.translated():
            await self._publishes.call(entries)
        self._hints.send(*{pglog_access.hint_name(record.topic) for record in records})
        for record in records:
            metrics.bus_published.labels(record.topic).inc()

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        max_batch: int = MAX_BATCH,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> AbstractAsyncContextManager[PgLogConsumer]:
        """See `port.Bus`."""
        return self._consuming(
            PgLogConsumer(
                self._pool,
                self._hints,
                self._commits,
                group,
                {topic: self._count(topic) for topic in topics},
                self._timing,
                max_batch=max_batch,
                max_outstanding=max_outstanding,
            )
        )

    def tail(
        self, topics: Sequence[str], *, max_waiting: int = MAX_TAIL_WAITING
    ) -> AbstractAsyncContextManager[AsyncIterator[Received]]:
        """See `port.Bus`."""
        return self._tailing([*topics], max_waiting)

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """See `port.Bus`."""
        with pglog_access.translated():
            async with self._pool.acquire() as conn:
                return await buslog.lag(conn, group, topics)

    async def evict_members(self) -> None:
        """End what a killed predecessor left: only for a process that knows it is alone."""
        async with self._pool.acquire() as conn:
            await buslog.evict_all(conn)

    async def prune(self) -> None:
        """Delete what is older than its topic's retention and read by every group."""
        for topic, retention in self._retention.items():
            gone = PRUNE_BATCH
            while gone >= PRUNE_BATCH:
                async with self._pool.acquire() as conn:
                    gone = await buslog.prune(conn, topic, retention, PRUNE_BATCH)

    async def keep_pruned(self) -> None:
        """Prune now and then, until cancelled."""
        while True:
            await asyncio.sleep(PRUNE_PERIOD_S * random.uniform(0.5, 1.5))
            try:
                await self.prune()
            except transient.DRIVER_ERRORS as exc:
                logger.warning("bus_prune_failed", error=type(exc).__name__)

    async def close(self) -> None:
        """Finish what was begun; nothing may be published afterwards."""
        await self._publishes.close()
        await self._commits.close()

    def _entry(self, record: Record) -> Entry:
        if len(record.value) > outbox.MAX_VALUE_BYTES:
            raise InvalidArgument(
                f"the record is larger than {outbox.MAX_VALUE_BYTES} bytes",
                reason="EVENT_TOO_LARGE",
                metadata={"field": "value", "topic": record.topic},
            )
        partition = crc32(record.key.encode()) % self._count(record.topic)
        headers = json.dumps(dict(record.headers))
        return Entry(record.topic, partition, record.key, record.value, headers)

    def _count(self, topic: str) -> int:
        count = self._partitions.get(topic)
        if count is None:
            raise InvalidArgument(
                f"there is no bus topic {topic!r}",
                reason="TOPIC_UNKNOWN",
                metadata={"field": "topic"},
            )
        return count

    async def _append(self, calls: Sequence[list[Entry]]) -> list[None]:
        entries = [entry for call in calls for entry in call]
        async with self._pool.acquire() as conn:
            await buslog.append(conn, entries)
        return [None] * len(calls)

    async def _commit(self, calls: Sequence[Commit]) -> list[bool]:
        async with self._pool.acquire() as conn:
            counted = await buslog.commit(conn, calls)
        return [call in counted for call in calls]

    async def _read(self, positions: Sequence[Position], limit: int) -> list[Received]:
        async with self._pool.acquire() as conn:
            rows = await buslog.read(conn, positions, limit)
        return [pglog_access.received(row) for row in rows]

    @asynccontextmanager
    async def _consuming(self, consumer: PgLogConsumer) -> AsyncIterator[PgLogConsumer]:
        try:
            async with background.beside(consumer.keep_membership(), "bus-membership"):
                with consumer.hinted():
                    yield consumer
        finally:
            await consumer.leave()

    @asynccontextmanager
    async def _tailing(
        self, names: Sequence[str], max_waiting: int
    ) -> AsyncIterator[AsyncIterator[Received]]:
        for name in names:
            self._count(name)
        with pglog_access.translated():
            async with self._pool.acquire() as conn:
                ends = await buslog.ends(conn, names)
        async with self._tails.follow(ends, max_waiting) as subscription:
            yield subscription


async def _keep_session(_conn: object) -> None:
    """No round trip to reset what no statement here ever changes."""
