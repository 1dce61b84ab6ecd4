"""The one way a run ends: history, outbox, its children's end, its parent's wake, its task's
figures, the next of its lane. Decides nothing about why a run ends.
"""

from collections.abc import Callable, Iterable, Sequence

from fased.core.events import OutboxEvent
from fased.core.names import RunId
from fased.core.queue import Completion, HeldRun
from fased.core.runs import EndedRun, LiveState, Outcome, RunResult
from fased.store import codec, outbox
from fased.store.queue import lanes, rows, task_figures
from fased.store.queue.lanes import Connection, Held, LanesGrew

# What to tell the world about a run that ended; given by the scheduler service.
Announce = Callable[[EndedRun], Sequence[OutboxEvent]]

Wanted = dict[tuple[RunId, int], Completion]

CANCELLED = RunResult(reason="CANCELLED")
_PARENT_ENDED = RunResult(reason="PARENT_ENDED")

# By primary key, fenced by the epoch alone (performance §3, law 14). A flagged run ends as
# cancelled, whatever was to be its outcome.
_END = """
WITH u AS (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::json[], $5::boolean[])
    u(id, epoch, outcome, result, deliver)
), ended AS (
  DELETE FROM scheduler.run r USING u
  WHERE r.id = u.id AND r.epoch = u.epoch AND r.id = ANY($1::bigint[])
  RETURNING r.id, r.namespace, r.lane, r.lane_key, r.lane_id, r.class, r.attempts, r.crashes,
    r.parent_run, r.task_id, r.worker, r.session_key, r.last_reason, r.run_for, r.created_at,
    r.run_at, r.leased_at, r.cancel, r.seq, r.state IN (1, 2, 3) AS was_head,
    r.body IS NULL AS large, r.epoch AS held_epoch,
    CASE WHEN $7 THEN nextval('scheduler.lease_epoch') ELSE r.epoch END AS epoch,
    CASE WHEN r.cancel THEN 'cancelled' ELSE u.outcome END AS outcome,
    CASE WHEN r.cancel THEN $6::json ELSE u.result END AS result,
    u.deliver AND NOT r.cancel AS deliver,
    coalesce(r.body, (SELECT p.body FROM scheduler.run_payload p WHERE p.run_id = r.id)) AS body,
    (SELECT public.fased_now()) AS ended_at,
    r.id = ANY(ARRAY(
      SELECT c.parent_run FROM scheduler.run c
      WHERE c.parent_run = ANY($1::bigint[]) AND c.parent_run IS NOT NULL)) AS has_children
), h AS (
  INSERT INTO scheduler.run_history (id, namespace, lane, class, attempts, crashes, epoch,
    parent_run, task_id, worker, session_key, last_reason, run_for, created_at, run_at, leased_at,
    ended_at, outcome, deliver, body, result)
  SELECT id, namespace, lane, class, attempts, crashes, epoch, parent_run, task_id, worker,
    session_key, last_reason, run_for, created_at, run_at, leased_at, ended_at, outcome, deliver,
    body, result
  FROM ended
)
SELECT id, namespace, lane, lane_key, lane_id, class, task_id, attempts, crashes, epoch, held_epoch,
  parent_run, outcome, deliver, cancel, ended_at, large, body, seq, was_head, has_children
FROM ended
"""

_DROP_PAYLOADS = "DELETE FROM scheduler.run_payload WHERE run_id = ANY($1::bigint[])"

# The row lock decides whether a child is leased: claim and recover hold no lane.
_CHILDREN = """
SELECT id, lane_key, state, epoch FROM scheduler.run
WHERE parent_run = ANY($1::bigint[]) AND parent_run IS NOT NULL
ORDER BY id FOR NO KEY UPDATE
"""

_FLAG = "UPDATE scheduler.run SET cancel = true WHERE id = ANY($1::bigint[])"

_WAKE_PARENTS = """
UPDATE scheduler.run SET wake_seq = wake_seq + 1,
  state = CASE WHEN state = 3 THEN 1 ELSE state END,
  wake_at = CASE WHEN state = 3 THEN NULL ELSE wake_at END
WHERE id = ANY($1::bigint[])
"""

_FLAGGED = """
SELECT r.id, r.epoch FROM unnest($1::bigint[], $2::bigint[]) u(id, epoch)
JOIN scheduler.run r ON r.id = u.id AND r.epoch = u.epoch
WHERE r.id = ANY($1::bigint[]) AND r.cancel
ORDER BY r.id FOR NO KEY UPDATE OF r
"""


def cancelled(run_id: RunId, epoch: int) -> Completion:
    """The end of a run that was asked to stop."""
    return Completion(run_id, epoch, Outcome.CANCELLED, CANCELLED)


async def end_locked(
    conn: Connection,
    endings: Iterable[Completion],
    held: Held,
    announce: Announce,
    *,
    by_worker: bool = False,
) -> list[EndedRun]:
    """End runs whose families' lanes are `held`; those under another epoch are left alone.

    A flagged run ends as cancelled and its result is dropped. Live children end with their
    parent, leased ones are asked to stop; a live parent is woken. Only a worker's own word
    (`by_worker`) leaves its epoch in history, so that its repeat finds the outcome; any other end
    takes a new one. Raises LanesGrew when a child waits in a lane that is not held.
    """
    wanted = {(ending.run_id, ending.epoch): ending for ending in endings}
    ended: list[EndedRun] = []
    gone: list[rows.Row] = []
    while wanted:
        found = await _end(conn, wanted, by_worker)
        gone += found
        ended += [rows.ended_run(row, _result(row, wanted)) for row in found]
        wanted = await _children(conn, [row["id"] for row in found if row["has_children"]], held)
        by_worker = False
    if not ended:
        return []
    await _drop_payloads(conn, gone)
    await _wake_parents(conn, gone)
    events = [event for run in ended for event in announce(run)]
    if events:
        await outbox.insert(conn, "scheduler", events)
    await lanes.promote_next(conn, _headless(gone, held))
    await task_figures.count_ends(conn, ended)
    return ended


async def end_flagged(
    conn: Connection, runs: Sequence[HeldRun], held: Held, announce: Announce
) -> set[HeldRun]:
    """End those of `runs` that were asked to stop while held under the same epoch."""
    found = await conn.fetch(_FLAGGED, [run.run_id for run in runs], [run.epoch for run in runs])
    ended = {HeldRun(row["id"], row["epoch"]) for row in found}
    await end_locked(conn, [cancelled(run.run_id, run.epoch) for run in ended], held, announce)
    return ended


async def _end(conn: Connection, wanted: Wanted, by_worker: bool) -> list[rows.Row]:
    endings = wanted.values()
    found: list[rows.Row] = await conn.fetch(
        _END,
        [ending.run_id for ending in endings],
        [ending.epoch for ending in endings],
        [ending.outcome.value for ending in endings],
        [codec.dump(ending.result) for ending in endings],
        [ending.deliver for ending in endings],
        codec.dump(CANCELLED),
        not by_worker,
    )
    return found


def _result(row: rows.Row, wanted: Wanted) -> RunResult:
    return CANCELLED if row["cancel"] else wanted[row["id"], row["held_epoch"]].result


async def _children(conn: Connection, parent_ids: list[int], held: Held) -> Wanted:
    """Ask leased children to stop; answers with the ends of the others."""
    if not parent_ids:
        return {}
    found = await conn.fetch(_CHILDREN, parent_ids)
    if not held.keys() >= {row["lane_key"] for row in found}:
        raise LanesGrew
    leased = [row["id"] for row in found if row["state"] == LiveState.LEASED]
    if leased:
        await conn.execute(_FLAG, leased)
    return {
        (row["id"], row["epoch"]): Completion(
            row["id"], row["epoch"], Outcome.CANCELLED, _PARENT_ENDED
        )
        for row in found
        if row["state"] != LiveState.LEASED
    }


async def _drop_payloads(conn: Connection, gone: list[rows.Row]) -> None:
    large = [row["id"] for row in gone if row["large"]]
    if large:
        await conn.execute(_DROP_PAYLOADS, large)


async def _wake_parents(conn: Connection, gone: list[rows.Row]) -> None:
    parents = {row["parent_run"] for row in gone if row["parent_run"] is not None}
    if parents:
        await conn.execute(_WAKE_PARENTS, sorted(parents))


def _headless(gone: list[rows.Row], held: Held) -> dict[int, int]:
    """The ids of lanes that lost their head while others may wait, with the number that it had.

    A lane's numbers only grow and its first one leads it: nobody waits behind the last.
    """
    return {
        row["lane_id"]: row["seq"]
        for row in gone
        if row["was_head"] and row["seq"] < held[row["lane_key"]].seq
    }
