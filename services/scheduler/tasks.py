"""TaskService: keeps tasks. Decides nothing itself (`core/task_edits.py`, `core/firing.py`)."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.api.scheduler.v1 import run_pb2, scheduler_service_pb2_grpc, task_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.core import firing, schedule, task_edits
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.names import (
    Namespace,
    SessionId,
    TaskId,
    checked_request_id,
    parse_parent,
    parse_resource_name,
    resource_name,
)
from fased.core.owners import check_owner
from fased.core.queue import EnqueueItem
from fased.core.runs import NewRun, RunClass, Trigger
from fased.core.tasks import Task, TaskState
from fased.process import Host
from fased.rpc import owner_pages, paging
from fased.store import answers, tasks
from fased.store.database import Connection
from fased.store.owners import Owned
from fased.store.queue import cancel, enqueue, history, workers
from fased.wire.findings import finding_from_pb
from fased.wire.messages import target_from_pb
from fased.wire.run_views import run_to_pb
from fased.wire.tasks import TASKS, task_from_pb, task_to_pb, trigger_from_pb
from fased.wire.times import from_timestamp, to_timestamp
from services.scheduler import applying, hints
from services.scheduler.announce import announce
from services.scheduler.applying import drafted
from services.scheduler.connections import transaction

DEFAULT_PREVIEW = 5
MAX_PREVIEW = 1000

Edit = Callable[[Connection, Task], Awaitable[None]]


class TaskServicer(scheduler_service_pb2_grpc.TaskServiceServicer):
    """Tasks over gRPC."""

    def __init__(self, host: Host) -> None:
        self._pool = host.database.queue
        self._hints = host.hints
        self._policy = policy_service_pb2_grpc.PolicyServiceStub(host.client("policy"))
        self._sessions = router_service_pb2_grpc.SessionServiceStub(host.client("router"))

    async def CreateTask(
        self, request: pb.CreateTaskRequest, context: Any
    ) -> pb.CreateTaskResponse:
        """Keep a task, active or blocked; a repeat answers with the first one."""
        namespace = parse_parent(request.parent)
        request_id = _request_id(request.request_id)
        async with transaction(self._pool) as conn:
            known = await _requested(conn, namespace, request_id)
            now = await tasks.database_now(conn)
            providers = await workers.live_providers(conn)
        if known is not None:
            return pb.CreateTaskResponse(task=task_to_pb(known))
        task = task_edits.checked_new(
            drafted(request.task, namespace, TaskId(str(uuid.uuid4()))), now
        )
        task = task_edits.after_preflight(task, await self._preflight(task, providers), now)
        async with transaction(self._pool) as conn:
            await tasks.insert(conn, task, request_id)
            kept = await _requested(conn, namespace, request_id) or await _kept(conn, task)
        self._hints.send(hints.TASKS_DUE)
        return pb.CreateTaskResponse(task=task_to_pb(kept))

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        """One task by id, prefix or name."""
        return pb.GetTaskResponse(task=task_to_pb(await self._find(request.name)))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """A page of tasks in the order they were made."""
        namespace = parse_parent(request.parent)
        size = paging.page_size(request.page_size)
        query = {"in": namespace, "agent": request.agent_id, "session": request.session_key}
        position = paging.decode(request.page_token, query)
        async with transaction(self._pool) as conn:
            found = await tasks.list_after(
                conn,
                namespace,
                agent_id=request.agent_id,
                session_key=request.session_key,
                after=_after(position) if position else None,
                limit=size + 1,
            )
        token = ""
        if len(found) > size and (created_at := found[size - 1].created_at):
            token = paging.encode([created_at.isoformat(), found[size - 1].id], query)
        return pb.ListTasksResponse(tasks=map(task_to_pb, found[:size]), next_page_token=token)

    async def DeleteTask(
        self, request: pb.DeleteTaskRequest, context: Any
    ) -> pb.DeleteTaskResponse:
        """Remove a task and cancel its live runs; their history stays."""

        async def remove(conn: Connection, task: Task) -> None:
            check_owner("Task", task.name, task.managed_by, "")
            await tasks.remove(conn, task)
            await cancel.cancel_tasks(conn, task.namespace, [task.id], announce)

        edited = await self._edit(request.name, remove, request.request_id)
        return pb.DeleteTaskResponse(task=task_to_pb(edited))

    async def ApplyTasks(
        self, request: pb.ApplyTasksRequest, context: Any
    ) -> pb.ApplyTasksResponse:
        """Make one owner's tasks what the request says, and no others."""
        response = await applying.apply(self._pool, request, self._preflight)
        self._hints.send(hints.TASKS_DUE)
        hints.runs_changed(self._hints)
        return response

    async def ListTaskOwners(
        self, request: pb.ListTaskOwnersRequest, context: Any
    ) -> pb.ListTaskOwnersResponse:
        """Who defines tasks from elsewhere."""
        async with transaction(self._pool) as conn:
            found, token = await owner_pages.read(conn, Owned.TASKS, request)
        return pb.ListTaskOwnersResponse(owners=found, next_page_token=token)

    async def CountTasks(
        self, request: pb.CountTasksRequest, context: Any
    ) -> pb.CountTasksResponse:
        """How many tasks each Agent has."""
        async with transaction(self._pool) as conn:
            counts = await tasks.counts(conn, parse_parent(request.parent))
        return pb.CountTasksResponse(counts={str(agent): count for agent, count in counts.items()})

    async def PauseTask(self, request: pb.PauseTaskRequest, context: Any) -> pb.PauseTaskResponse:
        """Stop a task from firing; its live runs go on."""

        async def pause(conn: Connection, task: Task) -> None:
            task_edits.check_pausable(task)
            if task.state is not TaskState.PAUSED:
                await tasks.set_state(conn, task, TaskState.PAUSED)

        edited = await self._edit(request.name, pause, request.request_id)
        return pb.PauseTaskResponse(task=task_to_pb(edited))

    async def ResumeTask(
        self, request: pb.ResumeTaskRequest, context: Any
    ) -> pb.ResumeTaskResponse:
        """Check a task again and let it fire, or leave it blocked."""
        found = await self._find(request.name)
        async with transaction(self._pool) as conn:
            providers = await workers.live_providers(conn)
        findings = await self._preflight(found, providers)

        async def resume(conn: Connection, task: Task) -> None:
            if task.state is TaskState.ACTIVE and not findings:
                return
            now = await tasks.database_now(conn)
            after = task_edits.after_preflight(task, findings, now)
            why = Finding(after.reason, after.message, after.setup_target)
            await tasks.set_state(conn, task, after.state, why=why, next_at=after.next_at)
            await tasks.forget_failures(conn, task)

        edited = await self._edit(request.name, resume, request.request_id)
        return pb.ResumeTaskResponse(task=task_to_pb(edited))

    async def RunTask(self, request: pb.RunTaskRequest, context: Any) -> pb.RunTaskResponse:
        """Make a run now; a repeat answers with the first one."""
        found = await self._find(request.name)
        task_edits.check_runnable(found)
        session_id = await self._session_id(found)
        key = f"manual:{found.id}:{_request_id(request.request_id) or uuid.uuid4()}"
        made: list[run_pb2.Run] = []

        async def run(conn: Connection, task: Task) -> None:
            task_edits.check_runnable(task)
            new = _manual_run(task, request, session_id)
            [answer] = await enqueue.enqueue(conn, [EnqueueItem(task.namespace, key, (new,))])
            view = await history.get(conn, task.namespace, answer.run_ids[0])
            made.append(run_to_pb(view))

        await self._edit(request.name, run)
        hints.runs_changed(self._hints)
        return pb.RunTaskResponse(run=made[0])

    async def PreviewSchedule(
        self, request: pb.PreviewScheduleRequest, context: Any
    ) -> pb.PreviewScheduleResponse:
        """The next slots of a trigger, without stagger: that depends on a task's id."""
        parse_parent(request.parent)
        if not 0 <= request.count <= MAX_PREVIEW:
            raise InvalidArgument(
                f"count is 0 to {MAX_PREVIEW}",
                reason="INVALID_COUNT",
                metadata={"field": "count"},
            )
        async with transaction(self._pool) as conn:
            now = await tasks.database_now(conn)
        begin = from_timestamp(request, "from_time") or now
        planned = task_edits.checked_preview(trigger_from_pb(request.trigger), begin)
        if planned is None:
            return pb.PreviewScheduleResponse()
        count = request.count or DEFAULT_PREVIEW
        slots = await asyncio.to_thread(schedule.next_fires, planned, begin, count)
        return pb.PreviewScheduleResponse(slot_times=filter(None, map(to_timestamp, slots)))

    async def _find(self, name: str) -> Task:
        namespace, ref = parse_resource_name(name, TASKS)
        async with transaction(self._pool) as conn:
            return await _by_ref(conn, namespace, ref)

    async def _edit(self, name: str, edit: Edit, request_id: str = "") -> Task:
        """Change a locked task in one transaction; answers with it as it is then, or was.

        A repeated request changes nothing, and is answered as the first was.
        """
        namespace, ref = parse_resource_name(name, TASKS)
        request_id = _request_id(request_id)
        async with transaction(self._pool) as conn:
            if (first := await answers.claim(conn, namespace, request_id)) is not None:
                return task_from_pb(task_pb2.Task.FromString(first))
            found = await _by_ref(conn, namespace, ref)
            task = await tasks.lock(conn, namespace, found.id)
            task = task_edits.the_one(ref, [task] if task else [])
            await edit(conn, task)
            changed = await tasks.get(conn, namespace, task.id) or task
            kept = task_to_pb(changed).SerializeToString()
            await answers.keep(conn, namespace, request_id, kept)
        self._hints.send(hints.TASKS_DUE)
        hints.runs_changed(self._hints)
        return changed

    async def _preflight(self, task: Task, providers: Sequence[str]) -> list[Finding]:
        response = await self._policy.Preflight(
            policy_pb.PreflightRequest(
                namespace=task.namespace,
                agent_id=task.agent_id,
                mode=task.mode,
                model=task.model,
                usable_providers=providers,
            )
        )
        return [finding_from_pb(each) for each in response.findings]

    async def _session_id(self, task: Task) -> SessionId:
        """The id that the task's session has as its run is asked for."""
        response = await self._sessions.ResolveSession(
            router_pb.ResolveSessionRequest(
                name=resource_name(task.namespace, "sessions", task.session_key),
                agent_id=task.agent_id,
            )
        )
        return SessionId(response.session.session_id)


async def _by_ref(conn: Connection, namespace: Namespace, ref: str) -> Task:
    found = [] if "\0" in ref else await tasks.find(conn, namespace, ref)
    return task_edits.the_one(ref, found)


async def _requested(conn: Connection, namespace: Namespace, request_id: str) -> Task | None:
    return await tasks.get_requested(conn, namespace, request_id) if request_id else None


async def _kept(conn: Connection, task: Task) -> Task:
    return await tasks.get(conn, task.namespace, task.id) or task


def _manual_run(task: Task, request: pb.RunTaskRequest, session_id: SessionId) -> NewRun:
    run = firing.run_of(task, RunClass.MANUAL, Trigger.MANUAL)
    target = target_from_pb(request.target) if request.HasField("target") else task.target
    body = replace(run.body, session_id=session_id, target=target, correlation_id=request.event_id)
    return replace(run, body=body)


def _request_id(text: str) -> str:
    return str(checked_request_id(text)) if text else ""


def _after(position: list[Any]) -> tuple[datetime, TaskId]:
    try:
        created_at, task_id = position
        return datetime.fromisoformat(created_at), TaskId(str(uuid.UUID(task_id)))
    except (TypeError, ValueError, AttributeError) as exc:
        raise paging.foreign() from exc
