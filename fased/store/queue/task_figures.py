"""What a task's ended runs add up to. Decides which ends count as failures; last in lock order."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from fased.core.runs import EndedRun, Outcome
from fased.store.queue.lanes import Connection

_FAILURES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})

_COUNT = """
INSERT INTO scheduler.task_stats AS s (task_id, namespace, last_run_id, last_outcome,
  last_ended_at, failures_in_row, runs_total, successes_total)
SELECT u.task_id, u.namespace, u.run_id, u.outcome, u.ended_at, u.failures, u.runs, u.successes
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::int[],
  $7::int[], $8::int[])
  u(task_id, namespace, run_id, outcome, ended_at, failures, runs, successes)
WHERE EXISTS (SELECT 1 FROM scheduler.task t WHERE t.id = u.task_id)
ORDER BY u.task_id
ON CONFLICT (task_id) DO UPDATE SET
  last_run_id = EXCLUDED.last_run_id, last_outcome = EXCLUDED.last_outcome,
  last_ended_at = EXCLUDED.last_ended_at,
  failures_in_row = EXCLUDED.failures_in_row
    + CASE WHEN EXCLUDED.successes_total > 0 THEN 0 ELSE s.failures_in_row END,
  runs_total = s.runs_total + EXCLUDED.runs_total,
  successes_total = s.successes_total + EXCLUDED.successes_total
"""


@dataclass(slots=True)
class _Figures:
    last: EndedRun
    failures: int = 0
    runs: int = 0
    successes: int = 0


async def count_ends(conn: Connection, ended: Sequence[EndedRun]) -> None:
    """Add ended runs to their tasks' figures; a task that is gone gets none.

    `failures_in_row` are failed and timed-out runs since the last success; other ends neither
    add to it nor end it.
    """
    figures: dict[str, _Figures] = {}
    for run in ended:
        if run.task_id is None:
            continue
        task = figures.setdefault(run.task_id, _Figures(run))
        task.last = run
        task.runs += 1
        if run.outcome is Outcome.SUCCEEDED:
            task.successes += 1
            task.failures = 0
        elif run.outcome in _FAILURES:
            task.failures += 1
    if not figures:
        return
    tasks = list(figures.values())
    await conn.execute(
        _COUNT,
        [UUID(task_id) for task_id in figures],
        [task.last.namespace for task in tasks],
        [task.last.run_id for task in tasks],
        [task.last.outcome.value for task in tasks],
        [task.last.ended_at for task in tasks],
        [task.failures for task in tasks],
        [task.runs for task in tasks],
        [task.successes for task in tasks],
    )
