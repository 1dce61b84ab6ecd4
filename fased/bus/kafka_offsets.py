"""Questions to the brokers: partitions, where they end, what a group has done. Decides nothing.

Its clients are opened by the first question and dropped after a failure, so that each later
question begins anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError, for_code

from fased.bus import kafka_access
from fased.bus.kafka_access import Link
from fased.store.buslog import Partition

RETRY_S = 0.2

Answer = TypeVar("Answer")


class KafkaOffsets:
    """Asks on connections of its own, so that an answer tells nothing about a member's."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._asking = asyncio.Lock()
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None

    async def ends(self, topics: Sequence[str]) -> dict[Partition, int]:
        """The offset after the last record of each partition; raises Unavailable."""
        return await self._ask(lambda: self._ends(topics))

    async def lag(
        self, group: str, topics: Sequence[str], of: Collection[Partition] | None = None
    ) -> int:
        """Records the group has not committed, of the topics or only of some partitions.

        What retention has deleted does not count. Raises Unavailable.
        """
        return await self._ask(lambda: self._lag(group, topics, of))

    async def close(self) -> None:
        """Close what was opened."""
        async with self._asking:
            await self._drop()

    async def _ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        with kafka_access.translated():
            async with asyncio.timeout(self._link.timing.answer_s), self._asking:
                while True:
                    try:
                        return await self._connected(question)
                    except kafka_access.DRIVER_ERRORS as exc:
                        if not getattr(exc, "retriable", True):
                            raise
                    await asyncio.sleep(RETRY_S)

    async def _connected(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            if self._admin is None:
                self._admin = AIOKafkaAdminClient(**self._link.options())
                await self._admin.start()
            if self._reader is None:
                self._reader = self._link.reader()
                await self._reader.start()
            return await question()
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        admin, self._admin = self._admin, None
        reader, self._reader = self._reader, None
        if admin is not None:
            await kafka_access.stop(admin.close, self._link.timing.answer_s)
        if reader is not None:
            await kafka_access.stop(reader.stop, self._link.timing.answer_s)

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        assert self._admin is not None
        found = await self._admin.describe_topics(list(topics))
        for topic in found:
            if topic["error_code"]:
                raise for_code(topic["error_code"])(topic["topic"])
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in found
            for partition in topic["partitions"]
        ]

    async def _ends(self, topics: Sequence[str]) -> dict[Partition, int]:
        assert self._reader is not None
        ends = await self._reader.end_offsets(await self._partitions(topics))
        return {Partition(*each): end for each, end in ends.items()}

    async def _lag(
        self, group: str, topics: Sequence[str], of: Collection[Partition] | None
    ) -> int:
        assert self._reader is not None
        assert self._admin is not None
        partitions = await self._partitions(topics)
        if of is not None:
            partitions = [each for each in partitions if Partition(*each) in of]
        if not partitions:
            return 0
        begins = await self._reader.beginning_offsets(partitions)
        ends = await self._reader.end_offsets(partitions)
        done = await self._admin.list_consumer_group_offsets(group, partitions=partitions)
        if not done.keys() >= set(partitions):
            # The library drops an error of the answer as a whole: the coordinator is starting.
            raise GroupLoadInProgressError(group)
        return sum(max(0, ends[each] - max(begins[each], done[each].offset)) for each in partitions)
