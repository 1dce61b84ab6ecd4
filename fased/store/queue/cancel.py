"""Cancel: ends what no worker holds, asks the worker of what is held. Decided under row locks."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from fased.core.errors import FailedPrecondition, NotFound
from fased.core.names import Namespace, RunId, SessionKey, TaskId
from fased.core.queue import CancelResult
from fased.core.runs import Outcome
from fased.store.queue import ends, history, lanes
from fased.store.queue.ends import Announce
from fased.store.queue.lanes import Connection, LanesGrew

_ONE = "SELECT id FROM scheduler.run WHERE id = $1 AND namespace = $2"
_OF_TASKS = "SELECT id FROM scheduler.run WHERE namespace = $1 AND task_id = ANY($2::uuid[])"

_OF_SESSION = history.OF_SESSION.format(lane_id=history.LANE_ID.format("$3"))

_HOLDERS = """
SELECT id, lane_key, worker, epoch FROM scheduler.run
WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""

_FLAG = "UPDATE scheduler.run SET cancel = true WHERE id = ANY($1::bigint[])"

Read = Callable[[], Awaitable[list[int]]]


async def cancel(
    conn: Connection, namespace: Namespace, run_id: RunId, announce: Announce
) -> CancelResult:
    """Cancel one run: it ends at once, unless a worker holds it and is asked to stop.

    In a transaction of its own, or in a savepoint of a caller that holds no lane yet. Raises
    NotFound, or FailedPrecondition RUN_TERMINAL when it has ended.
    """
    while True:
        ended, flagged = await _cancel(conn, lambda: _ids(conn, _ONE, run_id, namespace), announce)
        if run_id in flagged:
            return CancelResult.FLAGGED
        if run_id in ended:
            return CancelResult.ENDED
        is_live, outcome = await history.whereabouts(conn, namespace, run_id)
        if not is_live:
            raise _not_live(run_id, outcome)


async def cancel_session(
    conn: Connection, namespace: Namespace, session_key: SessionKey, announce: Announce
) -> int:
    """Cancel the live runs of a session; answers with how many ended or were asked to stop."""
    lane = history.session_lane_key(namespace, session_key)
    ended, flagged = await _cancel(
        conn, lambda: _ids(conn, _OF_SESSION, namespace, session_key, lane), announce
    )
    return len(ended) + len(flagged)


async def cancel_tasks(
    conn: Connection, namespace: Namespace, task_ids: Sequence[TaskId], announce: Announce
) -> int:
    """Cancel the live runs of tasks; answers with how many ended or were asked to stop."""
    ids = [UUID(task_id) for task_id in task_ids]
    ended, flagged = await _cancel(conn, lambda: _ids(conn, _OF_TASKS, namespace, ids), announce)
    return len(ended) + len(flagged)


def _not_live(run_id: RunId, outcome: Outcome | None) -> NotFound | FailedPrecondition:
    if outcome is None:
        return NotFound(f"no run {run_id}", reason="RUN_NOT_FOUND", metadata={"field": "name"})
    return FailedPrecondition(
        f"Run is already terminal: {outcome}.",
        reason="RUN_TERMINAL",
        metadata={"field": "name", "outcome": outcome.value},
    )


async def _ids(conn: Connection, statement: str, *values: object) -> list[int]:
    return [row["id"] for row in await conn.fetch(statement, *values)]


async def _cancel(conn: Connection, read: Read, announce: Announce) -> tuple[set[int], set[int]]:
    """Cancel the runs that `read` finds; it is asked again under the locks."""

    async def decide() -> tuple[set[int], set[int]]:
        run_ids = await read()
        if not run_ids:
            return set(), set()
        held = await lanes.lock_families(conn, run_ids)
        found = await conn.fetch(_HOLDERS, await read())
        if not held.keys() >= {row["lane_key"] for row in found}:
            raise LanesGrew
        flagged = {row["id"] for row in found if row["worker"] is not None}
        if flagged:
            await conn.execute(_FLAG, sorted(flagged))
        endings = [
            ends.cancelled(row["id"], row["epoch"]) for row in found if row["worker"] is None
        ]
        ended = await ends.end_locked(conn, endings, held, announce)
        return {run.run_id for run in ended}, flagged

    return await lanes.restarting(conn, decide)
