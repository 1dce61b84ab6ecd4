"""Chats that have deliveries to send, and the sends themselves, in rows. Functions take an asyncpg
connection; the caller owns the transaction.

A chat is sent to by one process at a time, which holds its lane until `next_at`. The begin of a
send is stored before it (`begin`) and its end after it (`end`): a chunk that is found in `sending`
by the lane's next holder was begun by one that is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from fased.core.delivery import Chunk, DeliveryState, Step, final_state
from fased.core.messages import Peer, PeerKind, Target, Thread, ThreadKind
from fased.store.channels.accounts import Place
from fased.store.database import Connection


@dataclass(frozen=True, slots=True)
class Lane:
    """A chat that this process sends to."""

    place: Place
    peer: Peer
    generation: int


@dataclass(frozen=True, slots=True)
class Send:
    """A chunk in `sending`. `is_ours` says that we began it now; else its sender is gone.

    `target` has the chat's latest id, and the message to reply to for the first chunk only.
    """

    delivery_id: UUID
    chunk: Chunk
    is_ours: bool
    target: Target
    created_at: datetime
    expires_at: datetime | None
    traceparent: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A delivery that came to an end; `outbound` is the message as it was taken from the bus.

    `is_last` says that its chat has nothing more to send, and was given back.
    """

    delivery_id: UUID
    state: DeliveryState
    reason: str
    message: str
    attempts: int
    at: datetime
    outbound: bytes
    is_last: bool = False


_LANE = """namespace = $1 AND channel = $2 AND account_id = $3
           AND peer_kind = $4 AND peer_id = $5"""


async def claim(
    conn: Connection, place: Place, owner: str, limit: int, ttl: timedelta
) -> list[Lane]:
    """Take chats of an account that are due and that nobody holds, by index delivery_lane_due."""
    rows = await conn.fetch(
        # Materialised: joined as it is, the planner may choose rows anew for each one it updates.
        """WITH due AS MATERIALIZED (
             SELECT peer_kind, peer_id FROM channels.delivery_lane
              WHERE namespace = $1 AND channel = $2 AND account_id = $3
                AND next_at <= public.fased_now()
              ORDER BY next_at LIMIT $5 FOR UPDATE SKIP LOCKED)
           UPDATE channels.delivery_lane l
              SET owner = $4, generation = nextval('channels.lane_generation'),
                  next_at = public.fased_now() + $6::interval
             FROM due
            WHERE l.namespace = $1 AND l.channel = $2 AND l.account_id = $3
              AND l.peer_kind = due.peer_kind AND l.peer_id = due.peer_id
           RETURNING l.peer_kind, l.peer_id, l.generation""",
        *place,
        owner,
        limit,
        ttl,
    )
    return [
        Lane(place, Peer(PeerKind(row["peer_kind"]), row["peer_id"]), row["generation"])
        for row in rows
    ]


async def next_due_s(conn: Connection, place: Place) -> float | None:
    """Seconds until the next chat of an account is due, None where none waits."""
    due_s = await conn.fetchval(
        """SELECT extract(epoch FROM next_at - public.fased_now())::float8
             FROM channels.delivery_lane
            WHERE namespace = $1 AND channel = $2 AND account_id = $3
            ORDER BY next_at LIMIT 1""",
        *place,
    )
    return None if due_s is None else float(due_s)


async def begin(conn: Connection, lane: Lane, ttl: timedelta) -> Send | None:
    """Begin the next send of a held chat, and hold it for `ttl` more, in one statement.

    None when nothing is to be sent now, or the chat is another's: `leave` tells which.
    """
    row = await conn.fetchrow(
        f"""WITH held AS (
              UPDATE channels.delivery_lane SET next_at = public.fased_now() + $7::interval
               WHERE {_LANE} AND generation = $6 RETURNING true),
            head AS (
              SELECT d.id, d.thread_kind, d.thread_id, d.reply_to_id, d.created_at, d.expires_at,
                     d.traceparent, m.new_id, c.ordinal, c.state, c.text, c.plain, c.is_plain,
                     c.attempts, c.unknowns
                FROM held, channels.delivery d
                JOIN channels.delivery_chunk c ON c.namespace = d.namespace AND c.delivery_id = d.id
                LEFT JOIN channels.migrated_chat m
                  ON (m.namespace, m.channel, m.account_id, m.old_id)
                   = (d.namespace, d.channel, d.account_id, d.peer_id)
               WHERE d.namespace = $1 AND d.channel = $2 AND d.account_id = $3
                 AND d.peer_kind = $4 AND d.peer_id = $5 AND d.state = 'pending'
                 AND (d.not_before IS NULL OR d.not_before <= public.fased_now())
                 AND c.state IN ('pending', 'sending')
               ORDER BY d.sequence, c.ordinal LIMIT 1),
            begun AS (
              UPDATE channels.delivery_chunk c SET state = 'sending', attempts = c.attempts + 1
                FROM head WHERE c.namespace = $1 AND c.delivery_id = head.id
                 AND c.ordinal = head.ordinal AND c.state = 'pending' RETURNING true)
            SELECT head.*, EXISTS (SELECT FROM begun) AS is_ours FROM head""",
        *lane.place,
        lane.peer.kind,
        lane.peer.id,
        lane.generation,
        ttl,
    )
    return None if row is None else _send(lane, row)


async def leave(conn: Connection, lane: Lane) -> bool:
    """Give back a held chat that has nothing to send now; True when more came in meanwhile."""
    row = await conn.fetchrow(
        f"""SELECT l.waiting,
                   (SELECT min(d.not_before) FROM channels.delivery d
                     WHERE d.namespace = $1 AND d.channel = $2 AND d.account_id = $3
                       AND d.peer_kind = $4 AND d.peer_id = $5 AND d.state = 'pending'
                       AND d.not_before > public.fased_now()) AS not_before,
                   EXISTS (SELECT FROM channels.delivery d
                     WHERE d.namespace = $1 AND d.channel = $2 AND d.account_id = $3
                       AND d.peer_kind = $4 AND d.peer_id = $5 AND d.state = 'pending'
                       AND (d.not_before IS NULL OR d.not_before <= public.fased_now())) AS is_due
              FROM channels.delivery_lane l WHERE {_LANE} AND generation = $6""",
        *_key(lane),
    )
    if row is None:
        return False
    if row["is_due"]:
        return True
    if row["not_before"] is not None:
        await put_off(conn, lane, row["not_before"])
        return False
    # `waiting` is counted under the row's lock, so a delivery that commits now is not lost.
    status = await conn.execute(
        f"DELETE FROM channels.delivery_lane WHERE {_LANE} AND generation = $6 AND waiting = 0",
        *_key(lane),
    )
    return bool(status == "DELETE 0")


async def put_off(conn: Connection, lane: Lane, until: datetime | None = None) -> None:
    """Give back a held chat, to be sent to again then, or at once."""
    await conn.execute(
        f"""UPDATE channels.delivery_lane
               SET owner = '', next_at = coalesce($7, public.fased_now())
             WHERE {_LANE} AND generation = $6""",
        *_key(lane),
        until,
    )


async def end(conn: Connection, lane: Lane, send: Send, step: Step) -> Ended | None:
    """Store what a send came to, and the end of its delivery where that was the last chunk.

    Nothing happens when the chunk was begun again meanwhile. What comes late, for a chunk that was
    held as unknown, is stored: it is what the platform said.
    """
    row = await conn.fetchrow(
        """UPDATE channels.delivery_chunk
              SET state = $5, receipt = $6, is_plain = $7,
                  unknowns = unknowns + $8::int,
                  text = CASE WHEN $5 = 'sent' THEN '' ELSE text END,
                  plain = CASE WHEN $5 = 'sent' THEN '' ELSE plain END
            WHERE namespace = $1 AND delivery_id = $2 AND ordinal = $3 AND attempts = $4
              AND (state = 'sending' OR state = 'unknown' AND $5 = 'sent')
           RETURNING true""",
        lane.place[0],
        send.delivery_id,
        send.chunk.ordinal,
        send.chunk.attempts,
        step.state,
        step.receipt,
        step.is_plain,
        int(step.is_unknown),
    )
    if row is None:
        return None
    if step.reason:
        await _explain(conn, lane, send, step)
    if step.state is DeliveryState.PENDING:
        await put_off(conn, lane, step.retry_at)
        return None
    return await _end_delivery(conn, lane, send)


async def fail_all(conn: Connection, place: Place, reason: str, message: str) -> list[Ended]:
    """Fail everything that waits to be sent by an account; a send under way becomes unknown."""
    rows = await conn.fetch(
        """WITH chunk AS (
             UPDATE channels.delivery_chunk c
                SET state = CASE c.state WHEN 'sending' THEN 'unknown' ELSE 'failed' END
               FROM channels.delivery d
              WHERE d.namespace = $1 AND d.channel = $2 AND d.account_id = $3
                AND d.state = 'pending' AND c.namespace = $1 AND c.delivery_id = d.id
                AND c.state IN ('pending', 'sending')
             RETURNING c.delivery_id, c.state, c.attempts)
           UPDATE channels.delivery d
              SET state = f.state, reason = $4, message = $5, updated_at = public.fased_now()
             FROM (SELECT delivery_id, max(attempts) AS attempts,
                          CASE WHEN bool_or(state = 'failed') THEN 'failed' ELSE 'unknown' END
                            AS state
                     FROM chunk GROUP BY delivery_id) f
            WHERE d.namespace = $1 AND d.id = f.delivery_id
           RETURNING d.id, d.state, f.attempts, d.updated_at, d.outbound""",
        *place,
        reason,
        message,
    )
    await conn.execute(
        """DELETE FROM channels.delivery_lane
            WHERE namespace = $1 AND channel = $2 AND account_id = $3""",
        *place,
    )
    return [
        Ended(
            row["id"],
            DeliveryState(row["state"]),
            reason,
            message,
            row["attempts"],
            row["updated_at"],
            bytes(row["outbound"] or b""),
        )
        for row in rows
    ]


async def _explain(conn: Connection, lane: Lane, send: Send, step: Step) -> None:
    """Say on the delivery why it is not sent; a refused chunk takes those after it along."""
    await conn.execute(
        """WITH rest AS (
             UPDATE channels.delivery_chunk SET state = 'failed'
              WHERE namespace = $1 AND delivery_id = $2 AND state = 'pending' AND $5)
           UPDATE channels.delivery SET reason = $3, message = $4
            WHERE namespace = $1 AND id = $2""",
        lane.place[0],
        send.delivery_id,
        step.reason,
        step.message,
        step.state is DeliveryState.FAILED,
    )


async def _end_delivery(conn: Connection, lane: Lane, send: Send) -> Ended | None:
    rows: Sequence[asyncpg.Record] = await conn.fetch(
        """SELECT state, attempts FROM channels.delivery_chunk
            WHERE namespace = $1 AND delivery_id = $2""",
        lane.place[0],
        send.delivery_id,
    )
    state = final_state(DeliveryState(row["state"]) for row in rows)
    if state is DeliveryState.PENDING:
        return None
    row = await conn.fetchrow(
        f"""WITH ended AS (
              UPDATE channels.delivery d
                 SET state = $7, updated_at = public.fased_now(),
                     reason = CASE $7 WHEN 'sent' THEN '' ELSE reason END,
                     message = CASE $7 WHEN 'sent' THEN '' ELSE message END,
                     outbound = CASE $7 WHEN 'sent' THEN NULL ELSE d.outbound END
                FROM (SELECT state AS old_state, outbound AS old_outbound FROM channels.delivery
                       WHERE namespace = $1 AND id = $6 FOR UPDATE) old
               WHERE d.namespace = $1 AND d.id = $6
              RETURNING reason, message, updated_at, old_state, old_outbound),
            last AS (
              DELETE FROM channels.delivery_lane
               WHERE {_LANE} AND generation = $8 AND waiting = 1
                 AND (SELECT old_state FROM ended) = 'pending' RETURNING true),
            lane AS (
              UPDATE channels.delivery_lane SET waiting = waiting - 1
               WHERE {_LANE} AND (SELECT old_state FROM ended) = 'pending'
                 AND NOT EXISTS (SELECT FROM last))
            SELECT ended.*, EXISTS (SELECT FROM last) AS is_last FROM ended""",
        *lane.place,
        lane.peer.kind,
        lane.peer.id,
        send.delivery_id,
        state,
        lane.generation,
    )
    attempts = max(row["attempts"] for row in rows)
    assert row is not None
    return Ended(
        send.delivery_id,
        state,
        row["reason"],
        row["message"],
        attempts,
        row["updated_at"],
        bytes(row["old_outbound"] or b""),
        row["is_last"],
    )


def _key(lane: Lane) -> tuple[object, ...]:
    return (*lane.place, lane.peer.kind, lane.peer.id, lane.generation)


def _send(lane: Lane, row: asyncpg.Record) -> Send:
    thread = row["thread_kind"] and Thread(ThreadKind(row["thread_kind"]), row["thread_id"])
    is_ours: bool = row["is_ours"]
    return Send(
        delivery_id=row["id"],
        chunk=Chunk(
            row["ordinal"],
            DeliveryState.SENDING,
            row["text"],
            plain=row["plain"],
            is_plain=row["is_plain"],
            # The row is as it was before it was begun.
            attempts=row["attempts"] + is_ours,
            unknowns=row["unknowns"],
        ),
        is_ours=is_ours,
        target=Target(
            lane.place[1],
            lane.place[2],
            Peer(lane.peer.kind, row["new_id"] or lane.peer.id),
            thread or None,
            row["reply_to_id"] if row["ordinal"] == 0 else "",
        ),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        traceparent=row["traceparent"],
    )
