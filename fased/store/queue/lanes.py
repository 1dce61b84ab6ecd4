"""Lanes: keys, ids, numbers, locks and heads. Decides the order in which everything locks.

One order everywhere: task_due, enqueue_key, lane (a whole set at once, sorted), then runs by id.
What inserts, deletes or changes the state of a run holds its lane first; only claim, settle,
recover and release keep the head and hold none: they pick rows with SKIP LOCKED and never wait.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from fased.core.errors import Aborted
from fased.core.names import Namespace

T = TypeVar("T")
Connection = Any
# The key of a lane, by which it is found and locked.
Lane = int

MAX_RESTARTS = 50

# Keys and ids begin with bytes of the namespace, so that its runs lie together in the indexes.
_NAMESPACE_BYTES = 2
_LANE_BYTES = 6

# A count of 0 locks a lane and leaves its number. A new id keeps the bytes of the namespace.
_ADVANCE = f"""
INSERT INTO scheduler.lane AS held (key, id, seq)
SELECT u.key, (u.key >> {8 * _LANE_BYTES} << {8 * _LANE_BYTES}) + nextval('scheduler.lane_id'), u.n
FROM unnest($1::bigint[], $2::bigint[]) u(key, n) ORDER BY u.key
ON CONFLICT (key)
DO UPDATE SET seq = held.seq + EXCLUDED.seq, touched_at = public.fased_now()
RETURNING key, id, seq
"""

# The runs are read once; an array of keys reaches the lanes by primary key, in its order. Whose
# child is enqueued meanwhile is told so by `has_children` at its end. OFFSET 0 keeps the planner
# from joining the whole table to nothing.
_LOCK_FAMILIES = """
WITH RECURSIVE mine AS MATERIALIZED (
  SELECT id, lane_key, parent_run, has_children FROM scheduler.run WHERE id = ANY($1::bigint[])
), descendant AS (
  SELECT c.* FROM mine m CROSS JOIN LATERAL (
    SELECT id, lane_key, has_children FROM scheduler.run
    WHERE parent_run = m.id AND parent_run IS NOT NULL OFFSET 0) c
  WHERE m.has_children
  UNION
  SELECT c.* FROM descendant d CROSS JOIN LATERAL (
    SELECT id, lane_key, has_children FROM scheduler.run
    WHERE parent_run = d.id AND parent_run IS NOT NULL OFFSET 0) c
  WHERE d.has_children
)
SELECT key, id, seq FROM scheduler.lane
WHERE key = ANY(ARRAY(
  SELECT lane_key FROM mine
  UNION ALL
  SELECT lane_key FROM descendant
  UNION ALL
  SELECT p.lane_key FROM scheduler.run p
  WHERE p.id = ANY(ARRAY(SELECT parent_run FROM mine WHERE parent_run IS NOT NULL))))
ORDER BY key FOR NO KEY UPDATE
"""

# Scalar subqueries: as joins, the planner may read every head of the table for a few lanes.
_PROMOTE = """
UPDATE scheduler.run SET state = 1 WHERE id = ANY(ARRAY(
  SELECT CASE WHEN (
      SELECT x.id FROM scheduler.run x
      WHERE x.lane_id = t.id AND x.state IN (1, 2, 3) LIMIT 1) IS NULL
    THEN (
      SELECT w.id FROM scheduler.run w
      WHERE w.lane_id = t.id AND w.state = 0 ORDER BY w.seq LIMIT 1)
    END
  FROM unnest($1::bigint[]) t(id)))
RETURNING id
"""

# Both indexes hold the dead entries of all heads before: nothing is asked, nothing before read. A
# row that waits stays at its place, its ctid, while its lane is held.
_PROMOTE_NEXT = """
UPDATE scheduler.run SET state = 1 WHERE ctid = ANY(ARRAY(
  SELECT (
    SELECT w.ctid FROM scheduler.run w
    WHERE w.lane_id = t.id AND w.state = 0 AND w.seq > t.seq ORDER BY w.seq LIMIT 1)
  FROM unnest($1::bigint[], $2::bigint[]) t(id, seq)))
"""


class HeldLane(NamedTuple):
    """A locked lane: what its runs are indexed by, and the last number it has given out."""

    id: int
    seq: int


class LeftLane(NamedTuple):
    """A lane whose head has just left: the number and the class that it had.

    `freed_place`: its worker held it until now.
    """

    seq: int
    run_class: int
    freed_place: bool = False


Held = Mapping[Lane, HeldLane]


class LanesGrew(Exception):
    """A lane outside the locked set is needed: give all locks up and start again."""


def key_of(namespace: str, lane: str) -> Lane:
    """The key of a lane.

    Two lanes of a namespace share one by chance, once in 2^48 pairs: then they are one lane.
    """
    return _namespace_part(namespace) + _number(lane, _LANE_BYTES)


def ids_of(namespace: Namespace) -> tuple[int, int]:
    """The first and the last id that a lane of the namespace may have; others may have such too."""
    first = _namespace_part(namespace)
    return first, first + (1 << 8 * _LANE_BYTES) - 1


@lru_cache(maxsize=1024)
def _namespace_part(namespace: str) -> int:
    # Less half of all numbers, since a key has a sign.
    return (_number(namespace, _NAMESPACE_BYTES) << 8 * _LANE_BYTES) - (1 << 63)


def _number(name: str, size: int) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=size).digest())


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


async def advance(conn: Connection, counts: Mapping[Lane, int]) -> Held:
    """Lock lanes, making those that are new, and take `counts` numbers from each.

    Answers with the lanes now held.
    """
    return _held(await conn.fetch(_ADVANCE, list(counts), list(counts.values())))


async def lock_families(conn: Connection, run_ids: Iterable[int]) -> Held:
    """Lock the lanes of live runs, of all that descend from them and of their parents.

    Answers with the lanes now held. Under these locks no run of the set gets another child.
    """
    return _held(await conn.fetch(_LOCK_FAMILIES, list(run_ids)))


async def promote(conn: Connection, held: Iterable[HeldLane]) -> set[int]:
    """Make the first waiting run of every lane without a head ready.

    Answers with the runs made ready.
    """
    ids = [lane.id for lane in held]
    return {row["id"] for row in await conn.fetch(_PROMOTE, ids)}


async def promote_next(conn: Connection, left: Mapping[int, LeftLane]) -> None:
    """Make the next run of lanes ready whose head has just left; the lanes must be held.

    `left` has the lanes by id: those that wait have higher numbers than the head had.
    """
    if left:
        await conn.execute(_PROMOTE_NEXT, list(left), [lane.seq for lane in left.values()])


def _held(rows: Iterable[Any]) -> Held:
    return {key: HeldLane(lane_id, seq) for key, lane_id, seq in rows}
