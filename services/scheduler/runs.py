"""RunService: shows and controls runs. Decides nothing itself (`store/queue`)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from fased.api.scheduler.v1 import run_pb2, scheduler_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.core.errors import InvalidArgument
from fased.core.names import (
    Namespace,
    RunId,
    SessionKey,
    TaskId,
    parse_parent,
    parse_resource_name,
)
from fased.core.queue import RunCursor
from fased.process import Host
from fased.rpc import paging
from fased.store import answers, run_deliveries, tasks
from fased.store.database import Connection
from fased.store.queue import cancel, checkpoints, history, recover, retry, workers
from fased.wire.run_views import RUNS, run_to_pb
from fased.wire.times import to_timestamp
from services.scheduler import hints
from services.scheduler.announce import announce
from services.scheduler.connections import transaction

DEFAULT_PAGE = 50
MAX_RUN_ID = 2**63 - 1


class RunServicer(scheduler_service_pb2_grpc.RunServiceServicer):
    """Runs over gRPC."""

    def __init__(self, host: Host) -> None:
        self._pool = host.database.queue
        self._hints = host.hints

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        """One run with its checkpoints and deliveries."""
        namespace, run_id = _run_name(request.name)
        async with transaction(self._pool) as conn:
            view = await history.get(conn, namespace, run_id)
            kept = await checkpoints.list_checkpoints(conn, namespace, run_id)
            deliveries = await run_deliveries.list_of(conn, namespace, run_id)
        return pb.GetRunResponse(run=run_to_pb(view, kept, deliveries))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """A page of runs, live ones first, then the latest ended."""
        namespace = parse_parent(request.parent)
        size = paging.page_size(request.page_size, DEFAULT_PAGE)
        query = {"runs": namespace, "task": request.task_id, "session": request.session_key}
        position = paging.decode(request.page_token, query)
        async with transaction(self._pool) as conn:
            views, cursor = await history.list_runs(
                conn,
                namespace,
                task_id=_task_id(request.task_id),
                session_key=SessionKey(request.session_key) if request.session_key else None,
                limit=size,
                after=_cursor(position) if position else None,
            )
        token = paging.encode(_position(cursor), query) if cursor else ""
        return pb.ListRunsResponse(runs=map(run_to_pb, views), next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        """End a run, or ask the worker that holds it to stop."""

        async def end(conn: Connection, namespace: Namespace, run_id: RunId) -> None:
            await cancel.cancel(conn, namespace, run_id, announce)

        return pb.CancelRunResponse(run=await self._change(request, end))

    async def CancelSessionRuns(
        self, request: pb.CancelSessionRunsRequest, context: Any
    ) -> pb.CancelSessionRunsResponse:
        """End the live runs of a session."""
        namespace = parse_parent(request.parent)
        key = SessionKey(request.session_key.strip().lower())
        if not key or "\0" in key:
            raise InvalidArgument(
                "session_key is needed",
                reason="INVALID_SESSION_KEY",
                metadata={"field": "session_key"},
            )
        async with transaction(self._pool) as conn:
            if (first := await answers.claim(conn, namespace, request.request_id)) is not None:
                return pb.CancelSessionRunsResponse.FromString(first)
            count = await cancel.cancel_session(conn, namespace, key, announce)
            answer = pb.CancelSessionRunsResponse(count=count)
            await answers.keep(conn, namespace, request.request_id, answer.SerializeToString())
        hints.runs_changed(self._hints)
        return answer

    async def RetryRun(self, request: pb.RetryRunRequest, context: Any) -> pb.RetryRunResponse:
        """Run an ended run again under its number, keeping what its finished steps left."""
        return pb.RetryRunResponse(run=await self._change(request, retry.retry))

    async def ClearStaleRun(
        self, request: pb.ClearStaleRunRequest, context: Any
    ) -> pb.ClearStaleRunResponse:
        """Take a run from a worker whose lease has expired."""

        async def clear(conn: Connection, namespace: Namespace, run_id: RunId) -> None:
            await recover.clear_stale(conn, namespace, run_id, announce)

        return pb.ClearStaleRunResponse(run=await self._change(request, clear))

    async def GetQueueStatus(
        self, request: pb.GetQueueStatusRequest, context: Any
    ) -> pb.GetQueueStatusResponse:
        """The live runs of a namespace, its workers and its tasks, counted."""
        namespace = parse_parent(request.parent)
        async with transaction(self._pool) as conn:
            status = await history.queue_status(conn, namespace)
            active, next_at = await tasks.figures(conn, namespace)
            providers = await workers.live_providers(conn)
        return pb.GetQueueStatusResponse(
            queued=status.queued,
            running=status.running,
            parked=status.parked,
            delayed=status.delayed,
            workers=status.workers,
            oldest_ready_age_s=status.oldest_ready_age_s,
            active_tasks=active,
            next_slot_time=to_timestamp(next_at),
            usable_providers=providers,
        )

    async def _change(
        self,
        request: pb.CancelRunRequest | pb.RetryRunRequest | pb.ClearStaleRunRequest,
        change: Callable[[Connection, Namespace, RunId], Awaitable[None]],
    ) -> run_pb2.Run:
        """Change a run in one transaction; answers with it as it is then.

        A repeated request changes nothing, and is answered as the first was.
        """
        namespace, run_id = _run_name(request.name)
        async with transaction(self._pool) as conn:
            if (first := await answers.claim(conn, namespace, request.request_id)) is not None:
                return run_pb2.Run.FromString(first)
            await change(conn, namespace, run_id)
            run = run_to_pb(await history.get(conn, namespace, run_id))
            await answers.keep(conn, namespace, request.request_id, run.SerializeToString())
        hints.runs_changed(self._hints)
        return run


def _run_name(name: str) -> tuple[Namespace, RunId]:
    namespace, text = parse_resource_name(name, RUNS)
    digits = text.removeprefix("#")
    if not (digits.isascii() and digits.isdigit()) or int(digits) > MAX_RUN_ID:
        raise InvalidArgument(
            f"run {text[:40]!r} is not a number", reason="INVALID_NAME", metadata={"field": "name"}
        )
    return namespace, RunId(int(digits))


def _task_id(text: str) -> TaskId | None:
    try:
        return TaskId(str(UUID(text))) if text else None
    except ValueError:
        raise InvalidArgument(
            f"task_id {text[:80]!r} is not a UUID",
            reason="INVALID_TASK_ID",
            metadata={"field": "task_id"},
        ) from None


def _position(cursor: RunCursor) -> list[Any]:
    return [cursor.run_id, cursor.ended_at.isoformat() if cursor.ended_at else None]


def _cursor(position: list[Any]) -> RunCursor:
    try:
        run_id, ended_at = position
        return RunCursor(RunId(int(run_id)), datetime.fromisoformat(ended_at) if ended_at else None)
    except (TypeError, ValueError) as exc:
        raise paging.foreign() from exc
