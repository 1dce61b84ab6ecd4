"""Lanes: numbers, locks and heads. Decides the order in which everything locks.

One order everywhere: task_due, enqueue_key, lane (a whole set at once, sorted), then runs by id.
What inserts, deletes or changes the state of a run holds its lane first; only claim, recover and
release keep the head and hold none: they pick rows with SKIP LOCKED, so they never wait.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from fased.core.errors import Aborted

T = TypeVar("T")
Connection = Any
Lane = tuple[str, str]
# Locked lanes, each with the last number it has given out.
Held = Mapping[Lane, int]

MAX_RESTARTS = 50

# A count of 0 locks a lane and leaves its number.
_ADVANCE = """
INSERT INTO scheduler.lane AS held (namespace, lane, seq)
SELECT u.n, u.l, u.c FROM unnest($1::text[], $2::text[], $3::bigint[]) u(n, l, c)
ORDER BY u.n COLLATE "C", u.l COLLATE "C"
ON CONFLICT (namespace, lane)
DO UPDATE SET seq = held.seq + EXCLUDED.seq, touched_at = public.fased_now()
RETURNING namespace, lane, seq
"""

_LOCK_FAMILIES = """
WITH RECURSIVE descendant AS (
  SELECT c.id FROM scheduler.run c
  WHERE c.parent_run = ANY($1::bigint[]) AND c.parent_run IS NOT NULL
  UNION
  SELECT c.id FROM descendant d JOIN scheduler.run c
    ON c.parent_run = d.id AND c.parent_run IS NOT NULL
)
SELECT l.namespace, l.lane, l.seq FROM scheduler.lane l
WHERE (l.namespace, l.lane) IN (
  SELECT r.namespace, r.lane FROM scheduler.run r
  WHERE r.id = ANY($1::bigint[] || ARRAY(SELECT id FROM descendant) || ARRAY(
    SELECT p.parent_run FROM scheduler.run p
    WHERE p.id = ANY($1::bigint[]) AND p.parent_run IS NOT NULL)))
ORDER BY l.namespace, l.lane
FOR NO KEY UPDATE OF l
"""

# Scalar subqueries: as joins, the planner may read every head of the table for a few lanes.
_PROMOTE = """
UPDATE scheduler.run SET state = 1 WHERE id = ANY(ARRAY(
  SELECT CASE WHEN (
      SELECT x.id FROM scheduler.run x
      WHERE x.namespace = t.n AND x.lane = t.l AND x.state IN (1, 2, 3) LIMIT 1) IS NULL
    THEN (
      SELECT w.id FROM scheduler.run w
      WHERE w.namespace = t.n AND w.lane = t.l AND w.state = 0 ORDER BY w.seq LIMIT 1)
    END
  FROM unnest($1::text[], $2::text[]) t(n, l)))
RETURNING id
"""


class LanesGrew(Exception):
    """A lane outside the locked set is needed: give all locks up and start again."""


async def restarting(conn: Connection, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives, inside a transaction of its own, or a savepoint of the caller's.

    Started again, with every lock given up, as often as it raises LanesGrew. A caller with a
    transaction must hold no lane yet. Raises Aborted when the set never comes to rest.
    """
    for _ in range(MAX_RESTARTS):
        try:
            async with conn.transaction():
                return await work()
        except LanesGrew:
            continue
    raise Aborted("the runs changed too often; ask again", reason="LANES_GREW")


async def advance(conn: Connection, counts: Mapping[Lane, int]) -> dict[Lane, int]:
    """Lock lanes, making those that are new, and take `counts` numbers from each.

    Answers with the last number of each lane.
    """
    lanes = list(counts)
    rows = await conn.fetch(
        _ADVANCE, [n for n, _ in lanes], [lane for _, lane in lanes], list(counts.values())
    )
    return {(row["namespace"], row["lane"]): row["seq"] for row in rows}


async def lock_families(conn: Connection, run_ids: Iterable[int]) -> Held:
    """Lock the lanes of live runs, of all that descend from them and of their parents.

    Answers with the lanes now held. Under these locks no run of the set gets another child.
    """
    rows = await conn.fetch(_LOCK_FAMILIES, list(run_ids))
    return {(row["namespace"], row["lane"]): row["seq"] for row in rows}


async def promote(conn: Connection, lanes: Iterable[Lane]) -> set[int]:
    """Make the first waiting run of every lane without a head ready; the lanes must be held.

    Answers with the runs made ready.
    """
    distinct = set(lanes)
    if not distinct:
        return set()
    rows = await conn.fetch(_PROMOTE, [n for n, _ in distinct], [lane for _, lane in distinct])
    return {row["id"] for row in rows}
