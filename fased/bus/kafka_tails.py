"""Tails on Kafka: one reader a process, without a group, handed out to every follower. Loss is
allowed here.

Decides what is read (the partitions that anybody follows) and from where (their ends, as the first
follower found them). What a slow follower loses is `tails.Subscription`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from fased.bus import kafka_access
from fased.bus.kafka_access import Link, Partition
from fased.bus.tails import Subscription

POLL_MS = 1000
RETRY_S = 0.5

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
        subscription = Subscription({**ends}, max_waiting)
        self._followers.add(subscription)
        for partition, end in ends.items():
            self._positions.setdefault(partition, end)
        await self._read_anew()
        try:
            yield subscription
        finally:
            self._followers.discard(subscription)
            followed = {each for follower in self._followers for each in follower.starts}
            self._positions = {p: at for p, at in self._positions.items() if p in followed}
            await self._read_anew()

    async def _read_anew(self) -> None:
        reader, self._reader = self._reader, None
        if self._positions:
            self._reader = asyncio.create_task(self._keep_reading(), name="bus-tails")
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})
            if not reader.cancelled():
                reader.result()
