"""Checkpoints: what finished steps of a run left. The first write of a step stands."""

from collections.abc import Sequence

from fased.core.names import Namespace, RunId
from fased.core.queue import Checkpoint, FinishedStep
from fased.store.queue import rows
from fased.store.queue.lanes import Connection

# The row locks make the epochs decide: a recovery that is under way waits, or has happened.
_PUT = """
WITH asked AS (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::json[]) WITH ORDINALITY
  AS a(run_id, epoch, step, value, place)
), held AS MATERIALIZED (
  SELECT r.id, a.step, a.value, a.place
  FROM scheduler.run r JOIN asked a ON a.run_id = r.id AND a.epoch = r.epoch
  ORDER BY r.id FOR NO KEY UPDATE OF r
), put AS (
  INSERT INTO scheduler.checkpoint (run_id, step, value) SELECT id, step, value FROM held
  ON CONFLICT (run_id, step) DO NOTHING
  RETURNING run_id, step, value, created_at
)
SELECT held.place, held.id, held.step, put.value, put.created_at
FROM held LEFT JOIN put ON put.run_id = held.id AND put.step = held.step
"""

_GET = """
SELECT c.run_id, c.step, c.value, c.created_at
FROM unnest($1::bigint[], $2::text[]) AS a(run_id, step)
JOIN scheduler.checkpoint c ON c.run_id = a.run_id AND c.step = a.step
"""

_OF_RUNS = """
SELECT run_id, step, value, created_at FROM scheduler.checkpoint
WHERE run_id = ANY($1::bigint[]) ORDER BY run_id, created_at, step
"""

_IN_NAMESPACE = """
SELECT c.run_id FROM (SELECT $1::bigint AS run_id) c
WHERE EXISTS (SELECT 1 FROM scheduler.run WHERE id = $1 AND namespace = $2)
   OR EXISTS (SELECT 1 FROM scheduler.run_history WHERE id = $1 AND namespace = $2)
"""


async def put(conn: Connection, steps: Sequence[FinishedStep]) -> list[Checkpoint | None]:
    """Store what steps left; answers each with what stands, perhaps an earlier write of the step.

    None means STALE: the run is no longer held under that epoch. Outside of a transaction: it
    waits for the rows of runs without their lanes, so the caller must hold nothing.
    """
    if not steps:
        return []
    found = await conn.fetch(
        _PUT,
        [each.run_id for each in steps],
        [each.epoch for each in steps],
        [each.step for each in steps],
        [each.value_json for each in steps],
    )
    stored = {(row["id"], row["step"]): row for row in found}
    earlier = [key for key, row in stored.items() if row["created_at"] is None]
    if earlier:
        for row in await conn.fetch(_GET, *(list(column) for column in zip(*earlier, strict=True))):
            stored[row["run_id"], row["step"]] = row
    held = {row["place"] for row in found}
    return [
        _checkpoint(stored[step.run_id, step.step]) if place in held else None
        for place, step in enumerate(steps, 1)
    ]


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
