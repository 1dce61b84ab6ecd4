"""What one owner of tasks says, made to stand beside what others own. Decides nothing itself
(`core/task_applies.py`): reads, asks policy with no row held, then stores in one transaction.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import task_pb2
from fased.core import task_applies, task_edits
from fased.core.errors import AlreadyExists, InvalidArgument
from fased.core.findings import Finding
from fased.core.names import Namespace, TaskId, parse_parent, parse_resource_name, resource_name
from fased.core.owners import checked_owner
from fased.core.tasks import Task, TaskState
from fased.rpc.batches import check_count
from fased.store import owners, tasks
from fased.store.database import Connection
from fased.store.owners import Owned
from fased.store.queue import cancel, workers
from fased.wire.tasks import TASKS, definition_from_pb, task_to_pb
from services.scheduler import zone_data
from services.scheduler.announce import announce
from services.scheduler.connections import transaction

Preflight = Callable[[Task, Sequence[str]], Awaitable[list[Finding]]]
Findings = Mapping[TaskId, Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that an owner says; its tasks by id, in its order."""

    namespace: Namespace
    owner: str
    generation: int
    drafts: Mapping[TaskId, Task]


async def apply(
    pool: "asyncpg.Pool[asyncpg.Record]", request: pb.ApplyTasksRequest, preflight: Preflight
) -> pb.ApplyTasksResponse:
    """Make it stand; answers with the tasks as they are then, and what was removed."""
    wanted = _wanted(request)
    findings = await _checked(pool, wanted, preflight)
    async with transaction(pool) as conn:
        await owners.claim(conn, Owned.TASKS, wanted.namespace, wanted.owner, wanted.generation)
        owned = await tasks.owned_by(conn, wanted.namespace, wanted.owner)
        known = await tasks.lock_all(conn, wanted.namespace, {*owned, *wanted.drafts})
        for draft in wanted.drafts.values():
            await _put(conn, known.get(draft.id), draft, findings.get(draft.id))
        gone = [known[task_id] for task_id in owned if task_id not in wanted.drafts]
        for task in gone:
            await tasks.remove(conn, task)
        # Lanes are locked after every task.
        await cancel.cancel_tasks(conn, wanted.namespace, [task.id for task in gone], announce)
        if not wanted.drafts:
            await owners.forget(conn, Owned.TASKS, wanted.namespace, wanted.owner)
        kept = await tasks.get_all(conn, wanted.namespace, wanted.drafts.keys())
    return pb.ApplyTasksResponse(
        tasks=[task_to_pb(kept[task_id]) for task_id in wanted.drafts],
        removed=[resource_name(task.namespace, TASKS, task.id) for task in gone],
    )


def drafted(task: task_pb2.Task, namespace: Namespace, task_id: TaskId) -> Task:
    """What the message defines, under that id; what only the service says is dropped."""
    return replace(
        definition_from_pb(task, namespace, task_id),
        state=TaskState.ACTIVE,
        reason="",
        message="",
        setup_target="",
        failures_in_row=0,
        generation=1,
        managed_by="",
        zone_data=zone_data.version(),
        next_at=None,
        last_slot=None,
        last_outcome="",
        last_run_id=None,
    )


def _wanted(request: pb.ApplyTasksRequest) -> _Wanted:
    namespace, owner = parse_parent(request.parent), checked_owner(request.managed_by)
    check_count("tasks", len(request.tasks))
    drafts: dict[TaskId, Task] = {}
    for each in request.tasks:
        task_id = _task_id(each.name, namespace)
        if task_id in drafts:
            raise _invalid(f"two tasks have the id {task_id}")
        drafts[task_id] = replace(drafted(each, namespace, task_id), managed_by=owner)
    return _Wanted(namespace, owner, request.generation, drafts)


async def _checked(
    pool: "asyncpg.Pool[asyncpg.Record]", wanted: _Wanted, preflight: Preflight
) -> Findings:
    """What stands in the way of each task that has to be looked at."""
    if not wanted.drafts:
        return {}
    async with transaction(pool) as conn:
        known = await tasks.get_all(conn, wanted.namespace, wanted.drafts.keys())
        now = await tasks.database_now(conn)
        providers = await workers.live_providers(conn)
    findings = {}
    for draft in wanted.drafts.values():
        before = known.get(draft.id)
        task = task_applies.defined(before, draft, now)
        if task_applies.needs_check(before, task):
            findings[draft.id] = await preflight(task, providers)
    return findings


async def _put(
    conn: Connection, known: Task | None, draft: Task, findings: Sequence[Finding] | None
) -> None:
    now = await tasks.database_now(conn)
    task = task_applies.defined(known, draft, now)
    after = task_applies.applied(known, task, findings, now)
    if known is None:
        if not await tasks.insert(conn, after, ""):
            raise AlreadyExists(
                f"there is a task with the id {draft.id} already",
                reason="TASK_EXISTS",
                metadata={"field": "name"},
            )
    elif after != known:
        await tasks.change(conn, after)
        if not task_edits.is_same_definition(known, after):
            await tasks.forget_failures(conn, after)


def _task_id(name: str, namespace: Namespace) -> TaskId:
    named_in, text = parse_resource_name(name, TASKS)
    if named_in != namespace:
        raise _invalid(f"a task of {named_in} is not defined in {namespace}")
    try:
        return TaskId(str(uuid.UUID(text)))
    except ValueError:
        raise _invalid(f"{text[:80]!r} is no uuid") from None


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument(f"name: {why}", reason="INVALID_NAME", metadata={"field": "name"})
