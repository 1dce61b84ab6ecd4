"""The bus on Kafka, for many processes. Decides what is asked of which client.

Its producer is `kafka_producer.py`, its consumers `kafka_consumer.py`, its tails `kafka_tails.py`;
topics are made beforehand by `kafka_topics.py`. No Kafka transactions: an effect happens once by
its own key.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

from fased.bus import kafka_access, topics
from fased.bus.kafka_access import TIMING, Link, Timing
from fased.bus.kafka_consumer import KafkaConsumer
from fased.bus.kafka_offsets import KafkaOffsets
from fased.bus.kafka_producer import KafkaProducer
from fased.bus.kafka_tails import KafkaTails
from fased.bus.port import MAX_BATCH, MAX_OUTSTANDING, MAX_TAIL_WAITING, Received, Record
from fased.core.errors import InvalidArgument
from fased.store import background, outbox
from fased.telemetry import metrics


@asynccontextmanager
async def open_kafka(
    bootstrap: str,
    *,
    client_id: str,
    instance_id: str | None = None,
    known: tuple[topics.Topic, ...] = topics.ALL,
    timing: Timing = TIMING,
    security: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator["KafkaBus"]:
    """The bus on the brokers at `bootstrap` (`host:port`, by commas), whose topics are made.

    `instance_id` makes the members of groups static, see `kafka_access.Link`; it must be another
    in each process; `security` is of `kafka_security.py`. Raises Unavailable when no broker
    lets us in.
    """
    link = Link(bootstrap, client_id, instance_id, timing, security)
    async with AsyncExitStack() as stack:
        producer = KafkaProducer(link)
        stack.push_async_callback(producer.close)
        with kafka_access.connecting(bootstrap):
            await producer.start()
        offsets = KafkaOffsets(link)
        stack.push_async_callback(offsets.close)
        yield KafkaBus(link, producer, offsets, known)


class KafkaBus:
    """The bus port over one producer; each consumer has its own connections."""

    def __init__(
        self,
        link: Link,
        producer: KafkaProducer,
        offsets: KafkaOffsets,
        known: tuple[topics.Topic, ...],
    ) -> None:
        self._link = link
        self._producer = producer
        self._offsets = offsets
        self._known = frozenset(topic.name for topic in known)
        self._tails = KafkaTails(link)

    async def publish(self, records: Sequence[Record]) -> None:
        """See `port.Bus`."""
        if not records:
            return
        for record in records:
            self._check(record)
        with kafka_access.translated():
            await self._producer.publish(records)
        for record in records:
            metrics.bus_published.labels(record.topic).inc()

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        max_batch: int = MAX_BATCH,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> AbstractAsyncContextManager[KafkaConsumer]:
        """See `port.Bus`."""
        for topic in topics:
            self._check_topic(topic)
        return self._consuming(
            KafkaConsumer(
                self._link,
                self._offsets,
                group,
                tuple(topics),
                max_batch=max_batch,
                max_outstanding=max_outstanding,
            )
        )

    def tail(
        self, topics: Sequence[str], *, max_waiting: int = MAX_TAIL_WAITING
    ) -> AbstractAsyncContextManager[AsyncIterator[Received]]:
        """See `port.Bus`."""
        for topic in topics:
            self._check_topic(topic)
        return self._tailing(topics, max_waiting)

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """See `port.Bus`."""
        return await self._offsets.lag(group, topics)

    def _check(self, record: Record) -> None:
        self._check_topic(record.topic)
        if len(record.value) > outbox.MAX_VALUE_BYTES:
            raise InvalidArgument(
                f"the record is larger than {outbox.MAX_VALUE_BYTES} bytes",
                reason="EVENT_TOO_LARGE",
                metadata={"field": "value", "topic": record.topic},
            )

    def _check_topic(self, topic: str) -> None:
        if topic not in self._known:
            raise InvalidArgument(
                f"there is no bus topic {topic!r}",
                reason="TOPIC_UNKNOWN",
                metadata={"field": "topic"},
            )

    @asynccontextmanager
    async def _consuming(self, consumer: KafkaConsumer) -> AsyncIterator[KafkaConsumer]:
        async with background.beside(consumer.keep_membership(), "bus-membership"):
            yield consumer

    @asynccontextmanager
    async def _tailing(
        self, names: Sequence[str], max_waiting: int
    ) -> AsyncIterator[AsyncIterator[Received]]:
        ends = await self._offsets.ends(names)
        async with self._tails.follow(ends, max_waiting) as subscription:
            yield subscription
