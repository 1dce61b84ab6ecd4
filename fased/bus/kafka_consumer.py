"""A member of a consumer group on Kafka. Decides what it hands out, what it may commit, and when
it gives its place up.

Records are read ahead into a buffer for each partition, so that aiokafka holds none back: one
partition whose records wait would keep it from fetching the others of the same broker. An eager
rebalance takes all partitions away; the member first finishes the batches that are out.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError

from fased.bus import kafka_access, kafka_liveness
from fased.bus.coalesce import Coalescer
from fased.bus.kafka_access import Link
from fased.bus.kafka_offsets import KafkaOffsets
from fased.bus.port import Batch, PartitionLost, Received
from fased.store import notify
from fased.store.buslog import Partition
from fased.telemetry import metrics

POLL_MS = 1000
READ_AHEAD_BYTES = 256 * 1024
# What a record costs in memory beside its key and value.
_RECORD_BYTES = 400
RETRY_FIRST_S = 0.2
RETRY_CAP_S = 5.0
# aiokafka lets a member that reads nothing for this long fall out of its group, and then keeps it
# from coming back (issues 625 and 1187). A long effect is no reason to leave: never.
_MAX_POLL_INTERVAL_MS = 2**31 - 1

logger = structlog.get_logger(__name__)


class _Commit(NamedTuple):
    batch: Batch
    next_offset: int


@dataclass(slots=True)
class _Owned:
    """A partition of this member, and what was read of it and not taken out yet."""

    waiting: deque[Received] = field(default_factory=deque)
    waiting_bytes: int = 0
    read_to: int = -1
    committed: int = -1
    is_out: bool = False
    is_paused: bool = False


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells the consumer what happens to one of its members, even one that was given up."""

    def __init__(self, consumer: "KafkaConsumer", member: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._member = member

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._consumer.drain(self._member)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._consumer.own(self._member, assigned)


class KafkaConsumer:
    """See `port.Consumer`; `KafkaBus.consumer` makes it and runs `keep_membership` beside it."""

    def __init__(
        self,
        link: Link,
        offsets: KafkaOffsets,
        group: str,
        topics: tuple[str, ...],
        *,
        max_batch: int,
        max_outstanding: int,
    ) -> None:
        self._link = link
        self._offsets = offsets
        self._group = group
        self._topics = topics
        self._max_batch = max_batch
        self._max_outstanding = max_outstanding
        self._commits = Coalescer(self._commit, max_calls=256)
        self._member: AIOKafkaConsumer | None = None
        self._generation = 0
        self._owned: dict[Partition, _Owned] = {}
        self._is_rebalancing = True
        self._outstanding = 0
        self._may_take = asyncio.Event()
        self._finished = asyncio.Event()

    async def next_batch(self) -> Batch:
        """See `port.Consumer`."""
        while True:
            batch = self._take()
            if batch is not None:
                return batch
            self._may_take.clear()
            await self._may_take.wait()

    async def commit(self, batch: Batch, next_offset: int) -> None:
        """See `port.Consumer`."""
        with kafka_access.translated():
            counted = await self._commits.call(_Commit(batch, next_offset))
        if not counted:
            raise PartitionLost(
                "another consumer of the group may own the partition now",
                reason="PARTITION_LOST",
                metadata={"topic": batch.topic, "partition": str(batch.partition)},
            )

    def finish(self, batch: Batch) -> None:
        """See `port.Consumer`."""
        self._outstanding -= len(batch.records)
        owned = self._of(batch)
        if owned is not None:
            owned.is_out = False
            rest = [each for each in batch.records if each.offset >= owned.committed]
            owned.waiting.extendleft(reversed(rest))
            owned.waiting_bytes += sum(map(_size, rest))
        self._may_take.set()
        self._finished.set()

    def is_current(self, batch: Batch) -> bool:
        """See `port.Consumer`."""
        return self._of(batch) is not None and not self._is_rebalancing

    async def keep_membership(self) -> None:
        """Be a member and read, until cancelled; a member that fails is replaced by a new one."""
        failures = 0
        try:
            while True:
                began_at = asyncio.get_running_loop().time()
                try:
                    await self._be_member()
                except kafka_access.DRIVER_ERRORS as exc:
                    logger.warning("bus_member_failed", group=self._group, exc_info=exc)
                except kafka_liveness.Stalled:
                    metrics.bus_members_replaced.labels(self._group).inc()
                    logger.error("bus_member_stalled", group=self._group)
                lasted_s = asyncio.get_running_loop().time() - began_at
                failures = 0 if lasted_s > self._link.timing.stall_s else failures + 1
                await asyncio.sleep(min(RETRY_FIRST_S * 2.0 ** min(failures, 16), RETRY_CAP_S))
        finally:
            metrics.bus_partitions.labels(self._group).set(0)

    async def drain(self, member: AIOKafkaConsumer) -> None:
        """Before a rebalance: let what is out be finished and committed, for a while."""
        if member is not self._member:
            return
        self._is_rebalancing = True
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._link.timing.drain_s
        while self._is_any_out() and member is self._member and loop.time() < give_up_at:
            await notify.wait(self._finished, give_up_at - loop.time())
        if member is self._member:
            if self._is_any_out():
                logger.warning("bus_partitions_revoked_while_out", group=self._group)
            self._disown()

    def own(self, member: AIOKafkaConsumer, assigned: Collection[TopicPartition]) -> None:
        """After a rebalance: these are ours, from what was committed on."""
        if member is not self._member:
            return
        for topic, partition in assigned:
            self._owned.setdefault(Partition(topic, partition), _Owned())
        self._is_rebalancing = False
        metrics.bus_partitions.labels(self._group).set(len(self._owned))
        logger.info("bus_partitions_assigned", group=self._group, partitions=len(self._owned))
        self._may_take.set()

    def progress(self) -> kafka_liveness.Progress:
        """How far this member has read; see `kafka_liveness.watch`."""
        return kafka_liveness.Progress(
            is_rebalancing=self._is_rebalancing,
            is_busy=any(owned.is_out or owned.waiting for owned in self._owned.values()),
            read_to={partition: owned.read_to for partition, owned in self._owned.items()},
        )

    async def _be_member(self) -> None:
        timing = self._link.timing
        member = self._link.reader(
            group_id=self._group,
            group_instance_id=self._link.instance_id,
            session_timeout_ms=round(timing.session_s * 1000),
            heartbeat_interval_ms=round(timing.heartbeat_s * 1000),
            rebalance_timeout_ms=round(timing.rebalance_s * 1000),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            auto_offset_reset="earliest",
        )
        self._member = member
        try:
            async with asyncio.timeout(timing.request_s):
                await member.start()
            member.subscribe(self._topics, listener=_Listener(self, member))
            await _first_to_end(
                self._read_on(member),
                kafka_liveness.watch(
                    self.progress, self._offsets, self._group, self._topics, timing
                ),
            )
        finally:
            self._member = None
            self._is_rebalancing = True
            self._disown()
            self._finished.set()
            await kafka_access.stop(member.stop, timing.request_s)

    async def _read_on(self, member: AIOKafkaConsumer) -> None:
        while True:
            # Between its last wait and our holding of what it found nothing is awaited, so neither
            # a rebalance nor a cancellation comes between.
            found = await member.getmany(timeout_ms=POLL_MS)
            for (topic, partition), records in found.items():
                self._hold(member, Partition(topic, partition), records)
            if found:
                self._may_take.set()

    def _hold(
        self, member: AIOKafkaConsumer, partition: Partition, records: Sequence[ConsumerRecord]
    ) -> None:
        # The first records may come before `on_partitions_assigned`.
        owned = self._owned.setdefault(partition, _Owned())
        held = [kafka_access.received(record) for record in records]
        owned.waiting.extend(held)
        owned.waiting_bytes += sum(map(_size, held))
        owned.read_to = held[-1].offset + 1
        if owned.waiting_bytes >= READ_AHEAD_BYTES and not owned.is_paused:
            owned.is_paused = True
            member.pause(TopicPartition(*partition))

    def _take(self) -> Batch | None:
        room = self._max_outstanding - self._outstanding
        if self._is_rebalancing or room <= 0:
            return None
        free = [each for each in self._owned.items() if each[1].waiting and not each[1].is_out]
        if not free:
            return None
        partition, owned = min(free, key=lambda each: each[1].waiting[0].published_at)
        count = min(len(owned.waiting), self._max_batch, room)
        records = tuple(owned.waiting.popleft() for _ in range(count))
        owned.waiting_bytes -= sum(map(_size, records))
        owned.is_out = True
        self._outstanding += count
        if owned.is_paused and owned.waiting_bytes < READ_AHEAD_BYTES:
            owned.is_paused = False
            assert self._member is not None
            self._member.resume(TopicPartition(*partition))
        return Batch(*partition, self._generation, records)

    async def _commit(self, calls: Sequence[_Commit]) -> list[bool]:
        member = self._member
        valid = [call for call in calls if self._of(call.batch) is not None]
        if not valid or member is None:
            return [False] * len(calls)
        offsets = {
            TopicPartition(call.batch.topic, call.batch.partition): call.next_offset
            for call in valid
        }
        generation = self._generation
        try:
            async with asyncio.timeout(self._link.timing.commit_s):
                await member.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # Out of the group; aiokafka joins again by itself, and revokes first.
            self._is_rebalancing |= generation == self._generation
            return [False] * len(calls)
        except kafka_access.DRIVER_ERRORS as exc:
            raise TimeoutError from exc
        for call in valid:
            owned = self._of(call.batch)
            if owned is not None:
                owned.committed = call.next_offset
        return [call in valid for call in calls]

    def _of(self, batch: Batch) -> _Owned | None:
        if batch.generation != self._generation:
            return None
        return self._owned.get(Partition(batch.topic, batch.partition))

    def _is_any_out(self) -> bool:
        return any(owned.is_out for owned in self._owned.values())

    def _disown(self) -> None:
        self._owned.clear()
        self._generation += 1
        metrics.bus_partitions.labels(self._group).set(0)


def _size(record: Received) -> int:
    return _RECORD_BYTES + len(record.key) + len(record.value)


async def _first_to_end(*loops: Coroutine[Any, Any, None]) -> None:
    """Run the loops until one of them ends or fails, and raise its failure."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
