"""Retry: an operator runs an ended run again, under its number, with its steps' checkpoints."""

from fased.core.errors import FailedPrecondition, NotFound
from fased.core.names import Namespace, RunId
from fased.core.runs import Outcome
from fased.store.queue import history, lanes, rows
from fased.store.queue.lanes import Connection, HeldLane, Lane

# These were never carried out, or need no second time.
_NOT_AGAIN = frozenset({Outcome.SUCCEEDED, Outcome.SKIPPED, Outcome.MERGED, Outcome.MISSED})

_ENDED = """
SELECT namespace, lane, session_key, outcome FROM scheduler.run_history
WHERE id = $1 AND namespace = $2 ORDER BY ended_at DESC LIMIT 1
"""

_TAKE = "DELETE FROM scheduler.run_history WHERE id = $1 AND namespace = $2 RETURNING *"

# Its parent has ended or goes on without it, so it comes back without one.
_INSERT = """
INSERT INTO scheduler.run (id, lane_key, lane_id, namespace, lane, seq, class, state, resumed,
  epoch, session_key, task_id, run_for, time_left, created_at, run_at, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, 0, true, nextval('scheduler.lease_epoch'), $8, $9, $10, $10,
  $11, public.fased_now(), $12)
"""

_PAYLOAD = "INSERT INTO scheduler.run_payload (run_id, body) VALUES ($1, $2)"


async def retry(conn: Connection, namespace: Namespace, run_id: RunId) -> None:
    """Run an ended run again: live under its number, last in its lane, its attempts from zero.

    In a transaction of its own, or in a savepoint of a caller that holds no lane yet. Raises
    NotFound, or FailedPrecondition RUN_LIVE or NOT_RETRYABLE.
    """
    async with conn.transaction():
        row = await conn.fetchrow(_ENDED, run_id, namespace)
        if row is None:
            raise await _not_ended(conn, namespace, run_id)
        if row["outcome"] in _NOT_AGAIN:
            raise FailedPrecondition(
                f"a run that {row['outcome']} is not retried"
                if row["outcome"] == Outcome.SUCCEEDED
                else f"a {row['outcome']} run is not retried",
                reason="NOT_RETRYABLE",
                metadata={"field": "name", "outcome": row["outcome"]},
            )
        lane = lanes.key_of(row["namespace"], rows.lane_name(row["lane"], row["session_key"]))
        held = await lanes.advance(conn, {lane: 1})
        taken = await conn.fetchrow(_TAKE, run_id, namespace)
        if taken is None:
            raise await _not_ended(conn, namespace, run_id)
        await _insert(conn, taken, lane, held[lane])
        await lanes.promote(conn, held.values())


async def _insert(conn: Connection, taken: rows.Row, key: Lane, lane: HeldLane) -> None:
    body = taken["body"]
    is_large = rows.is_large(body)
    await conn.execute(
        _INSERT, taken["id"], key, lane.id, taken["namespace"], taken["lane"], lane.seq,
        taken["class"], taken["session_key"], taken["task_id"], taken["run_for"],
        taken["created_at"], None if is_large else body,
    )  # fmt: skip
    if is_large:
        await conn.execute(_PAYLOAD, taken["id"], body)


async def _not_ended(
    conn: Connection, namespace: Namespace, run_id: RunId
) -> NotFound | FailedPrecondition:
    is_live, outcome = await history.whereabouts(conn, namespace, run_id)
    # One that has ended since it was looked for had not ended when it was asked for.
    if is_live or outcome is not None:
        return FailedPrecondition(
            "the run has not ended", reason="RUN_LIVE", metadata={"field": "name"}
        )
    return NotFound(f"no run {run_id}", reason="RUN_NOT_FOUND", metadata={"field": "name"})
