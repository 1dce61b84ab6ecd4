"""History's rows for slots that did not run. Decides that contiguous slots share one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fased.core import firing
from fased.core.firing import Gap
from fased.core.names import RunId
from fased.core.runs import EndedRun, NewRun, Outcome, RunClass, RunResult, Trigger
from fased.core.tasks import Task
from fased.store import codec
from fased.store.queue import rows
from fased.store.queue.lanes import Connection

_RESULTS = {
    Outcome.SKIPPED: RunResult(reason="OVERLAP", message="A run of the task was still going on."),
    Outcome.MISSED: RunResult(reason="MISSED", message="Nobody could fire it in time."),
}

# A scalar subquery goes by run_history_task, and only to partitions since the slot before.
_CONTIGUOUS = """
SELECT (
  SELECT h.id FROM scheduler.run_history h
  WHERE h.task_id = u.task_id AND h.ended_at >= u.after AND h.outcome = u.outcome
    AND h.last_slot = u.after
  LIMIT 1) AS id
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
  u(task_id, outcome, after, place)
ORDER BY u.place
"""

_EXTEND = """
UPDATE scheduler.run_history h
SET last_slot = u.last_slot, slot_count = h.slot_count + u.n, ended_at = public.fased_now()
FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) u(id, last_slot, n)
WHERE h.id = u.id AND h.id = ANY($1::bigint[]) AND h.ended_at >= $4
"""

_INSERT = """
INSERT INTO scheduler.run_history (id, namespace, lane, class, task_id, session_key, run_for,
  created_at, run_at, ended_at, outcome, slot_count, first_slot, last_slot, body, result)
SELECT nextval('scheduler.run_id'), n, l, c, t, k, f, public.fased_now(), first_slot,
  public.fased_now(), o, slots, first_slot, last_slot, b, r
FROM unnest($1::text[], $2::text[], $3::smallint[], $4::uuid[], $5::text[], $6::interval[],
  $7::text[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::json[], $12::json[])
  WITH ORDINALITY u(n, l, c, t, k, f, o, slots, first_slot, last_slot, b, r, place)
ORDER BY place
RETURNING id, ended_at
"""


class TaskGap(NamedTuple):
    """Slots of a task that do not run."""

    task: Task
    gap: Gap


async def record(conn: Connection, found: Sequence[TaskGap]) -> list[EndedRun]:
    """Leave a row for each gap, or extend the row it goes on; answers with the new rows as ends.

    The caller holds the tasks' `task_due` rows.
    """
    if not found:
        return []
    ids = [row["id"] for row in await conn.fetch(_CONTIGUOUS, *_columns(_sought(found)))]
    longer = [(id_, each.gap) for id_, each in zip(ids, found, strict=True) if id_ is not None]
    if longer:
        await conn.execute(
            _EXTEND,
            [id_ for id_, _ in longer],
            [gap.last_slot for _, gap in longer],
            [gap.count for _, gap in longer],
            min(gap.after for _, gap in longer if gap.after is not None),
        )
    fresh = [each for id_, each in zip(ids, found, strict=True) if id_ is None]
    return await _insert(conn, fresh) if fresh else []


async def _insert(conn: Connection, fresh: list[TaskGap]) -> list[EndedRun]:
    runs = [_run(each) for each in fresh]
    made = await conn.fetch(
        _INSERT,
        *_columns(
            (run.namespace, rows.own_lane(run), int(run.run_class), UUID(each.task.id),
             run.body.session_key, run.run_for, each.gap.outcome.value, each.gap.count,
             each.gap.first_slot, each.gap.last_slot, codec.dump(run.body),
             codec.dump(_RESULTS[each.gap.outcome]))
            for each, run in zip(fresh, runs, strict=True)
        ),
    )  # fmt: skip
    return [
        _ended(each, run, RunId(row["id"]), row["ended_at"])
        for each, run, row in zip(fresh, runs, made, strict=True)
    ]


def _run(each: TaskGap) -> NewRun:
    """The run that did not happen, without the prompt, which nobody was given."""
    run = firing.run_of(each.task, RunClass.SCHEDULED, Trigger.SCHEDULE, slot=each.gap.first_slot)
    return replace(run, body=replace(run.body, prompt=""))


def _ended(each: TaskGap, run: NewRun, run_id: RunId, ended_at: datetime) -> EndedRun:
    return EndedRun(
        run_id=run_id,
        namespace=run.namespace,
        run_class=run.run_class,
        task_id=run.task_id,
        epoch=0,
        body=run.body,
        outcome=each.gap.outcome,
        result=_RESULTS[each.gap.outcome],
        deliver=False,
        ended_at=ended_at,
    )


def _sought(found: Sequence[TaskGap]) -> list[tuple[UUID, str, datetime | None]]:
    return [(UUID(each.task.id), each.gap.outcome.value, each.gap.after) for each in found]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
