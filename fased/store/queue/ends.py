"""The one way a run ends: history, outbox, its children's end, its parent's wake, its task's
figures, the next of its lane. Decides nothing about why a run ends.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import itemgetter

from fased.core.events import OutboxEvent
from fased.core.names import RunId
from fased.core.queue import Completion, HeldRun
from fased.core.runs import EndedRun, Outcome, RunResult
from fased.store import codec, outbox
from fased.store.queue import lanes, rows, task_figures
from fased.store.queue.lanes import Connection, Held, LanesGrew, LeftLane

# What to tell the world about runs that ended together; given by the scheduler service.
Announce = Callable[[Sequence[EndedRun]], Sequence[OutboxEvent]]

Wanted = dict[tuple[RunId, int], Completion]
Left = dict[int, LeftLane]
# What becomes of lanes that lost their head.
GoOn = Callable[[Connection, Left], Awaitable[None]]

# The older of two runs of a task counts first, in whatever order PostgreSQL ended them.
_ID = itemgetter(0)

CANCELLED = RunResult(reason="CANCELLED")
_PARENT_ENDED = RunResult(reason="PARENT_ENDED")

# By primary key, fenced by the epoch alone (performance §3, law 14). A flagged run ends as
# cancelled, whatever was to be its outcome. The lanes are locked before the first run is touched: a
# count of them stands in its way. A row that changed meanwhile is read anew, but a new child is not
# seen: who has not locked whole families ($8) ends no run that may have one.
_END = """
WITH mine AS MATERIALIZED (
  SELECT lane_key, has_children OR parent_run IS NOT NULL AS is_linked
  FROM scheduler.run WHERE id = ANY($1::bigint[])
), held AS MATERIALIZED (
  SELECT key, seq FROM scheduler.lane WHERE key = ANY(ARRAY(SELECT lane_key FROM mine))
  ORDER BY key FOR NO KEY UPDATE
), u AS (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::json[], $5::boolean[])
    u(id, epoch, outcome, result, deliver)
), ended AS (
  DELETE FROM scheduler.run r USING u
  WHERE r.id = u.id AND r.epoch = u.epoch AND r.id = ANY($1::bigint[])
    AND (SELECT count(*) FROM held) > 0
    AND ($8 OR NOT (SELECT coalesce(bool_or(is_linked), false) FROM mine))
  RETURNING r.id, r.namespace, r.lane, r.lane_key, r.lane_id, r.class, r.attempts, r.crashes,
    r.parent_run, r.task_id, r.worker, r.session_key, r.last_reason, r.run_for, r.created_at,
    r.run_at, r.leased_at, r.cancel, CASE WHEN r.state IN (1, 2, 3) THEN r.seq END AS led_seq,
    r.body IS NULL AS large, r.epoch AS held_epoch,
    CASE WHEN $7 THEN nextval('scheduler.lease_epoch') ELSE r.epoch END AS epoch,
    CASE WHEN r.cancel THEN 'cancelled' ELSE u.outcome END AS outcome,
    CASE WHEN r.cancel THEN $6::json ELSE u.result END AS result,
    u.deliver AND NOT r.cancel AS deliver,
    coalesce(r.body, (SELECT p.body FROM scheduler.run_payload p WHERE p.run_id = r.id)) AS body,
    (SELECT public.fased_now()) AS ended_at, r.has_children
), h AS (
  INSERT INTO scheduler.run_history (id, namespace, lane, class, attempts, crashes, epoch,
    parent_run, task_id, worker, session_key, last_reason, run_for, created_at, run_at, leased_at,
    ended_at, outcome, deliver, body, result)
  SELECT id, namespace, lane, class, attempts, crashes, epoch, parent_run, task_id, worker,
    session_key, last_reason, run_for, created_at, run_at, leased_at, ended_at, outcome, deliver,
    body, result
  FROM ended
)
SELECT id, namespace, class, task_id, epoch, held_epoch, outcome, deliver, cancel, ended_at, body,
  CASE WHEN led_seq < held.seq THEN lane_id END AS left_lane, led_seq,
  large, has_children, parent_run
FROM ended LEFT JOIN held ON held.key = ended.lane_key
"""

_DROP_PAYLOADS = "DELETE FROM scheduler.run_payload WHERE run_id = ANY($1::bigint[])"

# The row lock decides whether a child is leased: claim and recover hold no lane.
_CHILDREN = """
SELECT id, lane_key, worker, epoch FROM scheduler.run
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
    held: Held | None,
    announce: Announce,
    *,
    by_worker: bool = False,
    go_on: GoOn = lanes.promote_next,
) -> list[EndedRun]:
    """End runs whose families' lanes are `held`; those under another epoch are left alone.

    Where `held` is None it locks the runs' own lanes, which is enough as long as all are found and
    none has a parent or children; or else it raises LanesGrew, as where a child has come since and
    waits in a lane that is not held. A flagged run ends as cancelled and its result is dropped.
    Live children end with their parent, leased ones are asked to stop; a live parent is woken. Only
    a worker's own word (`by_worker`) leaves its epoch in history, so that its repeat finds the
    outcome; any other end takes a new one. `go_on` is told which lanes lost their head.
    """
    wanted = {(ending.run_id, ending.epoch): ending for ending in endings}
    gone = _Gone()
    while wanted:
        found = await _end(conn, wanted, by_worker, held is not None)
        if held is None and len(found) < len(wanted):
            raise LanesGrew
        parents = gone.take(sorted(found, key=_ID), wanted, by_worker)
        wanted = await _children(conn, parents, held or {})
        by_worker = False
    if not gone.runs:
        return []
    if gone.large:
        await conn.execute(_DROP_PAYLOADS, gone.large)
    if gone.parents:
        await conn.execute(_WAKE_PARENTS, sorted(gone.parents))
    await outbox.insert(conn, "scheduler", announce(gone.runs))
    await go_on(conn, gone.left)
    await task_figures.count_ends(conn, gone.runs)
    return gone.runs


async def end_flagged(
    conn: Connection, runs: Sequence[HeldRun], held: Held, announce: Announce
) -> set[HeldRun]:
    """End those of `runs` that were asked to stop while held under the same epoch."""
    found = await conn.fetch(_FLAGGED, [run.run_id for run in runs], [run.epoch for run in runs])
    ended = {HeldRun(row["id"], row["epoch"]) for row in found}
    await end_locked(conn, [cancelled(run.run_id, run.epoch) for run in ended], held, announce)
    return ended


async def _end(
    conn: Connection, wanted: Wanted, by_worker: bool, has_families: bool
) -> list[rows.Row]:
    endings = wanted.values()
    found: list[rows.Row] = await conn.fetch(
        _END,
        [ending.run_id for ending in endings],
        [ending.epoch for ending in endings],
        [ending.outcome for ending in endings],
        [codec.dump(ending.result) for ending in endings],
        [ending.deliver for ending in endings],
        codec.dump(CANCELLED),
        not by_worker,
        has_families,
    )
    return found


class _Gone:
    """What one call has ended: the runs, and what hung on them.

    `left` has lanes that lost their head while others may wait, by id: a lane's numbers only grow
    and its first one leads it, so that nobody waits behind the last.
    """

    def __init__(self) -> None:
        self.runs: list[EndedRun] = []
        self.left: Left = {}
        self.large: list[int] = []
        self.parents: set[int] = set()

    def take(self, found: Iterable[rows.Row], wanted: Wanted, by_worker: bool) -> list[int]:
        """Add what `_END` gave; answers with the runs that had children."""
        with_children: list[int] = []
        for (run_id, namespace, run_class, task_id, epoch, held_epoch, outcome, deliver,
             was_flagged, ended_at, body, left_lane, led_seq, is_large, has_children, parent,
             ) in found:  # fmt: skip
            result = CANCELLED if was_flagged else wanted[run_id, held_epoch].result
            self.runs.append(
                EndedRun(run_id, namespace, rows.RUN_CLASSES[run_class], rows.task_id(task_id),
                         epoch, rows.run_body(body), rows.OUTCOMES[outcome], result, deliver,
                         ended_at)
            )  # fmt: skip
            if left_lane is not None:
                self.left[left_lane] = LeftLane(led_seq, run_class, by_worker)
            if is_large:
                self.large.append(run_id)
            if parent is not None:
                self.parents.add(parent)
            if has_children:
                with_children.append(run_id)
        return with_children


async def _children(conn: Connection, parent_ids: list[int], held: Held) -> Wanted:
    """Ask leased children to stop; answers with the ends of the others."""
    if not parent_ids:
        return {}
    found = await conn.fetch(_CHILDREN, parent_ids)
    if not held.keys() >= {row["lane_key"] for row in found}:
        raise LanesGrew
    leased = [row["id"] for row in found if row["worker"] is not None]
    if leased:
        await conn.execute(_FLAG, leased)
    return {
        (row["id"], row["epoch"]): Completion(
            row["id"], row["epoch"], Outcome.CANCELLED, _PARENT_ENDED
        )
        for row in found
        if row["worker"] is None
    }
