"""QueueService: the run queue for services and workers. Decides nothing itself (`core/queue.py`,
`store/queue`).
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import queue_service_pb2_grpc
from fased.core import queue_limits
from fased.core.errors import InvalidArgument
from fased.core.events import OutboxEvent
from fased.core.names import RunId, parse_namespace
from fased.core.queue import Checkpoint, Enqueued, EnqueueItem, HeldRun, LeasedRun, WriteResult
from fased.process import Host
from fased.store import notify, outbox
from fased.store.queue import checkpoints, claim, delay, enqueue, finish, park, workers
from fased.wire import queue as wire
from fased.wire.run_views import checkpoint_to_pb
from fased.wire.times import from_duration, from_timestamp
from services.scheduler import hints
from services.scheduler.announce import announce, must_wait
from services.scheduler.connections import pooled, transaction

LONGEST_WAIT = timedelta(seconds=30)
LONGEST_LEASE = timedelta(minutes=5)
# A hint wakes who waits for runs; this is for one that was lost.
POLL_S = 1.0
DEFAULT_LEASE = timedelta(seconds=15)
DEFAULT_CLAIM_DEADLINE = timedelta(seconds=10)
MAX_CLAIM = 500

logger = structlog.get_logger(__name__)


class QueueServicer(queue_service_pb2_grpc.QueueServiceServicer):
    """The queue over gRPC."""

    def __init__(self, host: Host) -> None:
        self._pool = host.database.queue
        self._heartbeat_pool = host.database.heartbeat
        self._hints = host.hints
        self._stop = host.stop

    async def EnqueueRuns(
        self, request: pb.EnqueueRunsRequest, context: Any
    ) -> pb.EnqueueRunsResponse:
        """Make the runs of events, all or none of them."""
        queue_limits.check_batch(len(request.items))
        items = [wire.item_from_pb(each) for each in request.items]
        queue_limits.check_items(items)
        async with transaction(self._pool) as conn:
            answers = await enqueue.enqueue(conn, items)
            await outbox.insert(conn, hints.SCHEMA, _notices(items, answers))
        hints.runs_changed(self._hints)
        return pb.EnqueueRunsResponse(items=map(wire.enqueued_to_pb, answers))

    async def LeaseRuns(self, request: pb.LeaseRunsRequest, context: Any) -> pb.LeaseRunsResponse:
        """Give a worker runs, waiting for the first.

        A caller that goes away while it waits ends the wait; runs claimed for an answer that was
        lost come back by the heartbeat.
        """
        worker_id = _worker_id(request.worker_id)
        wait = min(from_duration(request, "wait") or timedelta(0), LONGEST_WAIT)
        ends_at = time.monotonic() + wait.total_seconds()
        stirred = asyncio.Event()
        with self._hints.listen(stirred.set, hints.RUNS_READY):
            while True:
                stirred.clear()
                runs = await self._claim(worker_id, request)
                left_s = ends_at - time.monotonic()
                if runs or left_s <= 0 or self._stop.is_set():
                    return pb.LeaseRunsResponse(runs=map(wire.leased_to_pb, runs))
                poll_s = POLL_S * random.uniform(0.8, 1.2)
                await notify.wait_any(min(left_s, poll_s), stirred, self._stop)

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        """Keep a worker's leases; those it does not know go back to the queue."""
        worker_id = _worker_id(request.worker_id)
        async with pooled(self._heartbeat_pool) as conn:
            told = await workers.heartbeat(
                conn,
                worker_id,
                _lease_for(request),
                [RunId(run_id) for run_id in request.run_ids],
                _asked(request, "claim_deadline", DEFAULT_CLAIM_DEADLINE),
            )
            if told.unknown:
                logger.warning("unknown_leases_released", runs=len(told.unknown))
                await finish.release(conn, told.unknown, announce)
                hints.runs_changed(self._hints)
        return pb.HeartbeatResponse(cancel_run_ids=told.cancel_run_ids)

    async def PutCheckpoints(
        self, request: pb.PutCheckpointsRequest, context: Any
    ) -> pb.PutCheckpointsResponse:
        """Store what steps left; of each the first write stands."""
        queue_limits.check_batch(len(request.steps))
        steps = [wire.step_from_pb(each) for each in request.steps]
        for step in steps:
            queue_limits.check_checkpoint(step.step, step.value_json)
        async with pooled(self._pool) as conn:
            try:
                stored = await checkpoints.put(conn, steps)
            except (asyncpg.DataError, asyncpg.StatementTooComplexError) as exc:
                raise InvalidArgument(
                    "a checkpoint's value is JSON",
                    reason="INVALID_CHECKPOINT",
                    metadata={"field": "checkpoint.value_json"},
                ) from exc
        return pb.PutCheckpointsResponse(results=map(_checkpoint_result, stored))

    async def CompleteRuns(
        self, request: pb.CompleteRunsRequest, context: Any
    ) -> pb.CompleteRunsResponse:
        """End runs with their results and their chats' answers, each on its own."""
        queue_limits.check_batch(len(request.completions))
        completions = [wire.completion_from_pb(each) for each in request.completions]
        queue_limits.check_completions(completions)
        worker_id = _worker_id(request.worker_id) if request.worker_id else None
        next_runs: Sequence[LeasedRun] = ()
        async with pooled(self._pool) as conn:
            if worker_id is None:
                results = await finish.complete(conn, completions, announce)
            else:
                results, next_runs = await finish.complete_and_go_on(
                    conn, completions, announce, worker_id
                )
        hints.runs_changed(self._hints)
        return pb.CompleteRunsResponse(
            results=map(wire.completion_result_to_pb, results),
            next_runs=map(wire.leased_to_pb, next_runs),
        )

    async def ParkRun(self, request: pb.ParkRunRequest, context: Any) -> pb.ParkRunResponse:
        """Give a lease up until a wake."""
        async with pooled(self._pool) as conn:
            result = await park.park(
                conn,
                HeldRun(RunId(request.run_id), request.epoch),
                request.wake_seq,
                from_timestamp(request, "wake_time"),
                announce,
            )
        hints.runs_changed(self._hints)
        return pb.ParkRunResponse(result=wire.write_result_to_pb(result))

    async def WakeRun(self, request: pb.WakeRunRequest, context: Any) -> pb.WakeRunResponse:
        """Wake a parked run, or the next park of a live one."""
        namespace = parse_namespace(request.namespace)
        async with pooled(self._pool) as conn:
            await park.wake(conn, namespace, RunId(request.run_id))
        hints.runs_changed(self._hints)
        return pb.WakeRunResponse()

    async def RescheduleRun(
        self, request: pb.RescheduleRunRequest, context: Any
    ) -> pb.RescheduleRunResponse:
        """Give a lease up after a failed attempt, to try again later."""
        run_at = from_timestamp(request, "run_time")
        if run_at is None or "\0" in request.reason:
            raise InvalidArgument(
                "run_time is needed, and a reason without zero characters",
                reason="INVALID_RESCHEDULE",
                metadata={"field": "run_time" if run_at is None else "reason"},
            )
        held = HeldRun(RunId(request.run_id), request.epoch)
        async with pooled(self._pool) as conn:
            result = await delay.reschedule(conn, held, run_at, request.reason, announce)
        hints.runs_changed(self._hints)
        return pb.RescheduleRunResponse(result=wire.write_result_to_pb(result))

    async def ReleaseRuns(
        self, request: pb.ReleaseRunsRequest, context: Any
    ) -> pb.ReleaseRunsResponse:
        """Give leases back at once."""
        queue_limits.check_batch(len(request.runs))
        held = [wire.held_from_pb(each) for each in request.runs]
        results: Sequence[WriteResult] = []
        if held:
            async with pooled(self._pool) as conn:
                results = await finish.release(conn, held, announce)
            hints.runs_changed(self._hints)
        return pb.ReleaseRunsResponse(results=map(wire.write_result_to_pb, results))

    async def _claim(self, worker_id: UUID, request: pb.LeaseRunsRequest) -> list[LeasedRun]:
        max_runs = min(max(request.max_runs, 0), MAX_CLAIM)
        async with pooled(self._pool) as conn:
            return await claim.claim(
                conn,
                worker_id,
                max_runs,
                min(max(request.message_only, 0), max_runs),
                _lease_for(request),
                request.providers,
            )


def _checkpoint_result(stored: Checkpoint | None) -> pb.CheckpointResult:
    if stored is None:
        return pb.CheckpointResult(result=pb.WRITE_RESULT_STALE)
    return pb.CheckpointResult(result=pb.WRITE_RESULT_WRITTEN, checkpoint=checkpoint_to_pb(stored))


def _notices(items: Sequence[EnqueueItem], answers: Sequence[Enqueued]) -> list[OutboxEvent]:
    """The notices to the senders of messages that wait behind a parked turn."""
    return [
        event
        for item, answer in zip(items, answers, strict=True)
        for run, run_id in zip(item.runs, answer.run_ids, strict=False)
        if run_id in answer.behind_parked
        for event in must_wait(item.namespace, run_id, run.body)
    ]


def _worker_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(
            f"worker_id {text[:80]!r} is not a UUID",
            reason="INVALID_WORKER_ID",
            metadata={"field": "worker_id"},
        ) from None


def _lease_for(request: pb.LeaseRunsRequest | pb.HeartbeatRequest) -> timedelta:
    asked = _asked(request, "lease_for", DEFAULT_LEASE)
    if not timedelta(0) < asked <= LONGEST_LEASE:
        raise InvalidArgument(
            "lease_for is more than 0 and at most 5 minutes",
            reason="INVALID_LEASE",
            metadata={"field": "lease_for"},
        )
    return asked


def _asked(
    request: pb.LeaseRunsRequest | pb.HeartbeatRequest, field: str, default: timedelta
) -> timedelta:
    asked = from_duration(request, field)
    return default if asked is None else asked
