"""Deliveries and their chunks in rows. Functions take a connection; the caller owns the
transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.delivery import Chunk, Delivery, DeliveryState, Outcome
from fased.core.messages import OutboundMessage, Peer, PeerKind, Target, Thread, ThreadKind
from fased.core.names import AccountId, ChannelId, Namespace, RunId
from fased.store.database import Connection
from fased.store.tables.channels import delivery, delivery_chunk


async def is_known(conn: Connection, namespace: Namespace, delivery_id: UUID) -> bool:
    """Whether a delivery was taken in already."""
    return bool(
        await conn.fetchval(
            "SELECT true FROM channels.delivery WHERE namespace = $1 AND id = $2",
            namespace,
            delivery_id,
        )
    )


async def insert(
    conn: Connection,
    message: OutboundMessage,
    delivery_id: UUID,
    outcome: Outcome,
    *,
    outbound: bytes = b"",
    traceparent: str = "",
) -> datetime:
    """Keep a delivery with its chunks; gives when. Raises UniqueViolationError on a known id.

    A pending one joins the end of its chat's lane, with what sending it needs.
    """
    target, thread = message.target, message.target.thread
    is_pending = outcome.state is DeliveryState.PENDING
    created_at: datetime = await conn.fetchval(
        """WITH d AS (
             INSERT INTO channels.delivery
               (namespace, id, channel, account_id, peer_kind, peer_id, thread_kind, thread_id,
                reply_to_id, run_id, state, reason, message, not_before, expires_at, outbound,
                traceparent)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $19, $20, $21, $22)
             RETURNING created_at),
           c AS (
             INSERT INTO channels.delivery_chunk
               (namespace, delivery_id, ordinal, state, text, receipt, plain)
             SELECT $1, $2, u.*
               FROM unnest($14::int[], $15::text[], $16::text[], $17::text[], $18::text[]) u),
           l AS (
             INSERT INTO channels.delivery_lane AS lane
               (namespace, channel, account_id, peer_kind, peer_id, waiting, next_at)
             SELECT $1, $3, $4, $5, $6, 1, greatest($19, public.fased_now())
              WHERE $11 = 'pending'
             ON CONFLICT (namespace, channel, account_id, peer_kind, peer_id) DO UPDATE
               SET waiting = lane.waiting + 1)
           SELECT created_at FROM d""",
        message.namespace,
        delivery_id,
        target.channel,
        target.account_id,
        target.peer.kind,
        target.peer.id,
        thread.kind if thread else None,
        thread.id if thread else "",
        target.reply_to_id,
        message.run_id,
        outcome.state,
        outcome.reason,
        outcome.message,
        [chunk.ordinal for chunk in outcome.chunks],
        [chunk.state for chunk in outcome.chunks],
        [chunk.text for chunk in outcome.chunks],
        [chunk.receipt for chunk in outcome.chunks],
        [chunk.plain for chunk in outcome.chunks],
        message.not_before,
        message.expires_at,
        outbound if is_pending else None,
        traceparent if is_pending else "",
    )
    return created_at


async def get(conn: AsyncConnection, namespace: Namespace, delivery_id: UUID) -> Delivery | None:
    """One delivery by primary key, with its chunks."""
    query = select(delivery).where(delivery.c.namespace == namespace, delivery.c.id == delivery_id)
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else (await _with_chunks(conn, namespace, [row]))[0]


async def list_before(
    conn: AsyncConnection,
    namespace: Namespace,
    state: DeliveryState | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Delivery]:
    """Deliveries before a position, the latest first, with their chunks.

    By index delivery_created, or delivery_unsent for a state.
    """
    query = select(delivery).where(delivery.c.namespace == namespace)
    if state is not None:
        query = query.where(delivery.c.state == state)
    if before is not None:
        query = query.where(tuple_(delivery.c.created_at, delivery.c.id) < before)
    query = query.order_by(delivery.c.created_at.desc(), delivery.c.id.desc()).limit(limit)
    return await _with_chunks(conn, namespace, (await conn.execute(query)).all())


async def _with_chunks(
    conn: AsyncConnection, namespace: Namespace, rows: Sequence[Row[Any]]
) -> list[Delivery]:
    chunks: dict[UUID, list[Chunk]] = {row.id: [] for row in rows}
    query = (
        select(delivery_chunk)
        .where(delivery_chunk.c.namespace == namespace, delivery_chunk.c.delivery_id.in_(chunks))
        .order_by(delivery_chunk.c.delivery_id, delivery_chunk.c.ordinal)
    )
    for row in await conn.execute(query):
        chunks[row.delivery_id].append(
            Chunk(
                row.ordinal,
                DeliveryState(row.state),
                row.text,
                row.receipt,
                row.plain,
                row.is_plain,
                row.attempts,
                row.unknowns,
            )
        )
    return [_delivery(row, tuple(chunks[row.id])) for row in rows]


def _delivery(row: Row[Any], chunks: tuple[Chunk, ...]) -> Delivery:
    return Delivery(
        namespace=Namespace(row.namespace),
        id=row.id,
        target=Target(
            ChannelId(row.channel),
            AccountId(row.account_id),
            Peer(PeerKind(row.peer_kind), row.peer_id),
            Thread(ThreadKind(row.thread_kind), row.thread_id) if row.thread_kind else None,
            row.reply_to_id,
        ),
        outcome=Outcome(DeliveryState(row.state), chunks, row.reason, row.message),
        run_id=None if row.run_id is None else RunId(row.run_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
