"""Keeps the hot tables small, and repairs what must never happen: a lane that waits headless.

Every prune takes a bounded batch and answers with how many rows it took; call it until 0.
History's partitions are `partitions.py`.
"""

from datetime import timedelta

from fased.store.queue import lanes
from fased.store.queue.lanes import Connection

# Changes to a lane commit at once, so one snapshot never shows it between two heads.
_HEADLESS = """
SELECT DISTINCT w.lane_key FROM scheduler.run w
WHERE w.state = 0 AND NOT EXISTS (
  SELECT 1 FROM scheduler.run x
  WHERE x.lane_id = w.lane_id AND x.state IN (1, 2, 3))
LIMIT $1
"""

# By state, since each state has its index.
_NO_RUN_HAS = """
  NOT EXISTS (SELECT 1 FROM scheduler.run r
    WHERE r.lane_id = l.id AND r.state IN (1, 2, 3))
  AND NOT EXISTS (SELECT 1 FROM scheduler.run r
    WHERE r.lane_id = l.id AND r.state = 0)
  AND NOT EXISTS (SELECT 1 FROM scheduler.run r
    WHERE r.lane_id = l.id AND r.state = 4)
"""

_IDLE_LANES = f"""
SELECT key FROM scheduler.lane l
WHERE touched_at < public.fased_now() - $1::interval AND {_NO_RUN_HAS}
ORDER BY key LIMIT $2 FOR UPDATE OF l SKIP LOCKED
"""

# Asked again in a second statement: the snapshot of the first does not see a run that was put
# into a lane just before it was locked.
_DROP_LANES = f"""
DELETE FROM scheduler.lane l WHERE l.key = ANY($1::bigint[]) AND {_NO_RUN_HAS}
"""

_DROP_WORKERS = """
DELETE FROM scheduler.worker WHERE id IN (
  SELECT id FROM scheduler.worker w
  WHERE expires_at = '-infinity' AND heartbeat_at < public.fased_now() - $1::interval
    AND NOT EXISTS (SELECT 1 FROM scheduler.claim c WHERE c.worker = w.id)
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

_DROP_KEYS = """
DELETE FROM scheduler.enqueue_key WHERE (namespace, key) IN (
  SELECT namespace, key FROM scheduler.enqueue_key
  WHERE created_at < public.fased_now() - $1::interval
  ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

_DROP_CHECKPOINTS = """
DELETE FROM scheduler.checkpoint WHERE (run_id, step) IN (
  SELECT run_id, step FROM scheduler.checkpoint c
  WHERE created_at < public.fased_now() - $1::interval
    AND NOT EXISTS (SELECT 1 FROM scheduler.run r WHERE r.id = c.run_id)
    AND NOT EXISTS (SELECT 1 FROM scheduler.run_history h WHERE h.id = c.run_id)
  ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

_DROP_DELIVERIES = """
DELETE FROM scheduler.run_delivery WHERE (run_id, delivery_id) IN (
  SELECT run_id, delivery_id FROM scheduler.run_delivery d
  WHERE updated_at < public.fased_now() - $1::interval
    AND NOT EXISTS (SELECT 1 FROM scheduler.run r WHERE r.id = d.run_id)
    AND NOT EXISTS (SELECT 1 FROM scheduler.run_history h WHERE h.id = d.run_id)
  ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


async def repair_headless(conn: Connection, limit: int = 500) -> int:
    """Promote in lanes that wait without a head; answers with how many there were, normally 0."""
    async with conn.transaction():
        found = [row["lane_key"] for row in await conn.fetch(_HEADLESS, limit)]
        if not found:
            return 0
        held = await lanes.advance(conn, dict.fromkeys(found, 0))
        await lanes.promote(conn, held.values())
        return len(found)


async def prune_lanes(conn: Connection, idle_for: timedelta, limit: int = 500) -> int:
    """Forget lanes that nothing has entered for `idle_for` and no run in any state has."""
    async with conn.transaction():
        idle = await conn.fetch(_IDLE_LANES, idle_for, limit)
        if not idle:
            return 0
        status = await conn.execute(_DROP_LANES, [row["key"] for row in idle])
        return _count(status)


async def prune_workers(conn: Connection, gone_for: timedelta, limit: int = 500) -> int:
    """Forget workers that were given up and have been silent for `gone_for`."""
    return _count(await conn.execute(_DROP_WORKERS, gone_for, limit))


async def prune_keys(conn: Connection, keep: timedelta, limit: int = 500) -> int:
    """Forget keys older than `keep`, which must be longer than the bus keeps an event."""
    return _count(await conn.execute(_DROP_KEYS, keep, limit))


async def prune_checkpoints(conn: Connection, keep: timedelta, limit: int = 500) -> int:
    """Forget checkpoints older than `keep` whose run can no longer be retried: it has no row."""
    return _count(await conn.execute(_DROP_CHECKPOINTS, keep, limit))


async def prune_deliveries(conn: Connection, keep: timedelta, limit: int = 500) -> int:
    """Forget delivery states older than `keep` whose run has no row."""
    return _count(await conn.execute(_DROP_DELIVERIES, keep, limit))


def _count(status: str) -> int:
    return int(status.rsplit(" ", 1)[1])
