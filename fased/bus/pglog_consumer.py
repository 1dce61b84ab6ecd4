"""A member of a consumer group on the log bus. Decides what it owns, when it reads, what it may
commit.

Ownership is a lease in the database: a member that is killed or frozen loses its partitions when
its lease is over, and the generation of each later claim fences what it still tries to commit.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import structlog

from fased.bus import assignment, pglog_access
from fased.bus.coalesce import Coalescer
from fased.bus.port import Batch, PartitionLost
from fased.core.errors import FasedError
from fased.store import buslog, notify
from fased.store.buslog import Commit, Partition, Position
from fased.store.database import Connection
from fased.telemetry import metrics

RETRY_S = 0.5

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things wait. A member whose heartbeats stop for `session_s` loses its partitions."""

    session_s: float = 10.0
    heartbeat_s: float = 3.0
    poll_s: float = 1.0


TIMING = Timing()


@dataclass(slots=True)
class _Owned:
    """A partition of this member. `is_stale`: records may wait from `committed` on."""

    generation: int
    committed: int
    is_out: bool = False
    is_stale: bool = True
    is_revoked: bool = False


class PgLogConsumer:
    """See `port.Consumer`; `PgLogBus.consumer` makes it and runs `keep_membership` beside it."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        hints: notify.Hints,
        commits: Coalescer[Commit, bool],
        group: str,
        partitions: Mapping[str, int],
        timing: Timing,
        *,
        max_batch: int,
        max_outstanding: int,
    ) -> None:
        self._pool = pool
        self._hints = hints
        self._commits = commits
        self._group = group
        self._partitions = partitions
        self._timing = timing
        self._max_batch = max_batch
        self._max_outstanding = max_outstanding
        self._lease = timedelta(seconds=timing.session_s)
        self._member: UUID | None = None
        self._owned: dict[Partition, _Owned] = {}
        self._ready: deque[Batch] = deque()
        self._outstanding = 0
        self._may_read = asyncio.Event()
        self._must_balance = asyncio.Event()
        self._beat_at = 0.0

    async def next_batch(self) -> Batch:
        """See `port.Consumer`."""
        while True:
            while self._ready:
                batch = self._ready.popleft()
                if self.is_current(batch):
                    return batch
                self.finish(batch)
            try:
                with pglog_access.translated():
                    await self._read()
            except FasedError as exc:
                logger.warning("bus_read_failed", group=self._group, reason=exc.reason)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
                continue
            if not self._ready and not await notify.wait(
                self._may_read, self._timing.poll_s * random.uniform(1, 2)
            ):
                self._mark_stale()

    async def commit(self, batch: Batch, next_offset: int) -> None:
        """See `port.Consumer`."""
        partition = Partition(batch.topic, batch.partition)
        with pglog_access.translated():
            counted = await self._commits.call(
                Commit(self._group, *partition, batch.generation, next_offset)
            )
        owned = self._of(batch)
        if not counted:
            if owned is not None:
                del self._owned[partition]
                self._must_balance.set()
            raise PartitionLost(
                "another consumer of the group owns the partition now",
                reason="PARTITION_LOST",
                metadata={"topic": batch.topic, "partition": str(batch.partition)},
            )
        if owned is not None:
            owned.committed = next_offset

    def finish(self, batch: Batch) -> None:
        """See `port.Consumer`."""
        self._outstanding -= len(batch.records)
        owned = self._of(batch)
        if owned is not None:
            owned.is_out = False
            owned.is_stale = owned.is_stale or owned.committed < batch.next_offset
            if owned.is_revoked:
                self._must_balance.set()
        self._may_read.set()

    def is_current(self, batch: Batch) -> bool:
        """See `port.Consumer`."""
        owned = self._of(batch)
        return owned is not None and not owned.is_revoked

    @contextmanager
    def hinted(self) -> Iterator[None]:
        """Inside the block, hints make this consumer read at once, and balance at once."""
        names = (pglog_access.hint_name(topic) for topic in self._partitions)
        with (
            self._hints.listen(self._on_records, *names),
            self._hints.listen(self._must_balance.set, pglog_access.group_hint_name(self._group)),
        ):
            yield

    async def keep_membership(self) -> None:
        """Join, hold the lease and balance what is owned, until cancelled."""
        loop = asyncio.get_running_loop()
        due_at = loop.time()
        while True:
            # One that was held up itself must not judge the others before they can beat.
            is_late = loop.time() - due_at > self._timing.heartbeat_s
            try:
                with pglog_access.translated():
                    await self._beat(may_reap=not is_late)
            except FasedError as exc:
                logger.warning("bus_heartbeat_failed", group=self._group, reason=exc.reason)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
                due_at = loop.time()
                continue
            metrics.bus_partitions.labels(self._group).set(len(self._owned))
            period_s = self._timing.heartbeat_s * random.uniform(0.8, 1.0)
            due_at = loop.time() + period_s
            if await notify.wait(self._must_balance, period_s):
                due_at = loop.time()

    async def leave(self) -> None:
        """Give up what is owned, so that the others need not wait for the lease to end."""
        member, self._member = self._member, None
        self._owned.clear()
        metrics.bus_partitions.labels(self._group).set(0)
        if member is None:
            return
        try:
            with pglog_access.translated():
                async with self._pool.acquire() as conn:
                    await buslog.leave(conn, self._group, member)
        except FasedError as exc:
            logger.warning("bus_leave_failed", group=self._group, reason=exc.reason)
        self._hints.send(pglog_access.group_hint_name(self._group))

    def _on_records(self) -> None:
        self._mark_stale()
        self._may_read.set()

    def _mark_stale(self) -> None:
        for owned in self._owned.values():
            owned.is_stale = True

    def _of(self, batch: Batch) -> _Owned | None:
        owned = self._owned.get(Partition(batch.topic, batch.partition))
        return owned if owned is not None and owned.generation == batch.generation else None

    async def _read(self) -> None:
        """Read what is free to be read, within the bound, into `_ready`."""
        if asyncio.get_running_loop().time() - self._beat_at > self._timing.session_s:
            return  # the lease may have ended; the next heartbeat tells
        free = {
            partition: owned
            for partition, owned in self._owned.items()
            if owned.is_stale and not owned.is_out and not owned.is_revoked
        }
        room = self._max_outstanding - self._outstanding
        chosen = dict(list(free.items())[: max(0, room)])
        if not chosen:
            return
        limit = max(1, min(self._max_batch, room // len(chosen)))
        for owned in chosen.values():
            owned.is_stale = False
        try:
            async with self._pool.acquire() as conn:
                rows = await buslog.read(
                    conn, [Position(*p, owned.committed) for p, owned in chosen.items()], limit
                )
        except BaseException:
            for owned in chosen.values():
                owned.is_stale = True
            raise
        self._hold(rows, chosen, limit)

    def _hold(
        self,
        rows: Sequence[buslog.StoredRecord],
        chosen: Mapping[Partition, _Owned],
        limit: int,
    ) -> None:
        by_partition: dict[Partition, list[buslog.StoredRecord]] = {}
        for row in rows:
            by_partition.setdefault(Partition(row.topic, row.partition), []).append(row)
        for partition, found in by_partition.items():
            owned = chosen[partition]
            if self._owned.get(partition) is not owned:
                continue
            owned.is_out = True
            owned.is_stale = owned.is_stale or len(found) == limit
            self._outstanding += len(found)
            records = tuple(pglog_access.received(row) for row in found)
            self._ready.append(Batch(*partition, owned.generation, records))

    async def _beat(self, *, may_reap: bool) -> None:
        """Renew the lease, and take or give up partitions where the group has changed."""
        began_at = asyncio.get_running_loop().time()
        async with self._pool.acquire() as conn:
            members = None
            if self._member is not None:
                members = await buslog.heartbeat(conn, self._group, self._member, self._lease)
            if members is None:
                members = await self._join(conn)
            self._beat_at = began_at
            assert self._member is not None
            wanted = assignment.share(members, self._member, self._partitions)
            await self._give_up(conn, wanted)
            ended = may_reap and any(member.is_expired for member in members)
            if ended or wanted - self._owned.keys():
                await self._claim(conn, reap=may_reap)

    async def _join(self, conn: Connection) -> list[buslog.Member]:
        if self._member is not None:
            logger.warning("bus_membership_lost", group=self._group)
        self._owned.clear()
        member = uuid4()
        topics = tuple(self._partitions)
        await buslog.join(conn, self._group, member, topics, self._lease)
        self._member = member
        self._hints.send(pglog_access.group_hint_name(self._group))
        members = await buslog.heartbeat(conn, self._group, member, self._lease)
        return members or []

    async def _give_up(
        self,
        conn: Connection,
        wanted: frozenset[Partition],
    ) -> None:
        """Release what others should own, as soon as no batch of it is out."""
        for partition, owned in self._owned.items():
            owned.is_revoked = partition not in wanted
        for batch in [batch for batch in self._ready if not self.is_current(batch)]:
            self._ready.remove(batch)
            self.finish(batch)
        idle = [p for p, owned in self._owned.items() if owned.is_revoked and not owned.is_out]
        if not idle:
            return
        assert self._member is not None
        await buslog.release(conn, self._group, self._member, idle)
        for partition in idle:
            del self._owned[partition]
        self._hints.send(pglog_access.group_hint_name(self._group))

    async def _claim(self, conn: Connection, *, reap: bool) -> None:
        assert self._member is not None
        async with conn.transaction():
            await buslog.lock_group(conn, self._group)
            members = await buslog.members(conn, self._group, reap=reap)
            wanted = assignment.share(members, self._member, self._partitions)
            claims = await buslog.claim(
                conn, self._group, self._member, sorted(wanted - self._owned.keys())
            )
        for claim in claims:
            self._owned[Partition(claim.topic, claim.partition)] = _Owned(
                claim.generation, claim.next_offset
            )
        if claims:
            logger.info("bus_partitions_claimed", group=self._group, partitions=len(claims))
            self._may_read.set()
