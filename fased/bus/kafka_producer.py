"""The publishing half of the Kafka bus. Decides how many publish at once, how long they wait, and
when the producer is replaced.

The producer is idempotent and tries for ever, so records of a partition keep their order. One that
has failed a record would answer all later ones with a gap in its numbers, and one that got no
answer for long holds records that nobody waits for: both are replaced, and what they held is
dropped.
"""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer

from fased.bus import kafka_access
from fased.bus.kafka_access import Link
from fased.bus.port import Record

# One request to a broker is under way at a time and the next batches grow meanwhile: lingering
# would only add to the latency of a lone record.
LINGER_MS = 0
BATCH_BYTES = 128 * 1024
# All that wait for a full batch are woken when it leaves, so no more than these wait inside.
MAX_PUBLISHES = 256

logger = structlog.get_logger(__name__)


class KafkaProducer:
    """Publishes through one aiokafka producer at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._turns = asyncio.Semaphore(MAX_PUBLISHES)
        self._answered_at = 0.0
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; raises what the driver raises when no broker answers."""
        async with asyncio.timeout(self._link.timing.publish_s):
            await self._current()

    async def publish(self, records: Sequence[Record]) -> None:
        """Append the records in order; raises the driver's errors."""
        loop = asyncio.get_running_loop()
        producer = None
        try:
            async with asyncio.timeout(self._link.timing.publish_s), self._turns:
                producer = await self._current()
                await self._send(producer, records)
        except TimeoutError:
            if loop.time() - self._answered_at >= self._link.timing.publish_s:
                self._replace(producer, "SILENT")
            raise
        self._answered_at = loop.time()

    async def close(self) -> None:
        """Flush what is under way, for a moment, and close."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._end(producer, patience_s=self._link.timing.answer_s)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        futures = [
            await producer.send(
                record.topic,
                value=record.value,
                key=record.key.encode(),
                headers=kafka_access.headers(record.headers),
            )
            for record in records
        ]
        await asyncio.wait(futures)
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            self._replace(producer, type(errors[0]).__name__)
            raise errors[0]

    async def _current(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    max_batch_size=BATCH_BYTES,
                    **self._link.options(),
                )
                try:
                    await producer.start()
                except BaseException:
                    self._end(producer, patience_s=0)
                    raise
                self._producer = producer
                self._answered_at = asyncio.get_running_loop().time()
            return self._producer

    def _replace(self, producer: AIOKafkaProducer | None, why: str) -> None:
        if producer is None or producer is not self._producer:
            return
        logger.warning("bus_producer_replaced", why=why)
        self._producer = None
        self._end(producer, patience_s=0)

    def _end(self, producer: AIOKafkaProducer, *, patience_s: float) -> None:
        task = asyncio.create_task(_close(producer, patience_s), name="bus-producer-end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _close(producer: AIOKafkaProducer, patience_s: float) -> None:
    closing = asyncio.ensure_future(producer.stop())
    await asyncio.wait({closing}, timeout=patience_s)
    sender = producer._sender.sender_task
    if not closing.done() and sender is not None:
        # `stop` waits for a flush or for the end of the sender; without a broker only this ends it.
        sender.cancel()
    await kafka_access.stop(lambda: closing, 2 * patience_s + 5)
