"""Tails on Kafka: one reader a process, without a group, handed out to every follower. Loss is
allowed here.

Decides what is read (the partitions that anybody follows) and from where (their ends, as the first
follower found them). What a slow follower loses is `tails.Subscription`'s.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from fased.bus import kafka_access
from fased.bus.kafka_access import Link
from fased.bus.tails import Subscription
from fased.store.buslog import Partition

POLL_MS = 1000
RETRY_S = 0.5
SILENCE_S = 300.0

logger = structlog.get_logger(__name__)


class KafkaTails:
    """The followers of one process and the reader they share."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._followers: set[Subscription] = set()
        self._positions: dict[Partition, int] = {}
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(
        self, ends: Mapping[Partition, int], max_waiting: int
    ) -> AsyncIterator[Subscription]:
        """Follow partitions from where they ended; `ends` names them all."""
        subscription = Subscription(dict(ends), max_waiting)
        self._followers.add(subscription)
        for partition, end in ends.items():
            self._positions.setdefault(partition, end)
        if self._reader is None:
            self._reader = asyncio.create_task(self._keep_reading(), name="bus-tails")
        try:
            yield subscription
        finally:
            await self._forget(subscription)

    async def _forget(self, subscription: Subscription) -> None:
        self._followers.discard(subscription)
        followed = {each for follower in self._followers for each in follower.starts}
        self._positions = {p: at for p, at in self._positions.items() if p in followed}
        if not self._followers and self._reader is not None:
            reader, self._reader = self._reader, None
            reader.cancel()
            await asyncio.wait({reader})
            if not reader.cancelled():
                reader.result()

    async def _keep_reading(self) -> None:
        while True:
            reader = self._link.reader(auto_offset_reset="latest")
            try:
                async with asyncio.timeout(self._link.timing.request_s):
                    await reader.start()
                await self._read_on(reader)
            except kafka_access.DRIVER_ERRORS as exc:
                logger.warning("bus_tail_waits", error=type(exc).__name__)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
            finally:
                await kafka_access.stop(reader.stop, self._link.timing.answer_s)

    async def _read_on(self, reader: AIOKafkaConsumer) -> None:
        """Read until nothing has come for long, then let the reader be opened anew: if the silence
        is its own fault, that ends it.
        """
        loop = asyncio.get_running_loop()
        assigned: set[Partition] = set()
        heard_at = loop.time()
        while loop.time() - heard_at < SILENCE_S:
            if self._positions.keys() != assigned:
                assigned = set(self._positions)
                reader.assign([TopicPartition(*each) for each in assigned])
                for each, at in self._positions.items():
                    reader.seek(TopicPartition(*each), at)
            found = await reader.getmany(timeout_ms=POLL_MS)
            for partition, records in found.items():
                heard_at = loop.time()
                self._hand_out(Partition(*partition), records)

    def _hand_out(self, partition: Partition, records: Sequence[ConsumerRecord]) -> None:
        if partition not in self._positions:
            return
        self._positions[partition] = records[-1].offset + 1
        for record in map(kafka_access.received, records):
            for follower in self._followers:
                follower.offer(record)
