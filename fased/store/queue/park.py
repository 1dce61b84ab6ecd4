"""Park and wake: a run gives its lease up, keeps its lane, and comes back by a wake."""

from datetime import datetime

from fased.core.errors import NotFound
from fased.core.names import Namespace, RunId
from fased.core.queue import HeldRun, WriteResult
from fased.store.queue import ends, finish, lanes
from fased.store.queue.ends import Announce
from fased.store.queue.lanes import Connection

_PARK = """
UPDATE scheduler.run SET state = CASE WHEN wake_seq > $3 THEN 1 ELSE 3 END,
  wake_at = CASE WHEN wake_seq > $3 THEN NULL ELSE $4::timestamptz END,
  worker = NULL, leased_at = NULL, resumed = true,
  time_left = greatest(deadline_at - public.fased_now(), interval '0'), deadline_at = NULL,
  epoch = nextval('scheduler.lease_epoch')
WHERE id = $1 AND epoch = $2 AND NOT cancel
RETURNING id
"""

_IN_NAMESPACE = "SELECT 1 FROM scheduler.run WHERE id = $1 AND namespace = $2"

_WAKE = """
UPDATE scheduler.run SET wake_seq = wake_seq + 1,
  state = CASE WHEN state = 3 THEN 1 ELSE state END,
  wake_at = CASE WHEN state = 3 THEN NULL ELSE wake_at END
WHERE id = ANY($1::bigint[]) AND ($2 OR (state = 3 AND wake_at <= public.fased_now()))
RETURNING id
"""

_EXPIRED = """
SELECT id FROM scheduler.run WHERE state = 3 AND wake_at <= public.fased_now()
ORDER BY wake_at LIMIT $1
"""


async def park(
    conn: Connection,
    run: HeldRun,
    wake_seq: int,
    wake_at: datetime | None,
    announce: Announce,
) -> WriteResult:
    """Give a lease up until a wake, or until `wake_at`; a flagged run ends instead.

    `wake_seq` is the one the worker saw: a wake since then makes the run ready at once. In a
    transaction of its own, or in a savepoint of a caller that holds no lane yet.
    """

    async def move() -> WriteResult:
        held = await lanes.lock_families(conn, [run.run_id])
        if await conn.fetchval(_PARK, run.run_id, run.epoch, wake_seq, wake_at) is not None:
            return WriteResult.WRITTEN
        return finish.write_result(False, bool(await ends.end_flagged(conn, [run], held, announce)))

    return await lanes.restarting(conn, move)


async def wake(conn: Connection, namespace: Namespace, run_id: RunId) -> None:
    """Wake a parked run, or the next park of a run in any other live state.

    In a transaction of its own, or in a savepoint of a caller that holds no lane yet. Raises
    NotFound when no such run lives in the namespace.
    """
    async with conn.transaction():
        found = await conn.fetchval(_IN_NAMESPACE, run_id, namespace)
        if found is None or not await _wake(conn, [run_id], any_state=True):
            raise NotFound(
                f"no live run {run_id}", reason="RUN_NOT_FOUND", metadata={"field": "run_id"}
            )


async def wake_expired(conn: Connection, limit: int = 500) -> int:
    """Wake the parked runs whose time has come (an approval's expiry); answers with how many."""
    async with conn.transaction():
        due = [row["id"] for row in await conn.fetch(_EXPIRED, limit)]
        return await _wake(conn, due, any_state=False) if due else 0


async def _wake(conn: Connection, run_ids: list[int], *, any_state: bool) -> int:
    await lanes.lock_families(conn, run_ids)
    return len(await conn.fetch(_WAKE, run_ids, any_state))
