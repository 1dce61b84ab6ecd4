"""The statements of the PostgreSQL log bus: records, group members, offsets.

Decides how rows are written and fenced. Which member should own what, and when to read, is
`bus/pglog_consumer.py`. Functions take an asyncpg connection; each is one statement, and only what
says so needs a transaction around it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from fased.store.database import Connection

# Losing the last half second of offsets or heartbeats in a crash of the server costs a redelivery,
# never a record: they do not wait for the disk.
_RELAXED = "relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS to)"


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Entry(NamedTuple):
    """A record to append; `headers` is a JSON object as text."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: str


class Position(NamedTuple):
    """A place in a partition: the offset of the record that is next there."""

    topic: str
    partition: int
    next_offset: int


class StoredRecord(NamedTuple):
    """A record as the log holds it; `headers` is a JSON object as text."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: str
    published_at: datetime


class Claim(NamedTuple):
    """A partition that became a member's, from `next_offset` on, under `generation`."""

    topic: str
    partition: int
    next_offset: int
    generation: int


class Commit(NamedTuple):
    """A group's progress, valid while `generation` is the partition's."""

    group: str
    topic: str
    partition: int
    generation: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group and the topics it reads."""

    id: UUID
    topics: tuple[str, ...]
    is_expired: bool


async def ensure_partitions(conn: Connection, partitions: Mapping[str, int]) -> None:
    """Make what is missing of the topics, each with its number of partitions."""
    await conn.execute(
        """INSERT INTO bus.partition (topic, partition)
           SELECT t, p FROM unnest($1::text[], $2::int[]) u(t, n), generate_series(0, n - 1) p
           ON CONFLICT DO NOTHING""",
        list(partitions),
        list(partitions.values()),
    )


async def append(conn: Connection, entries: Sequence[Entry]) -> None:
    """Append in the order given, all or nothing; a partition that was never made is an error.

    The partitions are locked in one order, so that publishers wait for one another in a line.
    """
    await conn.execute(
        """WITH input AS MATERIALIZED (
             SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bytea[], $5::text[])
               WITH ORDINALITY u(t, p, k, v, h, i)),
           counted AS MATERIALIZED (SELECT t, p, count(*) AS n FROM input GROUP BY t, p),
           locked AS MATERIALIZED (
             SELECT b.topic AS t, b.partition AS p, c.n FROM bus.partition b
               JOIN counted c ON b.topic = c.t AND b.partition = c.p
               ORDER BY b.topic, b.partition FOR UPDATE OF b),
           moved AS (
             UPDATE bus.partition b SET next_offset = b.next_offset + l.n FROM locked l
               WHERE b.topic = l.t AND b.partition = l.p
               RETURNING b.topic AS t, b.partition AS p, b.next_offset - l.n AS first)
           INSERT INTO bus.record (topic, partition, "offset", key, value, headers)
             SELECT t, p, first + row_number() OVER (PARTITION BY t, p ORDER BY i) - 1,
                    k, v, h::jsonb
               FROM input LEFT JOIN moved USING (t, p)""",
        *_columns(entries, 5),
    )


async def read(conn: Connection, positions: Sequence[Position], limit: int) -> list[StoredRecord]:
    """At most `limit` records of each partition, from its position on, in order.

    Uses the primary key of bus.record.
    """
    rows = await conn.fetch(
        """SELECT r.topic, r.partition, r."offset", r.key, r.value, r.headers, r.published_at
             FROM unnest($1::text[], $2::int[], $3::bigint[]) a(t, p, o)
            CROSS JOIN LATERAL (
              SELECT * FROM bus.record b
               WHERE b.topic = a.t AND b.partition = a.p AND b."offset" >= a.o
               ORDER BY b."offset" LIMIT $4) r
            ORDER BY r.topic, r.partition, r."offset\"""",
        *_columns(positions, 3),
        limit,
    )
    return [StoredRecord(*row) for row in rows]


async def ends(conn: Connection, topics: Sequence[str]) -> list[Position]:
    """Where each partition of the topics ends: what comes later has that offset or a higher one."""
    rows = await conn.fetch(
        "SELECT topic, partition, next_offset FROM bus.partition WHERE topic = ANY($1::text[])",
        list(topics),
    )
    return [Position(*row) for row in rows]


async def join(
    conn: Connection, group: str, member: UUID, topics: Sequence[str], lease: timedelta
) -> None:
    """Make a member of a group, and the group's offsets where they are missing (from the start)."""
    await conn.execute(
        """WITH made AS (
             INSERT INTO bus.consumer_offset (consumer_group, topic, partition)
               SELECT $1, topic, partition FROM bus.partition WHERE topic = ANY($3::text[])
               ON CONFLICT DO NOTHING)
           INSERT INTO bus.member (consumer_group, id, topics, expires_at)
             VALUES ($1, $2, $3::text[], public.fased_now() + $4::interval)""",
        group,
        member,
        list(topics),
        lease,
    )


async def heartbeat(
    conn: Connection, group: str, member: UUID, lease: timedelta
) -> list[Member] | None:
    """Renew a member's lease; answers who is in the group, or None when the lease has ended."""
    rows = await conn.fetch(
        f"""WITH {_RELAXED}, beat AS (
              UPDATE bus.member SET expires_at = public.fased_now() + $3::interval FROM relaxed
               WHERE consumer_group = $1 AND id = $2 AND relaxed.to = 'off' RETURNING id)
            SELECT m.id, m.topics, m.id <> $2 AND m.expires_at <= public.fased_now() AS is_expired,
                   EXISTS (SELECT 1 FROM beat) AS is_held
              FROM bus.member m WHERE m.consumer_group = $1""",
        group,
        member,
        lease,
    )
    if not rows or not rows[0]["is_held"]:
        return None
    return [Member(row["id"], tuple(row["topics"]), row["is_expired"]) for row in rows]


async def lock_group(conn: Connection, group: str) -> None:
    """Let one member at a time change who owns what, until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('bus/' || $1, 0))", group)


async def members(conn: Connection, group: str, *, reap: bool) -> list[Member]:
    """Who is in the group; with `reap`, after ending the leases that are over.

    Needs the group's lock.
    """
    if reap:
        await conn.execute(
            """DELETE FROM bus.member
                WHERE consumer_group = $1 AND expires_at <= public.fased_now()""",
            group,
        )
    rows = await conn.fetch("SELECT id, topics FROM bus.member WHERE consumer_group = $1", group)
    return [Member(row["id"], tuple(row["topics"]), False) for row in rows]


async def claim(
    conn: Connection, group: str, member: UUID, wanted: Sequence[Partition]
) -> list[Claim]:
    """Take those of the wanted partitions that no living member owns. Needs the group's lock."""
    rows = await conn.fetch(
        """UPDATE bus.consumer_offset o SET owner = $2, generation = o.generation + 1
             FROM unnest($3::text[], $4::int[]) w(t, p)
            WHERE o.consumer_group = $1 AND o.topic = w.t AND o.partition = w.p
              AND (o.owner IS NULL OR NOT EXISTS (
                SELECT 1 FROM bus.member m WHERE m.consumer_group = $1 AND m.id = o.owner))
           RETURNING o.topic, o.partition, o.next_offset, o.generation""",
        group,
        member,
        *_columns(wanted, 2),
    )
    return [Claim(*row) for row in rows]


async def release(
    conn: Connection, group: str, member: UUID, partitions: Sequence[Partition]
) -> None:
    """Give partitions up, where they are still the member's."""
    await conn.execute(
        """UPDATE bus.consumer_offset o SET owner = NULL
             FROM unnest($3::text[], $4::int[]) w(t, p)
            WHERE o.consumer_group = $1 AND o.topic = w.t AND o.partition = w.p AND o.owner = $2""",
        group,
        member,
        *_columns(partitions, 2),
    )


async def leave(conn: Connection, group: str, member: UUID) -> None:
    """End a membership; what the member owned is free at once."""
    await conn.execute(
        "DELETE FROM bus.member WHERE consumer_group = $1 AND id = $2", group, member
    )


async def evict_all(conn: Connection) -> None:
    """End every membership: for a process that knows it is the only one alive."""
    await conn.execute("DELETE FROM bus.member")


async def commit(conn: Connection, commits: Sequence[Commit]) -> set[Commit]:
    """Store progress; answers those that counted: the others' generation has passed."""
    rows = await conn.fetch(
        f"""WITH {_RELAXED}
            UPDATE bus.consumer_offset o SET next_offset = greatest(o.next_offset, u.n)
              FROM relaxed, unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
                   u(g, t, p, e, n)
             WHERE o.consumer_group = u.g AND o.topic = u.t AND o.partition = u.p
               AND o.generation = u.e AND relaxed.to = 'off'
            RETURNING u.g, u.t, u.p, u.e, u.n""",
        *_columns(commits, 5),
    )
    return {Commit(*row) for row in rows}


async def lag(conn: Connection, group: str, topics: Sequence[str]) -> int:
    """How many records of the topics the group has not committed."""
    found = await conn.fetchval(
        """SELECT sum(p.next_offset - coalesce(o.next_offset, 0)) FROM bus.partition p
             LEFT JOIN bus.consumer_offset o ON o.topic = p.topic AND o.partition = p.partition
              AND o.consumer_group = $1
            WHERE p.topic = ANY($2::text[])""",
        group,
        list(topics),
    )
    return int(found or 0)


async def prune(conn: Connection, topic: str, retention: timedelta, limit: int) -> int:
    """Delete old records that every group of the topic has passed, `limit` a partition at most.

    Answers how many went. A record that a group still has to read stays, however old.
    """
    status = await conn.execute(
        """DELETE FROM bus.record r
            USING bus.partition p
            CROSS JOIN LATERAL (
              SELECT min(o.next_offset) AS passed FROM bus.consumer_offset o
               WHERE o.topic = p.topic AND o.partition = p.partition) g
            CROSS JOIN LATERAL (
              SELECT b."offset" FROM bus.record b
               WHERE b.topic = p.topic AND b.partition = p.partition
                 AND b."offset" < coalesce(g.passed, p.next_offset)
               ORDER BY b."offset" LIMIT $3) old
            WHERE p.topic = $1 AND r.topic = p.topic AND r.partition = p.partition
              AND r."offset" = old."offset"
              AND r.published_at < public.fased_now() - $2::interval""",
        topic,
        retention,
        limit,
    )
    return int(status.rsplit(" ", 1)[1])


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width
