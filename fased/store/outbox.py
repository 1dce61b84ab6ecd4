"""The outbox: events written in their cause's transaction, taken in order by the relay.

Decides the rows and the order in which they are taken; which events share one is
`core/events.py`, publishing is `bus/relay.py`. One table shape stands in the schema of every
service that emits.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fased.core.errors import InvalidArgument
from fased.core.events import OUTBOX_SHARDS, OutboxEvent, outbox_rows
from fased.store.database import Connection
from fased.telemetry import tracing
from fased.wire import outbox as wire

SCHEMAS = ("scheduler", "router", "channels")
# Kafka takes 1 MiB with headers and framing; what no bus can carry must not enter an outbox.
MAX_VALUE_BYTES = 900 * 1024


class OutboxRow(NamedTuple):
    """Events that wait, in order: of one transaction and one shard."""

    shard: int
    id: int
    events: Sequence[OutboxEvent]
    created_at: datetime


def hint_name(schema: str) -> str:
    """The hint to send after the commit of a transaction that inserted."""
    return f"outbox/{_known(schema)}"


async def insert(conn: Connection, schema: str, events: Sequence[OutboxEvent]) -> None:
    """Write events in the caller's transaction; for one key they leave in this order.

    An event without trace context gets the current one. Raises InvalidArgument for an event that
    the bus cannot carry.
    """
    if not events:
        return
    for event in events:
        _check(event)
    trace = tracing.inject({})
    if trace:
        events = [event._replace(headers=trace | dict(event.headers)) for event in events]
    rows = [(shard, len(row), wire.pack(row)) for shard, row in outbox_rows(events)]
    await conn.execute(
        f"""INSERT INTO {_known(schema)}.outbox (shard, events, packed)
            SELECT s, e, p FROM unnest($1::smallint[], $2::int[], $3::bytea[])
              WITH ORDINALITY u(s, e, p, i) ORDER BY i""",
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def lock_shards(conn: Connection, schema: str) -> list[int]:
    """Take the shards that no other relay holds, until the transaction ends.

    A separate statement from `take`: its snapshot must be younger than the locks, or it would
    show rows that the last holder has deleted.
    """
    rows = await conn.fetch(
        """SELECT s FROM generate_series(0, $2 - 1) s
            WHERE pg_try_advisory_xact_lock(hashtext('outbox/' || $1), s)""",
        _known(schema),
        OUTBOX_SHARDS,
    )
    return [row["s"] for row in rows]


async def take(conn: Connection, schema: str, shards: Sequence[int], limit: int) -> list[OutboxRow]:
    """The first rows of locked shards, to `limit` events and the end of a row.

    Shard by shard as given, in order in each. Uses the primary key.
    """
    rows = await conn.fetch(
        f"""SELECT shard, id, packed, created_at FROM (
              SELECT o.*, a.turn,
                     sum(o.events) OVER (ORDER BY a.turn, o.id) - o.events AS before
                FROM unnest($1::smallint[]) WITH ORDINALITY a(shard, turn)
               CROSS JOIN LATERAL (
                 SELECT * FROM {_known(schema)}.outbox b
                  WHERE b.shard = a.shard ORDER BY b.id LIMIT $2) o
               ORDER BY a.turn, o.id LIMIT $2) first
             WHERE before < $2 ORDER BY turn, id""",
        list(shards),
        limit,
    )
    return [
        OutboxRow(row["shard"], row["id"], wire.unpack(row["packed"]), row["created_at"])
        for row in rows
    ]


async def delete(conn: Connection, schema: str, rows: Sequence[OutboxRow]) -> None:
    """Forget events that the bus has acknowledged."""
    await conn.execute(
        f"""DELETE FROM {_known(schema)}.outbox o USING unnest($1::smallint[], $2::bigint[]) u(s, i)
             WHERE o.shard = u.s AND o.id = u.i""",
        [row.shard for row in rows],
        [row.id for row in rows],
    )


def _known(schema: str) -> str:
    if schema not in SCHEMAS:
        raise ValueError(f"no outbox in schema {schema!r}")
    return schema


def _check(event: OutboxEvent) -> None:
    if len(event.value) > MAX_VALUE_BYTES:
        raise InvalidArgument(
            f"the event is too large for the bus: more than {MAX_VALUE_BYTES} bytes",
            reason="EVENT_TOO_LARGE",
            metadata={"field": "value", "topic": event.topic},
        )
    if "\0" in event.key or (
        event.headers and any("\0" in text for text in event.headers.values())
    ):
        raise InvalidArgument(
            "the event's key or a header holds a zero character",
            reason="EVENT_KEY_INVALID",
            metadata={"field": "key", "topic": event.topic},
        )
