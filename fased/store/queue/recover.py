"""Takes runs back from workers that are gone, and ends runs past their deadline.

Any scheduler recovers any worker's runs; whether its own tick is late is `core.queue`'s word.
"""

from dataclasses import dataclass

from fased.core.errors import FailedPrecondition, NotFound
from fased.core.names import Namespace, RunId
from fased.core.queue import Completion
from fased.core.runs import MAX_CRASHES, Outcome, RunResult
from fased.store.queue import ends, lanes, rows
from fased.store.queue.ends import Announce
from fased.store.queue.lanes import Connection

_WORKER_LOST = RunResult(reason="WORKER_LOST")
_TIMED_OUT = RunResult(reason="DEADLINE_EXCEEDED")

# A late heartbeat waits at the row, then matches nothing; another recovery's rows are skipped.
_EXPIRE_WORKERS = """
WITH gone AS (
  SELECT id FROM scheduler.worker
  WHERE expires_at > '-infinity' AND ($1 OR expires_at <= public.fased_now())
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE scheduler.worker SET expires_at = '-infinity' WHERE id IN (SELECT id FROM gone)
"""

_WORKER_GONE = """NOT EXISTS (
    SELECT 1 FROM scheduler.worker w WHERE w.id = {}.worker AND w.expires_at > public.fased_now())
"""

_ORPHANED = f"""{rows.LISTED.format(_WORKER_GONE.format("claim"))}
  AND worker IS NOT NULL AND {_WORKER_GONE.format("run")}"""

_MAKE_READY = """
UPDATE scheduler.run SET state = 1, worker = NULL, leased_at = NULL, deadline_at = NULL,
  resumed = true, crashes = crashes + 1, epoch = nextval('scheduler.lease_epoch')
"""

# Keeps the head, so it holds no lane and waits for no row.
_RECOVER = f"""
WITH lost AS MATERIALIZED (
  SELECT id FROM scheduler.run
  WHERE {_ORPHANED} AND NOT cancel AND crashes < {MAX_CRASHES}
  ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
{_MAKE_READY} WHERE id = ANY(ARRAY(SELECT id FROM lost))
RETURNING id
"""

_LOST_FOR_GOOD = f"""
SELECT id, epoch FROM scheduler.run
WHERE {_ORPHANED} AND (cancel OR crashes >= {MAX_CRASHES})
ORDER BY id LIMIT $1
"""

_PAST_DEADLINE = f"""
SELECT id, epoch FROM scheduler.run
WHERE {rows.LISTED.format("first_deadline <= public.fased_now()")}
  AND worker IS NOT NULL AND deadline_at <= public.fased_now()
ORDER BY deadline_at LIMIT $1
"""

_ONE = f"""
SELECT id, worker, epoch, cancel, crashes, {_WORKER_GONE.format("run")} AS worker_gone
FROM scheduler.run WHERE id = $1 AND namespace = $2 FOR NO KEY UPDATE
"""

_READY_ONE = f"{_MAKE_READY} WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What one pass did: runs ready again, ended as lost or cancelled, and timed out."""

    ready: int
    lost: int
    timed_out: int

    @property
    def total(self) -> int:
        """All runs that the pass touched."""
        return self.ready + self.lost + self.timed_out


async def recover(conn: Connection, announce: Announce, limit: int = 500) -> Recovered:
    """One pass: end expired leases, make their runs ready, end what is lost or past its deadline.

    At most `limit` runs of each kind. Takes a connection that is not in a transaction: each step
    has one of its own, so that no worker's row is held while a lane is waited for.
    """
    await conn.execute(_EXPIRE_WORKERS, False)
    ready = await conn.fetch(_RECOVER, limit)
    lost = await _end_found(conn, _LOST_FOR_GOOD, limit, Outcome.FAILED, _WORKER_LOST, announce)
    late = await _end_found(conn, _PAST_DEADLINE, limit, Outcome.TIMED_OUT, _TIMED_OUT, announce)
    return Recovered(len(ready), lost, late)


async def end_all_leases(conn: Connection, announce: Announce) -> int:
    """End every worker's lease and take all its runs back; answers with how many.

    Only for the one process that owns the database alone and has just started.
    """
    await conn.execute(_EXPIRE_WORKERS, True)
    total = 0
    while done := (await recover(conn, announce)).total:
        total += done
    return total


async def clear_stale(
    conn: Connection, namespace: Namespace, run_id: RunId, announce: Announce
) -> None:
    """Take one run from a worker whose lease has expired, as recovery would.

    In a transaction of its own, or in a savepoint of a caller that holds no lane yet. Raises
    NotFound, or FailedPrecondition NOT_LEASED or LEASE_STANDS.
    """

    async def decide() -> None:
        held = await lanes.lock_families(conn, [run_id])
        row = await conn.fetchrow(_ONE, run_id, namespace)
        if row is None:
            raise NotFound(
                f"no live run {run_id}", reason="RUN_NOT_FOUND", metadata={"field": "name"}
            )
        if row["worker"] is None:
            raise _refused("NOT_LEASED", "no worker holds this run")
        if not row["worker_gone"]:
            raise _refused(
                "LEASE_STANDS", "the worker that holds this run is alive; cancel it instead"
            )
        if row["cancel"] or row["crashes"] >= MAX_CRASHES:
            ending = Completion(run_id, row["epoch"], Outcome.FAILED, _WORKER_LOST)
            await ends.end_locked(conn, [ending], held, announce)
            return
        await conn.execute(_READY_ONE, run_id)

    await lanes.restarting(conn, decide)


def _refused(reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason=reason, metadata={"field": "name"})


async def _end_found(
    conn: Connection,
    statement: str,
    limit: int,
    outcome: Outcome,
    result: RunResult,
    announce: Announce,
) -> int:
    """End what `statement` finds, as long as its epoch is the one found."""

    async def end() -> int:
        found = await conn.fetch(statement, limit)
        if not found:
            return 0
        held = await lanes.lock_families(conn, [row["id"] for row in found])
        endings = [Completion(row["id"], row["epoch"], outcome, result) for row in found]
        return len(await ends.end_locked(conn, endings, held, announce))

    return await lanes.restarting(conn, end)
