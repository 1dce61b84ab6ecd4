"""The loop that keeps a consumer alive. Decides what is tried again, what is poison, and when an
offset is committed; the effect decides how it happens only once.

Each batch is worked on beside those of other partitions. A failure that waiting may mend is tried
again for ever and pauses its own partition; any other is narrowed down to single records, and one
that still fails goes to the dead letters while its partition moves on.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from fased.bus import topics as bus_topics
from fased.bus.port import (
    MAX_BATCH,
    MAX_OUTSTANDING,
    Batch,
    Bus,
    Consumer,
    PartitionLost,
    Received,
    Record,
)
from fased.core.errors import (
    Aborted,
    DeadlineExceeded,
    FasedError,
    ResourceExhausted,
    Unavailable,
)
from fased.store import notify, transient
from fased.telemetry import metrics, tracing

Effect = Callable[[Sequence[Received]], Awaitable[None]]

_TRANSIENT = (Unavailable, Aborted, ResourceExhausted, DeadlineExceeded)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one consumer. `poison_tries` counts the tries of a single record.

    After each batch its partition rests for `rest_s`, in which the next one grows: for effects
    that nobody waits for.
    """

    max_batch: int = MAX_BATCH
    max_outstanding: int = MAX_OUTSTANDING
    poison_tries: int = 5
    retry_first_s: float = 0.1
    retry_cap_s: float = 5.0
    rest_s: float = 0.0


LIMITS = Limits()


class _GivenUp(Exception):
    """The batch is no longer ours to finish: we stop, or the partition goes to another member."""


async def run_consumer(
    bus: Bus,
    group: str,
    topics: Sequence[str],
    effect: Effect,
    *,
    stop: asyncio.Event,
    limits: Limits = LIMITS,
) -> None:
    """Consume until `stop` is set; then finish the effects under way, without new tries.

    `effect` gets records of one partition, in order, and may get any of them again. Records whose
    effect was not finished stay uncommitted, for the next member.
    """
    async with (
        bus.consumer(
            group, topics, max_batch=limits.max_batch, max_outstanding=limits.max_outstanding
        ) as consumer,
        asyncio.TaskGroup() as tasks,
    ):
        work = _Work(bus, consumer, group, effect, stop, limits)
        stopped = tasks.create_task(stop.wait())
        while not stop.is_set():
            taking = tasks.create_task(consumer.next_batch())
            await asyncio.wait({taking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                tasks.create_task(work.carry_out(taking.result()))
            else:
                taking.cancel()


class _Work:
    """What is done with a batch."""

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        group: str,
        effect: Effect,
        stop: asyncio.Event,
        limits: Limits,
    ) -> None:
        self._bus = bus
        self._consumer = consumer
        self._group = group
        self._effect = effect
        self._stop = stop
        self._limits = limits

    async def carry_out(self, batch: Batch) -> None:
        """Bring the batch to its end, whatever that is, and let the partition go on."""
        try:
            await self._apply(batch)
            if self._limits.rest_s:
                await notify.wait_any(self._limits.rest_s, self._stop)
        except (_GivenUp, PartitionLost) as exc:
            self._count(batch, "abandoned", len(batch.records))
            logger.info("bus_batch_abandoned", why=type(exc).__name__, **self._where(batch))
        finally:
            self._consumer.finish(batch)

    async def _apply(self, batch: Batch) -> None:
        if len(batch.records) > 1:
            error = await self._try(batch, batch.records)
            if error is None:
                await self._commit(batch, batch.next_offset)
                self._count(batch, "consumed", len(batch.records))
                logger.debug("bus_batch_consumed", records=len(batch.records), **self._where(batch))
                return
            logger.warning(
                "bus_batch_isolated",
                records=len(batch.records),
                error=_class_of(error),
                **self._where(batch),
            )
        for record in batch.records:
            outcome = await self._apply_alone(batch, record)
            await self._commit(batch, record.offset + 1)
            self._count(batch, outcome, 1)

    async def _apply_alone(self, batch: Batch, record: Received) -> str:
        for tries in range(1, self._limits.poison_tries + 1):
            error = await self._try(batch, (record,))
            if error is None:
                logger.debug("bus_record_consumed", offset=record.offset, **self._where(batch))
                return "consumed"
            if tries < self._limits.poison_tries:
                await self._pause(batch, tries, error)
        assert error is not None
        letter = dead_letter(record, error, self._limits.poison_tries)
        await self._until_done(batch, lambda: self._bus.publish([letter]))
        logger.error(
            "bus_record_dead_lettered",
            offset=record.offset,
            attempts=self._limits.poison_tries,
            exc_info=error,
            **self._where(batch),
        )
        return "dead_lettered"

    async def _try(self, batch: Batch, records: Sequence[Received]) -> Exception | None:
        """None when the effect is done, or the error that waiting will not mend."""
        failures = 0
        while True:
            try:
                await self._run_effect(batch, records)
            except Exception as exc:
                if not is_transient(exc):
                    return exc
                failures += 1
                await self._pause(batch, failures, exc)
            else:
                return None

    async def _run_effect(self, batch: Batch, records: Sequence[Received]) -> None:
        delay = datetime.now(UTC) - records[0].published_at
        metrics.bus_delay_seconds.labels(self._group, batch.topic).observe(
            max(0.0, delay.total_seconds())
        )
        began_at = time.perf_counter()
        given = [each.headers for each in records]
        with tracing.consumed(f"consume {batch.topic}", given) as renewed:
            await self._effect(
                [replace(each, headers=own) for each, own in zip(records, renewed, strict=True)]
            )
        metrics.bus_effect_seconds.labels(self._group, batch.topic).observe(
            time.perf_counter() - began_at
        )

    async def _commit(self, batch: Batch, next_offset: int) -> None:
        await self._until_done(batch, lambda: self._consumer.commit(batch, next_offset))

    async def _until_done(self, batch: Batch, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
            except PartitionLost:
                raise
            except FasedError as exc:
                if not is_transient(exc):
                    raise
                failures += 1
                await self._pause(batch, failures, exc)
            else:
                return

    async def _pause(self, batch: Batch, failures: int, error: Exception) -> None:
        """Wait before the next try, longer each time; gives up when there should be none."""
        metrics.bus_retries.labels(self._group, batch.topic).inc()
        logger.warning(
            "bus_effect_failed", failures=failures, error=_class_of(error), **self._where(batch)
        )
        delay_s = min(
            self._limits.retry_first_s * 2.0 ** min(failures - 1, 16), self._limits.retry_cap_s
        )
        await notify.wait_any(delay_s * random.uniform(0.5, 1.0), self._stop)
        if self._stop.is_set() or not self._consumer.is_current(batch):
            raise _GivenUp

    def _where(self, batch: Batch) -> dict[str, object]:
        return {"group": self._group, "topic": batch.topic, "partition": batch.partition}

    def _count(self, batch: Batch, outcome: str, records: int) -> None:
        metrics.bus_consumed.labels(self._group, batch.topic, outcome).inc(records)


def is_transient(exc: BaseException) -> bool:
    """Whether waiting may mend it: what the record says is not at fault."""
    return isinstance(exc, _TRANSIENT) or transient.is_transient(exc)


def dead_letter(record: Received, error: BaseException, attempts: int) -> Record:
    """The record as a dead letter: its own headers, and where it came from and why it is here.

    The error's text is left out, since it may quote the message.
    """
    headers = {
        **record.headers,
        "fased-origin-topic": record.topic,
        "fased-origin-partition": str(record.partition),
        "fased-origin-offset": str(record.offset),
        "fased-error": _class_of(error),
        "fased-attempts": str(attempts),
    }
    return Record(bus_topics.DEAD_LETTER, record.key, record.value, headers)


def _class_of(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}:{error.reason}" if isinstance(error, FasedError) else name
