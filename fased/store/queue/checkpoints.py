"""Checkpoints: what finished steps of a run left. The first write of a step stands."""

from collections.abc import Sequence

from fased.core.names import Namespace, RunId
from fased.core.queue import Checkpoint
from fased.store.queue import rows
from fased.store.queue.lanes import Connection

# The row lock makes the epoch decide: a recovery that is under way waits, or has happened.
_HELD = "SELECT 1 FROM scheduler.run WHERE id = $1 AND epoch = $2 FOR NO KEY UPDATE"

_PUT = """
INSERT INTO scheduler.checkpoint (run_id, step, value) VALUES ($1, $2, $3)
ON CONFLICT (run_id, step) DO NOTHING
RETURNING step, value, created_at
"""

_GET = "SELECT step, value, created_at FROM scheduler.checkpoint WHERE run_id = $1 AND step = $2"

_OF_RUNS = """
SELECT run_id, step, value, created_at FROM scheduler.checkpoint
WHERE run_id = ANY($1::bigint[]) ORDER BY run_id, created_at, step
"""

_IN_NAMESPACE = """
SELECT c.run_id FROM (SELECT $1::bigint AS run_id) c
WHERE EXISTS (SELECT 1 FROM scheduler.run WHERE id = $1 AND namespace = $2)
   OR EXISTS (SELECT 1 FROM scheduler.run_history WHERE id = $1 AND namespace = $2)
"""


async def put(
    conn: Connection, run_id: RunId, epoch: int, step: str, value_json: str
) -> Checkpoint | None:
    """Store what a step left; answers with what stands, perhaps an earlier write of the step.

    None means STALE: the run is no longer held under `epoch`. In a transaction of its own: it
    waits for the run's row without its lane, so the caller must hold nothing.
    """
    async with conn.transaction():
        if await conn.fetchval(_HELD, run_id, epoch) is None:
            return None
        row = await conn.fetchrow(_PUT, run_id, step, value_json)
        return _checkpoint(row or await conn.fetchrow(_GET, run_id, step))


async def list_checkpoints(
    conn: Connection, namespace: Namespace, run_id: RunId
) -> tuple[Checkpoint, ...]:
    """A run's checkpoints in the order they were written; empty for another namespace's run."""
    if await conn.fetchval(_IN_NAMESPACE, run_id, namespace) is None:
        return ()
    return (await list_of(conn, [run_id])).get(run_id, ())


async def list_of(conn: Connection, run_ids: Sequence[int]) -> dict[int, tuple[Checkpoint, ...]]:
    """The checkpoints of several runs, by primary key."""
    if not run_ids:
        return {}
    found: dict[int, list[Checkpoint]] = {}
    for row in await conn.fetch(_OF_RUNS, list(run_ids)):
        found.setdefault(row["run_id"], []).append(_checkpoint(row))
    return {run_id: tuple(kept) for run_id, kept in found.items()}


def _checkpoint(row: rows.Row) -> Checkpoint:
    return Checkpoint(step=row["step"], value_json=row["value"], created_at=row["created_at"])
