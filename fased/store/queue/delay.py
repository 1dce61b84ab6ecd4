"""Runs with a future time: out of their lane until a tick finds them due, then last in it."""

from collections import Counter
from datetime import datetime

from fased.core.queue import HeldRun, WriteResult
from fased.store.queue import ends, finish, lanes
from fased.store.queue.ends import Announce
from fased.store.queue.lanes import Connection, Lane, LeftLane

_RESCHEDULE = """
UPDATE scheduler.run SET state = 4, run_at = $3, attempts = attempts + 1, last_reason = $4,
  worker = NULL, leased_at = NULL, resumed = true,
  time_left = greatest(deadline_at - public.fased_now(), interval '0'), deadline_at = NULL,
  epoch = nextval('scheduler.lease_epoch')
WHERE id = $1 AND epoch = $2 AND NOT cancel
RETURNING lane_id, seq, class
"""

_DUE = """
SELECT id, lane_key FROM scheduler.run WHERE state = 4 AND run_at <= public.fased_now()
ORDER BY run_at, id LIMIT $1
"""

_RETURN = """
UPDATE scheduler.run SET state = 0, seq = u.seq
FROM unnest($1::bigint[], $2::bigint[]) u(id, seq)
WHERE run.id = u.id AND run.id = ANY($1::bigint[]) AND run.state = 4
  AND run.run_at <= public.fased_now()
RETURNING run.id
"""


async def reschedule(
    conn: Connection, run: HeldRun, run_at: datetime, reason: str, announce: Announce
) -> WriteResult:
    """Put a run off after a failed attempt, which counts; its lane goes on without it.

    `reason` is UPPER_SNAKE. A flagged run ends instead. In a transaction of its own, or in a
    savepoint of a caller that holds no lane yet.
    """

    async def move() -> WriteResult:
        held = await lanes.lock_families(conn, [run.run_id])
        row = await conn.fetchrow(_RESCHEDULE, run.run_id, run.epoch, run_at, reason)
        if row is not None:
            left = {row["lane_id"]: LeftLane(row["seq"], row["class"])}
            await lanes.promote_next(conn, left)
            return WriteResult.WRITTEN
        return finish.write_result(False, bool(await ends.end_flagged(conn, [run], held, announce)))

    return await lanes.restarting(conn, move)


async def return_due(conn: Connection, limit: int = 500) -> int:
    """Bring delayed runs that are due back, last in their lanes; answers with how many."""
    async with conn.transaction():
        due = await conn.fetch(_DUE, limit)
        if not due:
            return 0
        counts: Counter[Lane] = Counter(row["lane_key"] for row in due)
        held = await lanes.advance(conn, counts)
        before = {lane: held[lane].seq - n for lane, n in counts.items()}
        numbers = []
        for row in due:
            before[row["lane_key"]] += 1
            numbers.append(before[row["lane_key"]])
        returned = await conn.fetch(_RETURN, [row["id"] for row in due], numbers)
        await lanes.promote(conn, held.values())
        return len(returned)
