"""Leases that last, and claims that are over. Decides nothing about who holds a run.

A claim leaves its runs in the index of what is ready, since taking them out would write every index
they are in, and most runs end in a moment. What is still leased at a tick leaves that index: or
else each later claim would step over it for as long as it runs.
"""

from datetime import timedelta

from fased.store.queue import rows
from fased.store.queue.lanes import Connection

# Keeps the head, so it holds no lane and waits for no row.
_SETTLE = f"""
WITH lasting AS MATERIALIZED (
  SELECT id FROM scheduler.run
  WHERE {rows.LISTED.format("claimed_at < public.fased_now() - $1::interval")}
    AND state = 1 AND worker IS NOT NULL
  ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE scheduler.run SET state = 2 WHERE id = ANY(ARRAY(SELECT id FROM lasting))
RETURNING id
"""

# What a claim has given and its worker no longer holds, it never holds again by this claim.
# A scalar subquery: as a join, the planner may read all runs for a few claims.
_FORGET = """
DELETE FROM scheduler.claim WHERE id = ANY(ARRAY(
  SELECT c.id FROM scheduler.claim c
  WHERE c.claimed_at < public.fased_now() - $1::interval AND (
    SELECT r.id FROM scheduler.run r
    WHERE r.id = ANY(c.run_ids) AND r.worker = c.worker LIMIT 1) IS NULL
  ORDER BY c.id LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id
"""


async def settle(conn: Connection, age: timedelta, limit: int = 500) -> int:
    """Take runs out of what is ready that were claimed `age` ago and are leased still.

    Answers with how many; call it until 0.
    """
    return len(await conn.fetch(_SETTLE, age, limit))


async def forget_claims(conn: Connection, age: timedelta, limit: int = 500) -> int:
    """Forget claims made `age` ago of which nothing is held; answers with how many."""
    return len(await conn.fetch(_FORGET, age, limit))
