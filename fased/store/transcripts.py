"""Transcripts in rows. Functions take a driver connection, since a message's path runs through
them; the caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import asyncpg

from fased.core.names import Namespace, RunId, SessionId, SessionKey
from fased.core.transcripts import Role, TranscriptEntry

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy"

# Entries whose key is known take no place, so a repeat leaves no gap; two repeats at once meet at
# the counter's row and then at the primary key. Counters are locked in one order.
_APPEND = """
WITH asked AS (
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY
  AS a(namespace, run_id, step, ordinal, session_key, session_id, role, text, sender, event_id, at)
), fresh AS (
  SELECT a.*, row_number() OVER (PARTITION BY namespace, session_key ORDER BY at) AS place,
    count(*) OVER (PARTITION BY namespace, session_key) AS many
  FROM asked a WHERE NOT EXISTS (
    SELECT 1 FROM executor.transcript t WHERE t.namespace = a.namespace AND t.run_id = a.run_id
      AND t.step = a.step AND t.ordinal = a.ordinal)
), counted AS (
  INSERT INTO executor.transcript_counter AS c (namespace, session_key, last_sequence)
  SELECT namespace, session_key, max(many) FROM fresh
  GROUP BY namespace, session_key ORDER BY namespace, session_key
  ON CONFLICT (namespace, session_key)
    DO UPDATE SET last_sequence = c.last_sequence + EXCLUDED.last_sequence
  RETURNING namespace, session_key, last_sequence
)
INSERT INTO executor.transcript (namespace, run_id, step, ordinal, session_key, session_id,
  sequence, role, text, sender, event_id)
SELECT namespace, run_id, step, ordinal, session_key, session_id, last_sequence - many + place,
  role, text, sender, event_id
FROM fresh JOIN counted USING (namespace, session_key)
ON CONFLICT (namespace, run_id, step, ordinal) DO NOTHING
"""

# The entry at which the text grows too long is left out with all before it. What nobody was shown
# counts for nothing: no model is shown it.
_TAILS = """
SELECT a.place, e.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[]) WITH ORDINALITY
  AS a(namespace, session_key, session_id, max_entries, max_chars, place)
CROSS JOIN LATERAL (
  SELECT * FROM (
    SELECT t.*, u.run_id IS NOT NULL AS undelivered,
      sum(length(t.text)) FILTER (WHERE u.run_id IS NULL) OVER (ORDER BY t.sequence DESC) AS chars
    FROM (
      SELECT * FROM executor.transcript s
      WHERE s.namespace = a.namespace AND s.session_key = a.session_key
        AND s.session_id = a.session_id
      ORDER BY s.sequence DESC LIMIT a.max_entries
    ) t LEFT JOIN executor.undelivered_run u
      ON u.namespace = t.namespace AND u.run_id = t.run_id
  ) w WHERE coalesce(w.chars, 0) <= a.max_chars
) e
ORDER BY a.place, e.sequence
"""

_LIST = """
SELECT t.*, u.run_id IS NOT NULL AS undelivered
FROM executor.transcript t
LEFT JOIN executor.undelivered_run u ON u.namespace = t.namespace AND u.run_id = t.run_id
WHERE t.namespace = $1 AND t.session_key = $2 AND t.sequence < $3{session}
ORDER BY t.sequence DESC LIMIT $4
"""
_LIST_KEY = _LIST.format(session="")
_LIST_SESSION = _LIST.format(session=" AND t.session_id = $5")

_MARK = """
INSERT INTO executor.undelivered_run AS u (namespace, run_id, outcome, ended_at)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[])
ON CONFLICT (namespace, run_id)
  DO UPDATE SET outcome = EXCLUDED.outcome, ended_at = EXCLUDED.ended_at
WHERE u.ended_at < EXCLUDED.ended_at
"""

_UNMARK = """
DELETE FROM executor.undelivered_run u
USING unnest($1::text[], $2::bigint[], $3::timestamptz[]) s(namespace, run_id, ended_at)
WHERE u.namespace = s.namespace AND u.run_id = s.run_id AND u.ended_at < s.ended_at
"""

_FORGET = """
DELETE FROM executor.undelivered_run u
WHERE u.ended_at < public.fased_now() - $1::interval AND NOT EXISTS (
  SELECT 1 FROM executor.transcript t WHERE t.namespace = u.namespace AND t.run_id = u.run_id)
"""

# No transcript reaches it.
_LATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How a run ended, and when by the queue's clock; a retried run may end more than once."""

    namespace: Namespace
    run_id: RunId
    outcome: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Tail:
    """How much of the end of a session's transcript is wanted."""

    namespace: Namespace
    session_key: SessionKey
    session_id: SessionId
    max_entries: int
    max_chars: int


async def append(conn: Connection, additions: Sequence[tuple[Namespace, TranscriptEntry]]) -> None:
    """Store entries at the end of their sessions; those whose key is known stay as they are."""
    entries = [entry for _, entry in additions]
    await conn.execute(
        _APPEND,
        [namespace for namespace, _ in additions],
        [each.run_id for each in entries],
        [each.step for each in entries],
        [each.ordinal for each in entries],
        [each.session_key for each in entries],
        [each.session_id for each in entries],
        [each.role.value for each in entries],
        [each.text for each in entries],
        [each.sender for each in entries],
        [each.event_id for each in entries],
    )


async def tails(conn: Connection, wanted: Sequence[Tail]) -> list[list[TranscriptEntry]]:
    """The ends of transcripts, oldest entry first, in the places of who asked.

    By the index transcript_session_sequence.
    """
    rows = await conn.fetch(
        _TAILS,
        [each.namespace for each in wanted],
        [each.session_key for each in wanted],
        [each.session_id for each in wanted],
        [each.max_entries for each in wanted],
        [each.max_chars for each in wanted],
    )
    found: list[list[TranscriptEntry]] = [[] for _ in wanted]
    for row in rows:
        found[row["place"] - 1].append(_entry(row))
    return found


async def list_before(
    conn: Connection,
    namespace: Namespace,
    session_key: SessionKey,
    session_id: SessionId,
    before: int | None,
    limit: int,
) -> list[TranscriptEntry]:
    """The latest entries before the place `before` (None: the end), latest first.

    An empty `session_id` takes all of the key's. By the indexes transcript_key_sequence and
    transcript_session_sequence.
    """
    position = _LATEST if before is None else before
    if session_id:
        rows = await conn.fetch(_LIST_SESSION, namespace, session_key, position, limit, session_id)
    else:
        rows = await conn.fetch(_LIST_KEY, namespace, session_key, position, limit)
    return [_entry(row) for row in rows]


async def mark_ended(conn: Connection, ended: Sequence[EndedRun]) -> None:
    """Note which runs nobody was shown: the latest end of a run decides.

    The same ends again, or an earlier one after a later, change nothing; so a pass that stopped
    midway is mended by its repeat, and needs no transaction.
    """
    latest = {(each.namespace, each.run_id): each for each in sorted(ended, key=_ended_at)}
    failed = [each for each in latest.values() if each.outcome != "succeeded"]
    succeeded = [each for each in latest.values() if each.outcome == "succeeded"]
    if failed:
        await conn.execute(
            _MARK,
            [each.namespace for each in failed],
            [each.run_id for each in failed],
            [each.outcome for each in failed],
            [each.ended_at for each in failed],
        )
    if succeeded:
        await conn.execute(
            _UNMARK,
            [each.namespace for each in succeeded],
            [each.run_id for each in succeeded],
            [each.ended_at for each in succeeded],
        )


async def forget_silent(conn: Connection, older_than: timedelta) -> None:
    """Drop the notes on runs that ended so long ago and never said anything."""
    await conn.execute(_FORGET, older_than)


def _entry(row: asyncpg.Record) -> TranscriptEntry:
    return TranscriptEntry(
        session_key=SessionKey(row["session_key"]),
        session_id=SessionId(row["session_id"]),
        run_id=RunId(row["run_id"]),
        step=row["step"],
        ordinal=row["ordinal"],
        role=Role(row["role"]),
        text=row["text"],
        sender=row["sender"],
        event_id=row["event_id"],
        created_at=row["created_at"],
        sequence=row["sequence"],
        undelivered=row["undelivered"],
    )


def _ended_at(ended: EndedRun) -> datetime:
    return ended.ended_at
