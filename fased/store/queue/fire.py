"""Fires due tasks: each slot once, whichever replica sees it. What a fire does is `core/firing.py`.

One transaction a batch: due rows (SKIP LOCKED), keys and lanes and runs, rows of slots that do not
run, then a compare-and-set on `last_slot` (performance §3, law 10). A batch that fails is repeated
one transaction a row. The `task_due` row is the task's lock: an edit holds it too.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from fased.core import firing
from fased.core.errors import FailedPrecondition, FasedError, NotFound
from fased.core.events import OutboxEvent
from fased.core.findings import Finding
from fased.core.firing import Disable, FirePlan, LiveRun
from fased.core.names import Namespace, RunId, TaskId
from fased.core.queue import EnqueueItem
from fased.core.runs import LiveState, RunClass, Trigger
from fased.core.task_text import short_id
from fased.core.tasks import Task, TaskState
from fased.store import outbox, tasks, transient
from fased.store.queue import cancel, enqueue, gaps, rows
from fased.store.queue.ends import Announce
from fased.store.queue.gaps import TaskGap
from fased.store.queue.lanes import Connection

BATCH = 500

Row = Any
# What to tell about a task that is disabled, and why it was.
Tell = Callable[[Task, str], Sequence[OutboxEvent]]

_DUE = """
SELECT task_id FROM scheduler.task_due WHERE next_at <= public.fased_now()
ORDER BY next_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
"""

_ONE_DUE = """
SELECT task_id FROM scheduler.task_due WHERE task_id = $1 AND next_at <= public.fased_now()
FOR NO KEY UPDATE SKIP LOCKED
"""

_DUE_IDS = """
SELECT task_id FROM scheduler.task_due WHERE next_at <= public.fased_now()
ORDER BY next_at LIMIT $1
"""

# Its snapshot is younger than the locks. An edit whose two halves do not agree is left for later.
_TASKS = f"""
SELECT {tasks.COLUMNS}, public.fased_now() AS now
FROM scheduler.task_due d JOIN scheduler.task t ON t.id = d.task_id AND t.generation = d.gen
  LEFT JOIN scheduler.task_stats s ON s.task_id = d.task_id
WHERE d.task_id = ANY($1::uuid[]) AND t.state = 'active'
"""

_LIVE = f"""
SELECT task_id, id, {rows.LIVE_STATE} AS state, cancel FROM scheduler.run
WHERE task_id = ANY($1::uuid[]) AND task_id IS NOT NULL ORDER BY id
"""

_ADVANCE = """
UPDATE scheduler.task_due d
SET next_at = u.next_at, last_slot = coalesce(u.last_slot, d.last_slot)
FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::boolean[])
  u(id, gen, next_at, last_slot, deals)
WHERE d.task_id = u.id AND d.task_id = ANY($1::uuid[]) AND d.gen = u.gen
  AND (d.last_slot < u.last_slot OR NOT u.deals)
RETURNING d.task_id
"""

_DONE = """
UPDATE scheduler.task SET state = 'done', updated_at = public.fased_now()
WHERE id = ANY($1::uuid[])
"""

_NEXT_IN = """
SELECT min(next_at) - public.fased_now() FROM scheduler.task_due WHERE next_at IS NOT NULL
"""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fired:
    """What a pass did: `due` rows seen, runs started, slots that do not run, tasks disabled.

    `cancelled` runs were asked to end first: their tasks are still due.
    """

    due: int = 0
    started: int = 0
    passed: int = 0
    disabled: int = 0
    cancelled: int = 0

    def __add__(self, other: "Fired") -> "Fired":
        return Fired(
            self.due + other.due,
            self.started + other.started,
            self.passed + other.passed,
            self.disabled + other.disabled,
            self.cancelled + other.cancelled,
        )


class Outrun(Exception):
    """Somebody else dealt with a slot of this batch: all of it is rolled back."""


@dataclass(frozen=True, slots=True)
class _Planned:
    task: Task
    plan: FirePlan


async def fire_due(conn: Connection, announce: Announce, tell: Tell, limit: int = BATCH) -> Fired:
    """Deal with up to `limit` due tasks. Takes a connection that is not in a transaction.

    Raises only what waiting may mend: the database is away, full or in a lock.
    """
    try:
        return await _fire(conn, _DUE, limit, announce, tell)
    except (asyncpg.PostgresError, FasedError, ValueError, Outrun) as exc:
        if transient.is_transient(exc):
            raise
        logger.warning("fire_batch_repeated_singly", error=repr(exc))
    total = Fired()
    for row in await conn.fetch(_DUE_IDS, limit):
        total += await _fire_one(conn, row["task_id"], announce, tell)
    return total


async def next_due_in(conn: Connection) -> timedelta | None:
    """How long until a task is due, not above zero when one is; None without any."""
    left: timedelta | None = await conn.fetchval(_NEXT_IN)
    return left


async def disable(
    conn: Connection, namespace: Namespace, task_id: TaskId, why: Disable, tell: Tell
) -> bool:
    """Stop an active task from firing and tell its chat, in a transaction of its own."""
    async with conn.transaction():
        task = await tasks.lock(conn, namespace, task_id)
        if task is None or task.state is not TaskState.ACTIVE:
            return False
        await _disable_locked(conn, task, why, tell)
        return True


async def _fire_one(conn: Connection, task_id: UUID, announce: Announce, tell: Tell) -> Fired:
    try:
        return await _fire(conn, _ONE_DUE, task_id, announce, tell)
    except Outrun:
        logger.info("fire_outrun", task_id=str(task_id))
        return Fired()
    except (asyncpg.PostgresError, FasedError, ValueError) as exc:
        if transient.is_transient(exc):
            raise
        logger.exception("fire_failed", task_id=str(task_id))
        return await _disable_unfirable(conn, task_id, tell)


async def _disable_unfirable(conn: Connection, task_id: UUID, tell: Tell) -> Fired:
    """Disable a task that cannot be fired, and perhaps not even be read."""
    why = Disable("FIRE_FAILED", "its run could not be made; the log of the scheduler says why.")
    namespace = await conn.fetchval(
        "SELECT namespace FROM scheduler.task_due WHERE task_id = $1", task_id
    )
    try:
        disabled = await disable(conn, namespace, TaskId(str(task_id)), why, tell)
    except ValueError:
        async with conn.transaction():
            await conn.execute(
                "UPDATE scheduler.task_due SET next_at = NULL WHERE task_id = $1", task_id
            )
            await conn.execute(
                "UPDATE scheduler.task SET state = 'disabled', reason = $2, message = $3"
                " WHERE id = $1",
                task_id, "TASK_UNREADABLE", "its definition cannot be read.",
            )  # fmt: skip
        disabled = True
    return Fired(due=1, disabled=int(disabled))


async def _fire(
    conn: Connection, due: str, argument: object, announce: Announce, tell: Tell
) -> Fired:
    """One transaction for what `due` finds; runs that must end first are cancelled after it."""
    async with conn.transaction():
        ids = [row["task_id"] for row in await conn.fetch(due, argument)]
        if not ids:
            return Fired()
        planned, disabled = await _plan(conn, ids)
        ready = [each for each in planned if not each.plan.cancel]
        for task, why in disabled:
            await _disable_locked(conn, task, why, tell)
        await _start(conn, ready)
        ended = await gaps.record(
            conn, [TaskGap(each.task, gap) for each in ready for gap in each.plan.gaps]
        )
        await outbox.insert(conn, "scheduler", announce(ended))
        await _advance(conn, ready)
    cancelled = 0
    for each in planned:
        for run_id in each.plan.cancel:
            cancelled += await _cancel(conn, each.task.namespace, run_id, announce)
    return Fired(
        due=len(ids),
        started=sum(len(each.plan.starts) for each in ready),
        passed=sum(gap.count for each in ready for gap in each.plan.gaps),
        disabled=len(disabled),
        cancelled=cancelled,
    )


async def _plan(
    conn: Connection, ids: list[UUID]
) -> tuple[list[_Planned], list[tuple[Task, Disable]]]:
    live: dict[UUID, list[LiveRun]] = {}
    for row in await conn.fetch(_LIVE, ids):
        run = LiveRun(RunId(row["id"]), LiveState(row["state"]), row["cancel"])
        live.setdefault(row["task_id"], []).append(run)
    planned: list[_Planned] = []
    disabled: list[tuple[Task, Disable]] = []
    for row in await conn.fetch(_TASKS, ids):
        task = tasks.task_of(row)
        plan = _plan_one(task, row["now"], live.get(row["id"], []))
        if isinstance(plan, Disable):
            disabled.append((task, plan))
        else:
            planned.append(_Planned(task, plan))
    return planned, disabled


def _plan_one(task: Task, now: datetime, live: list[LiveRun]) -> FirePlan | Disable:
    assert task.next_at is not None, "only due rows are read"
    return firing.plan_fire(task, task.next_at, task.last_slot, live, now)


async def _start(conn: Connection, ready: list[_Planned]) -> None:
    items = [
        EnqueueItem(
            each.task.namespace,
            firing.slot_key(each.task, slot),
            (firing.run_of(each.task, RunClass.SCHEDULED, Trigger.SCHEDULE, slot=slot),),
        )
        for each in ready
        for slot in each.plan.starts
    ]
    if items:
        await enqueue.enqueue(conn, items)


async def _advance(conn: Connection, ready: list[_Planned]) -> None:
    """Note the slots as dealt with; raises Outrun unless every one was still open."""
    if not ready:
        return
    moved = await conn.fetch(
        _ADVANCE,
        [UUID(each.task.id) for each in ready],
        [each.task.generation for each in ready],
        [each.plan.next_at for each in ready],
        [each.plan.last_slot for each in ready],
        [bool(each.plan.starts or each.plan.gaps) for each in ready],
    )
    if len(moved) != len(ready):
        raise Outrun
    done = [UUID(each.task.id) for each in ready if each.plan.next_at is None]
    if done:
        await conn.execute(_DONE, done)


async def _disable_locked(conn: Connection, task: Task, why: Disable, tell: Tell) -> None:
    resume = Finding(why.reason, why.message, f"/task resume {short_id(task.id)}")
    await tasks.set_state(conn, task, TaskState.DISABLED, why=resume)
    await outbox.insert(conn, "scheduler", tell(task, why.message))
    logger.warning("task_disabled", task_id=task.id, reason=why.reason)


async def _cancel(conn: Connection, namespace: Namespace, run_id: RunId, announce: Announce) -> int:
    with suppress(NotFound, FailedPrecondition):
        await cancel.cancel(conn, namespace, run_id, announce)
        return 1
    return 0
