"""Carries events from a service's outbox to the bus. Decides when and how many at once.

Any number of relays may run: a shard is held by one at a time, for the length of a pass, so what
is in a shard leaves in its order. One that dies between the bus's answer and the delete leaves
its events to be sent again, under the same ids.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import structlog

from fased.bus import cloudevents
from fased.bus.port import Publisher, Record
from fased.core.events import OutboxEvent
from fased.store import database, notify, outbox
from fased.store.outbox import OutboxRow
from fased.telemetry import metrics, tracing

BATCH = 500
POLL_S = 1.0
# Shorter than the database lets a transaction idle, or the shards would be another's meanwhile.
PUBLISH_TIMEOUT_S = 6.0
RETRY_FIRST_S = 0.1
RETRY_CAP_S = 5.0

logger = structlog.get_logger(__name__)


async def run_relay(
    pool: "asyncpg.Pool[asyncpg.Record]",
    bus: Publisher,
    schema: str,
    hints: notify.Hints,
    *,
    stop: asyncio.Event,
    poll_s: float = POLL_S,
) -> None:
    """Relay the outbox of `schema` until `stop` is set; the pass under way is finished.

    Whoever inserts sends the hint `outbox.hint_name(schema)` after its commit.
    """
    stirred = asyncio.Event()
    failures = turn = 0
    with hints.listen(stirred.set, outbox.hint_name(schema)):
        while not stop.is_set():
            stirred.clear()
            try:
                sent = await relay_once(pool, bus, schema, turn)
            except Exception as exc:
                # Whatever it is, the events stay where they are, in order, and nothing is lost.
                failures += 1
                metrics.outbox_failures.labels(schema).inc()
                why = database.log_fields(exc)
                logger.warning("relay_failed", schema=schema, failures=failures, **why)
                delay_s = min(RETRY_FIRST_S * 2.0 ** min(failures, 16), RETRY_CAP_S)
                await notify.wait_any(delay_s * random.uniform(0.5, 1.0), stop)
                continue
            failures = 0
            turn += 1
            if sent < BATCH:
                await notify.wait_any(poll_s * random.uniform(1, 2), stirred, stop)


async def relay_once(
    pool: "asyncpg.Pool[asyncpg.Record]", bus: Publisher, schema: str, turn: int = 0
) -> int:
    """One pass over the shards that no other relay holds, beginning at shard `turn`.

    Answers how many events were sent: `BATCH` or more when others may wait.
    """
    async with pool.acquire() as conn, conn.transaction():
        shards = await outbox.lock_shards(conn, schema)
        if not shards:
            return 0
        first = turn % len(shards)
        rows = await outbox.take(conn, schema, shards[first:] + shards[:first], BATCH)
        if not rows:
            return 0
        await _publish(bus, schema, rows)
        await outbox.delete(conn, schema, rows)
    oldest = min(row.created_at for row in rows)
    sent = sum(len(row.events) for row in rows)
    metrics.outbox_relayed.labels(schema).inc(sent)
    metrics.outbox_delay_seconds.labels(schema).observe(
        max(0.0, (datetime.now(UTC) - oldest).total_seconds())
    )
    return sent


async def _publish(bus: Publisher, schema: str, rows: Sequence[OutboxRow]) -> None:
    waiting = [(event, row.created_at) for row in rows for event in row.events]
    spans = [(event.topic, _headers(schema, event, at), at) for event, at in waiting]
    with tracing.published(spans) as renewed:
        async with asyncio.timeout(PUBLISH_TIMEOUT_S):
            await bus.publish(
                [
                    Record(event.topic, event.key, event.value, headers)
                    for (event, _), headers in zip(waiting, renewed, strict=True)
                ]
            )


def _headers(schema: str, event: OutboxEvent, at: datetime) -> dict[str, str]:
    attributes = cloudevents.attributes(
        event_id=event.event_id, type_=event.topic, source=f"/fased/{schema}", at=at
    )
    return {**attributes, **event.headers}
