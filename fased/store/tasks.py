"""Tasks in rows, with what is due and how their runs ended. Firing is `queue/fire.py`.

Functions take a driver's connection; the caller owns the transaction. A task's `task_due` row is
its lock: an edit takes it first, as a fire does, so that neither sees half of the other.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fased.core.findings import Finding
from fased.core.messages import Target
from fased.core.names import AgentId, Namespace, SessionKey, TaskId
from fased.core.runs import DEFAULT_RUN_FOR, ExecutionMode
from fased.core.tasks import (
    FAILURES_TO_DISABLE,
    MissedPolicy,
    Overlap,
    Task,
    TaskState,
    TriggerSpec,
)
from fased.store import codec
from fased.store.database import Connection

Row = Any
MAX_CANDIDATES = 5

COLUMNS = """t.namespace, t.id, t.name, t.agent_id, t.session_key, t.spec, t.state, t.reason,
  t.message, t.setup_target, t.generation, t.managed_by, t.zone_data, t.created_at, t.updated_at,
  d.next_at, nullif(d.last_slot, '-infinity') AS last_slot,
  coalesce(s.failures_in_row, 0) AS failures_in_row, coalesce(s.last_outcome, '') AS last_outcome,
  s.last_run_id"""

_FROM = """scheduler.task t JOIN scheduler.task_due d ON d.task_id = t.id
  LEFT JOIN scheduler.task_stats s ON s.task_id = t.id"""

_SELECT = f"SELECT {COLUMNS} FROM {_FROM}"

_INSERT = """
INSERT INTO scheduler.task (namespace, id, name, agent_id, session_key, spec, state, reason,
  message, setup_target, managed_by, zone_data, request_id, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
ON CONFLICT DO NOTHING
RETURNING 1
"""

_INSERT_DUE = """
INSERT INTO scheduler.task_due (task_id, gen, namespace, next_at) VALUES ($1, 1, $2, $3)
"""

_LOCK = """
SELECT 1 FROM scheduler.task_due WHERE task_id = $1 AND namespace = $2 FOR NO KEY UPDATE
"""

_SET_STATE = """
UPDATE scheduler.task SET state = $2, reason = $3, message = $4, setup_target = $5,
  generation = generation + 1, updated_at = public.fased_now()
WHERE id = $1
"""

_CHANGE = """
UPDATE scheduler.task SET name = $2, agent_id = $3, session_key = $4, spec = $5, state = $6,
  reason = $7, message = $8, setup_target = $9, managed_by = $10, zone_data = $11,
  generation = generation + 1, updated_at = public.fased_now()
WHERE id = $1
"""

_LOCK_ALL = """
SELECT task_id FROM scheduler.task_due WHERE task_id = ANY($1::uuid[]) AND namespace = $2
ORDER BY task_id FOR NO KEY UPDATE
"""

# Index task_owned.
_OWNED = """
SELECT id FROM scheduler.task WHERE namespace = $1 AND managed_by = $2 AND managed_by <> ''
"""

_COUNTS = """
SELECT agent_id, count(*) AS tasks FROM scheduler.task WHERE namespace = $1 GROUP BY agent_id
"""

_SET_DUE = "UPDATE scheduler.task_due SET next_at = $2, gen = gen + 1 WHERE task_id = $1"

_FORGET_FAILURES = "UPDATE scheduler.task_stats SET failures_in_row = 0 WHERE task_id = $1"

# Index task_stats_failing.
_FAILING = f"""
SELECT t.namespace, t.id FROM scheduler.task_stats s JOIN scheduler.task t ON t.id = s.task_id
WHERE s.failures_in_row >= {FAILURES_TO_DISABLE} AND t.state = 'active'
ORDER BY t.id LIMIT $1
"""

_FIGURES = """
SELECT count(*) AS active, (
    SELECT min(next_at) FROM scheduler.task_due WHERE namespace = $1 AND next_at IS NOT NULL
  ) AS next_at
FROM scheduler.task WHERE namespace = $1 AND state = 'active'
"""


@dataclass(frozen=True, slots=True)
class _Spec:
    """The declarative part of a task, as it is stored."""

    prompt: str
    trigger: TriggerSpec
    mode: ExecutionMode = ExecutionMode.AGENT_TURN
    model: str = ""
    target: Target | None = None
    overlap: Overlap = Overlap.SKIP
    missed: MissedPolicy = MissedPolicy.ONCE
    missed_limit: int = 0
    missed_within: timedelta = timedelta(0)
    run_for: timedelta = DEFAULT_RUN_FOR
    labels: dict[str, str] = field(default_factory=dict, hash=False)


async def insert(conn: Connection, task: Task, request_id: str) -> bool:
    """Keep a new task, due at its `next_at`; False when its request or its id has made one."""
    made = await conn.fetchval(
        _INSERT, task.namespace, UUID(task.id), task.name, task.agent_id, task.session_key,
        codec.dump(_spec(task)), task.state, task.reason, task.message, task.setup_target,
        task.managed_by, task.zone_data, request_id or None, task.created_at,
    )  # fmt: skip
    if made is None:
        return False
    await conn.execute(_INSERT_DUE, UUID(task.id), task.namespace, task.next_at)
    return True


async def get(conn: Connection, namespace: Namespace, task_id: TaskId) -> Task | None:
    """One task, by primary key."""
    row = await conn.fetchrow(
        f"{_SELECT} WHERE t.id = $1 AND t.namespace = $2", UUID(task_id), namespace
    )
    return None if row is None else task_of(row)


async def get_requested(conn: Connection, namespace: Namespace, request_id: str) -> Task | None:
    """The task that a request made (index task_request)."""
    row = await conn.fetchrow(
        f"{_SELECT} WHERE t.namespace = $1 AND t.request_id = $2", namespace, request_id
    )
    return None if row is None else task_of(row)


async def lock(conn: Connection, namespace: Namespace, task_id: TaskId) -> Task | None:
    """One task, held for an edit until the transaction ends; no fire happens meanwhile."""
    if await conn.fetchval(_LOCK, UUID(task_id), namespace) is None:
        return None
    return await get(conn, namespace, task_id)


async def lock_all(
    conn: Connection, namespace: Namespace, task_ids: Collection[TaskId]
) -> dict[TaskId, Task]:
    """As `lock`, for those of the tasks that are there, in one order."""
    ids = [UUID(task_id) for task_id in task_ids]
    await conn.execute(_LOCK_ALL, ids, namespace)
    return await get_all(conn, namespace, task_ids)


async def get_all(
    conn: Connection, namespace: Namespace, task_ids: Collection[TaskId]
) -> dict[TaskId, Task]:
    """Those of the tasks that are there, by primary key."""
    rows = await conn.fetch(
        f"{_SELECT} WHERE t.id = ANY($1::uuid[]) AND t.namespace = $2",
        [UUID(task_id) for task_id in task_ids],
        namespace,
    )
    return {task.id: task for task in map(task_of, rows)}


async def owned_by(conn: Connection, namespace: Namespace, managed_by: str) -> list[TaskId]:
    """The ids of one owner's tasks."""
    rows = await conn.fetch(_OWNED, namespace, managed_by)
    return [TaskId(str(row["id"])) for row in rows]


async def counts(conn: Connection, namespace: Namespace) -> dict[AgentId, int]:
    """How many tasks each Agent of a namespace has; Agents without any are left out."""
    rows = await conn.fetch(_COUNTS, namespace)
    return {AgentId(row["agent_id"]): row["tasks"] for row in rows}


async def find(conn: Connection, namespace: Namespace, ref: str) -> list[Task]:
    """Tasks that people may mean by `ref`: of that exact name, or whose id begins with it.

    At most MAX_CANDIDATES; an exact name hides the prefixes (indexes task_name and the key).
    """
    rows = await conn.fetch(
        f"{_SELECT} WHERE t.namespace = $1 AND t.name = $2 ORDER BY t.created_at, t.id LIMIT $3",
        namespace, ref, MAX_CANDIDATES,
    )  # fmt: skip
    bounds = _prefix_bounds(ref)
    if not rows and bounds is not None:
        rows = await conn.fetch(
            f"{_SELECT} WHERE t.namespace = $1 AND t.id BETWEEN $2 AND $3 ORDER BY t.id LIMIT $4",
            namespace, *bounds, MAX_CANDIDATES,
        )  # fmt: skip
    return [task_of(row) for row in rows]


async def list_after(
    conn: Connection,
    namespace: Namespace,
    *,
    agent_id: str,
    session_key: str,
    after: tuple[datetime, TaskId] | None,
    limit: int,
) -> list[Task]:
    """Tasks in the order they were made, after a position (indexes task_listed, task_session).

    An empty `agent_id` or `session_key` stands for all.
    """
    created_at, task_id = after or (None, None)
    rows = await conn.fetch(
        f"""{_SELECT} WHERE t.namespace = $1 AND ($2 = '' OR t.agent_id = $2)
              AND ($3 = '' OR t.session_key = $3)
              AND ($4::timestamptz IS NULL OR (t.created_at, t.id) > ($4, $5))
            ORDER BY t.created_at, t.id LIMIT $6""",
        namespace, agent_id, session_key, created_at, UUID(task_id) if task_id else None, limit,
    )  # fmt: skip
    return [task_of(row) for row in rows]


async def set_state(
    conn: Connection,
    task: Task,
    state: TaskState,
    *,
    why: Finding | None = None,
    next_at: datetime | None = None,
) -> None:
    """Change whether a locked task fires, and when next; its generation grows."""
    reason, message, setup = (why.reason, why.message, why.setup_target) if why else ("", "", "")
    await conn.execute(_SET_STATE, UUID(task.id), state, reason, message, setup)
    await conn.execute(_SET_DUE, UUID(task.id), next_at)


async def change(conn: Connection, task: Task) -> None:
    """Store another definition and state of a locked task, due at its `next_at`.

    Its generation grows; the slots that have fired stay fired.
    """
    await conn.execute(
        _CHANGE, UUID(task.id), task.name, task.agent_id, task.session_key,
        codec.dump(_spec(task)), task.state, task.reason, task.message, task.setup_target,
        task.managed_by, task.zone_data,
    )  # fmt: skip
    await conn.execute(_SET_DUE, UUID(task.id), task.next_at)


async def forget_failures(conn: Connection, task: Task) -> None:
    """Count its failures in a row from zero again."""
    await conn.execute(_FORGET_FAILURES, UUID(task.id))


async def remove(conn: Connection, task: Task) -> None:
    """Remove a locked task; its runs and their history stay."""
    for table, key in (("task", "id"), ("task_due", "task_id"), ("task_stats", "task_id")):
        await conn.execute(f"DELETE FROM scheduler.{table} WHERE {key} = $1", UUID(task.id))


async def failing(conn: Connection, limit: int = 100) -> list[tuple[Namespace, TaskId]]:
    """Active tasks that have failed for good too often in a row."""
    rows = await conn.fetch(_FAILING, limit)
    return [(Namespace(row["namespace"]), TaskId(str(row["id"]))) for row in rows]


async def figures(conn: Connection, namespace: Namespace) -> tuple[int, datetime | None]:
    """How many tasks of a namespace fire, and the earliest next slot."""
    row = await conn.fetchrow(_FIGURES, namespace)
    assert row is not None, "an aggregate has a row"
    return row["active"], row["next_at"]


async def database_now(conn: Connection) -> datetime:
    """The time by which tasks fire (performance §3, law 1)."""
    now: datetime = await conn.fetchval("SELECT public.fased_now()")
    return now


def task_of(row: Row) -> Task:
    """A row of COLUMNS as a task; raises ValueError on a spec that no version of ours wrote."""
    spec = codec.load(_Spec, row["spec"])
    return Task(
        namespace=Namespace(row["namespace"]),
        id=TaskId(str(row["id"])),
        name=row["name"],
        agent_id=AgentId(row["agent_id"]),
        session_key=SessionKey(row["session_key"]),
        prompt=spec.prompt,
        trigger=spec.trigger,
        mode=spec.mode,
        model=spec.model,
        target=spec.target,
        overlap=spec.overlap,
        missed=spec.missed,
        missed_limit=spec.missed_limit,
        missed_within=spec.missed_within,
        run_for=spec.run_for,
        state=TaskState(row["state"]),
        reason=row["reason"],
        message=row["message"],
        setup_target=row["setup_target"],
        failures_in_row=row["failures_in_row"],
        generation=row["generation"],
        managed_by=row["managed_by"],
        zone_data=row["zone_data"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        next_at=row["next_at"],
        last_slot=row["last_slot"],
        last_outcome=row["last_outcome"],
        last_run_id=row["last_run_id"],
        labels=spec.labels,
    )


def _spec(task: Task) -> _Spec:
    return _Spec(
        prompt=task.prompt,
        trigger=task.trigger,
        mode=task.mode,
        model=task.model,
        target=task.target,
        overlap=task.overlap,
        missed=task.missed,
        missed_limit=task.missed_limit,
        missed_within=task.missed_within,
        run_for=task.run_for,
        labels=task.labels,
    )


def _prefix_bounds(ref: str) -> tuple[UUID, UUID] | None:
    """The first and the last UUID that begin with `ref`; None where none does."""
    digits = ref.replace("-", "").lower()
    if not digits or len(digits) > 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
