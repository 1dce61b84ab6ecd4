"""What a worker says at the end of its work on a run: complete, or release. Fenced by epoch."""

from collections.abc import Sequence
from uuid import UUID

from fased.core.queue import Completion, CompletionResult, HeldRun, LeasedRun, WriteResult
from fased.core.runs import EndedRun, Outcome
from fased.store.queue import claim, ends, lanes
from fased.store.queue.ends import Announce, GoOn
from fased.store.queue.lanes import Connection

_RECORDED = """
SELECT id, epoch, outcome FROM scheduler.run_history WHERE id = ANY($1::bigint[])
"""

# Keeps the head, so it holds no lane; a row that another holds is left for the slow way.
_RELEASE_FREE = """
WITH free AS MATERIALIZED (
  SELECT r.id, r.epoch FROM unnest($1::bigint[], $2::bigint[]) u(id, epoch)
  JOIN scheduler.run r ON r.id = u.id AND r.epoch = u.epoch
  WHERE r.id = ANY($1::bigint[]) AND NOT r.cancel
  ORDER BY r.id FOR NO KEY UPDATE OF r SKIP LOCKED
), freed AS (
  UPDATE scheduler.run SET state = 1, worker = NULL, leased_at = NULL, resumed = true,
    time_left = greatest(deadline_at - public.fased_now(), interval '0'), deadline_at = NULL,
    epoch = nextval('scheduler.lease_epoch')
  WHERE id = ANY(ARRAY(SELECT id FROM free))
)
SELECT id, epoch FROM free
"""

_RELEASE_HELD = _RELEASE_FREE.replace(" SKIP LOCKED", "")

# What a recorded end is answered with; any other is WRITTEN.
_RESULT_OF = {None: WriteResult.STALE, Outcome.CANCELLED: WriteResult.CANCELLED}


async def complete(
    conn: Connection, completions: Sequence[Completion], announce: Announce
) -> list[CompletionResult]:
    """End runs with their results, each on its own, answering each in its place.

    WRITTEN also for a repeat under the same epoch, with the outcome recorded then. In a
    transaction of its own, or in a savepoint of a caller that holds no lane yet.
    """
    return await _complete(conn, completions, announce, lanes.promote_next)


async def complete_and_go_on(
    conn: Connection, completions: Sequence[Completion], announce: Announce, worker_id: UUID
) -> tuple[list[CompletionResult], list[LeasedRun]]:
    """As `complete`; what waits behind these runs is leased to their worker at once.

    Each such run takes the place of one that ended, and is of its class. As long as runs of other
    lanes wait to be claimed, and when the worker's lease ran out, there are none: then the next of
    each lane is ready for whoever claims.
    """
    leased: list[LeasedRun] = []

    async def go_on(conn: Connection, left: ends.Left) -> None:
        freed = {lane: head for lane, head in left.items() if head.freed_place}
        handed, led = await claim.hand_over(conn, worker_id, freed) if freed else ([], set())
        leased[:] = handed
        await lanes.promote_next(conn, {k: head for k, head in left.items() if k not in led})

    results = await _complete(conn, completions, announce, go_on)
    return results, leased


async def release(
    conn: Connection, runs: Sequence[HeldRun], announce: Announce
) -> list[WriteResult]:
    """Give leases back at once, keeping what is left of the deadline; flagged runs end.

    In a transaction of its own, or in a savepoint of a caller that holds no lane yet.
    """
    freed = await _release(conn, _RELEASE_FREE, runs)
    rest = [run for run in runs if run not in freed]
    ended: set[HeldRun] = set()
    if rest:

        async def settle() -> set[HeldRun]:
            held = await lanes.lock_families(conn, [run.run_id for run in rest])
            freed.update(await _release(conn, _RELEASE_HELD, rest))
            return await ends.end_flagged(conn, rest, held, announce)

        ended = await lanes.restarting(conn, settle)
    return [write_result(run in freed, run in ended) for run in runs]


async def _complete(
    conn: Connection, completions: Sequence[Completion], announce: Announce, go_on: GoOn
) -> list[CompletionResult]:
    has_families = False

    async def end() -> list[EndedRun]:
        # Few have a family, or are stale: then it is all done again, under the locks of all.
        nonlocal has_families
        held = None
        if has_families:
            held = await lanes.lock_families(conn, [done.run_id for done in completions])
        has_families = True
        return await ends.end_locked(conn, completions, held, announce, by_worker=True, go_on=go_on)

    ended = await lanes.restarting(conn, end)
    outcomes = {(run.run_id, run.epoch): run.outcome for run in ended}
    missing = [done.run_id for done in completions if (done.run_id, done.epoch) not in outcomes]
    if missing:
        for row in await conn.fetch(_RECORDED, missing):
            outcomes[row["id"], row["epoch"]] = Outcome(row["outcome"])
    return [
        CompletionResult(done.run_id, _RESULT_OF.get(outcome, WriteResult.WRITTEN), outcome)
        for done in completions
        for outcome in (outcomes.get((done.run_id, done.epoch)),)
    ]


def write_result(written: bool, cancelled: bool) -> WriteResult:
    """The answer to a fenced write that was done, that found its run flagged, or neither."""
    if written:
        return WriteResult.WRITTEN
    return WriteResult.CANCELLED if cancelled else WriteResult.STALE


async def _release(conn: Connection, statement: str, runs: Sequence[HeldRun]) -> set[HeldRun]:
    found = await conn.fetch(statement, [run.run_id for run in runs], [run.epoch for run in runs])
    return {HeldRun(row["id"], row["epoch"]) for row in found}
