"""The worker: leases runs, carries them out side by side, and gives back what it cannot finish.

Decides how many runs it takes and what becomes of one that was stopped; what a run does is
`turn.py`.
"""

import asyncio
import math
import random
import time
import uuid
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import run_pb2
from fased.core.errors import FasedError, InvalidArgument
from fased.core.names import RunId
from fased.core.queue import Completion
from fased.core.runs import Outcome, RunClass, RunResult
from fased.process import wait_or_stop
from fased.telemetry import tracing
from fased.wire.times import to_duration, to_timestamp
from fased.wire.work import completion_to_pb, leased_from_pb
from services.executor.settings import Settings
from services.executor.worker.calls import persistently
from services.executor.worker.endings import Dropped, Ending, Finished, PutOff
from services.executor.worker.heartbeat import Heartbeat, Listener
from services.executor.worker.leases import Lease, Leases, StopReason
from services.executor.worker.together import Together
from services.executor.worker.turn import Turn

if TYPE_CHECKING:
    from fased.api.scheduler.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

# While only messages may be taken, a slot for the others can come free: ask again soon.
RESTRICTED_WAIT_S = 1.0
ANSWER_MARGIN_S = 10.0
RETRY_S = 1.0
GATHER_S = 0.002
RELEASE_TIMEOUT_S = 5.0

logger = structlog.get_logger()

T = TypeVar("T")


class Worker:
    """One worker process's hold on the queue."""

    def __init__(
        self,
        queue: "QueueServiceAsyncStub",
        turn: Turn,
        together: Together,
        providers: Sequence[str],
        settings: Settings,
        stop: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._turn = turn
        self._together = together
        self._providers = providers
        self._settings = settings
        self._stop = stop
        self._leases = Leases()
        self._carried: dict[asyncio.Task[None], RunClass] = {}
        self._slot_freed = asyncio.Event()
        self._taking: set[asyncio.Task[None]] = set()
        together.go_on(self._next_of, self._take_next)
        self._heartbeat = Heartbeat(
            settings.scheduler_address,
            settings.service_token.get_secret_value(),
            Listener(self._leases.ids, self._stop_runs, self._lease_lost),
            every_s=settings.heartbeat_s,
            lease_for=timedelta(seconds=settings.lease_s),
        )
        self._heartbeat.worker_id = str(uuid.uuid4())

    async def run(self) -> None:
        """Work until stopped; then finish what ends within the grace and release the rest."""
        self._heartbeat.start()
        try:
            while not self._stop.is_set():
                await self._take_some()
            await self._drain()
        finally:
            await self._heartbeat.stop()

    async def _take_some(self) -> None:
        free, message_only = self._slots()
        if not free:
            await self._until_slot_or_stop()
            return
        worker_id = self._heartbeat.worker_id
        try:
            leased = await self._lease(worker_id, free, message_only)
        except FasedError as exc:
            if exc.reason == "LEASE_LOST":
                self._lease_lost(worker_id)
                return
            logger.warning("lease_failed", reason=exc.reason, error=exc.message)
            await wait_or_stop(self._stop, RETRY_S * random.uniform(0.5, 1.0))
            return
        await self._take_all(worker_id, leased)

    def _next_of(self) -> str:
        """Who goes on with what waits behind a run that ends; nobody, once it is to stop."""
        return "" if self._stop.is_set() else self._heartbeat.worker_id

    def _take_next(self, worker_id: str, leased: Sequence[run_pb2.LeasedRun]) -> None:
        taking = asyncio.create_task(self._take_all(worker_id, leased), name="take next")
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)

    async def _take_all(self, worker_id: str, leased: Sequence[run_pb2.LeasedRun]) -> None:
        """Carry out runs that were leased to `worker_id`, or give them back."""
        if worker_id != self._heartbeat.worker_id or self._stop.is_set():
            await self._give_back([pb.HeldRun(run_id=r.run_id, epoch=r.epoch) for r in leased])
            return
        for run in leased:
            try:
                self._take(Lease(*leased_from_pb(run)))
            except InvalidArgument as exc:
                await self._refuse(run, exc)

    def _slots(self) -> tuple[int, int]:
        """How many runs may be taken now, and how many of these only for messages."""
        size = self._settings.run_concurrency
        kept = math.ceil(size / 5) if size > 1 else 0
        others = sum(1 for each in self._carried.values() if each is not RunClass.MESSAGE)
        # What follows a run may be here before the run itself is gone.
        free = max(0, size - len(self._carried))
        return free, free - min(free, max(0, size - kept - others))

    async def _until_slot_or_stop(self) -> None:
        self._slot_freed.clear()
        await _first_of(self._slot_freed.wait(), self._stop)
        # Runs that were completed together end one after the other: one claim fills their places.
        await asyncio.sleep(GATHER_S)

    async def _lease(
        self, worker_id: str, max_runs: int, message_only: int
    ) -> Sequence[run_pb2.LeasedRun]:
        """Runs that are now this worker's; none when the wait is over or the process stops."""
        wait_s = RESTRICTED_WAIT_S if message_only == max_runs else self._settings.lease_wait_s
        request = pb.LeaseRunsRequest(
            worker_id=worker_id,
            max_runs=max_runs,
            message_only=message_only,
            wait=to_duration(timedelta(seconds=wait_s)),
            lease_for=to_duration(timedelta(seconds=self._settings.lease_s)),
            providers=self._providers,
        )
        answer = await _first_of(
            self._queue.LeaseRuns(request, timeout=wait_s + ANSWER_MARGIN_S), self._stop
        )
        return answer.runs if answer is not None else ()

    def _take(self, lease: Lease) -> None:
        with tracing.continued(lease.run.body.trace):
            task = asyncio.create_task(self._carry(lease), name=f"run {lease.run.run_id}")
        self._carried[task] = lease.run.run_class
        task.add_done_callback(self._carried_out)

    def _carried_out(self, task: "asyncio.Task[None]") -> None:
        del self._carried[task]
        self._slot_freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # No longer held, it is given back at a heartbeat and tried by whoever is able to.
            logger.error("run_abandoned", exc_info=error)

    async def _carry(self, lease: Lease) -> None:
        """A run from its lease to its end, whatever stops it."""
        with tracing.tracer().start_as_current_span("executor.run"):
            turn = asyncio.create_task(self._turn.carry_out(lease))
            self._leases.add(lease, turn)
            try:
                await asyncio.wait({turn})
                await self._end(lease, turn)
            finally:
                turn.cancel()
                self._leases.remove(lease)

    async def _end(self, lease: Lease, turn: "asyncio.Task[Ending]") -> None:
        if turn.cancelled():
            ended = await self._end_stopped(lease)
        elif (error := turn.exception()) is not None:
            error_id = uuid.uuid4().hex
            logger.error("run_crashed", run=lease.run.run_id, error_id=error_id, exc_info=error)
            message = f"Something went wrong inside Fased (error {error_id})."
            ended = await self._complete(
                lease, Finished(Outcome.FAILED, RunResult(reason="INTERNAL", message=message))
            )
        else:
            ended = await self._end_as(lease, turn.result())
        logger.info(
            "run_ended",
            namespace=lease.run.namespace,
            run=lease.run.run_id,
            end=ended,
            seconds=round(time.monotonic() - lease.taken_at_s, 3),
        )

    async def _end_as(self, lease: Lease, ending: Ending) -> str:
        match ending:
            case Finished():
                return await self._complete(lease, ending)
            case PutOff():
                return await self._put_off(lease, ending)
            case Dropped():
                return "stale"

    async def _end_stopped(self, lease: Lease) -> str:
        match self._leases.stop_reason(lease):
            case StopReason.LOST:
                return "lost"
            case StopReason.DRAINED:
                await self._give_back([pb.HeldRun(run_id=lease.run.run_id, epoch=lease.run.epoch)])
                return "released"
            case _:
                # The queue knows that it was to stop, and answers CANCELLED or STALE.
                result = RunResult(reason="CANCELLED", message="The run was stopped.")
                return await self._complete(lease, Finished(Outcome.FAILED, result))

    async def _refuse(self, run: run_pb2.LeasedRun, error: InvalidArgument) -> None:
        """End a run that this version cannot read: it would come back for ever."""
        logger.error("run_unreadable", run=run.run_id, reason=error.reason, error=error.message)
        result = RunResult(reason=error.reason, message=f"The run cannot be read: {error.message}.")
        refused = Completion(RunId(run.run_id), run.epoch, Outcome.FAILED, result)
        await self._together.complete(completion_to_pb(refused))

    async def _complete(self, lease: Lease, finished: Finished) -> str:
        completion = Completion(
            lease.run.run_id,
            lease.run.epoch,
            finished.outcome,
            finished.result,
            finished.deliver,
        )
        # Completed in one call with others, whose trace that call may be in.
        with tracing.tracer().start_as_current_span("executor.complete"):
            completed = await self._together.complete(completion_to_pb(completion))
        return completed.outcome or "stale"

    async def _put_off(self, lease: Lease, ending: PutOff) -> str:
        request = pb.RescheduleRunRequest(
            run_id=lease.run.run_id,
            epoch=lease.run.epoch,
            run_time=to_timestamp(lease.now() + ending.after),
            reason=ending.reason,
        )
        answer = await persistently(lambda: self._queue.RescheduleRun(request))
        return pb.WriteResult.Name(answer.result).removeprefix("WRITE_RESULT_").lower()

    async def _give_back(self, held: Sequence[pb.HeldRun]) -> None:
        if held:
            request = pb.ReleaseRunsRequest(runs=held)
            await persistently(lambda: self._queue.ReleaseRuns(request))

    def _stop_runs(self, run_ids: Sequence[int], asked_at_s: float) -> None:
        self._leases.stop(run_ids, StopReason.TOLD, held_since_s=asked_at_s)

    def _lease_lost(self, worker_id: str) -> None:
        """The queue gave this worker up: its runs are others' now, and it begins anew."""
        if worker_id == self._heartbeat.worker_id:
            logger.warning("worker_lease_lost", worker=worker_id)
            self._heartbeat.worker_id = str(uuid.uuid4())
            self._leases.stop_all(StopReason.LOST)

    async def _drain(self) -> None:
        """Let runs end within the grace, then give the rest back; the queue has them at once."""
        if self._carried:
            await asyncio.wait(self._carried, timeout=self._settings.grace_s)
        self._leases.stop_all(StopReason.DRAINED)
        if self._carried:
            await asyncio.wait(self._carried, timeout=RELEASE_TIMEOUT_S)
        # An end whose call began before the stop may have brought what waited behind it.
        if self._taking:
            await asyncio.wait(self._taking, timeout=RELEASE_TIMEOUT_S)
        await self._give_back_unknown()
        for task in list(self._carried):
            task.cancel()

    async def _give_back_unknown(self) -> None:
        """Give back what a claim's lost answer may have held: this worker knows of nothing."""
        request = pb.HeartbeatRequest(
            worker_id=self._heartbeat.worker_id,
            lease_for=to_duration(timedelta(seconds=self._settings.lease_s)),
            claim_deadline=to_duration(timedelta(0)),
        )
        try:
            await self._queue.Heartbeat(request, timeout=RELEASE_TIMEOUT_S)
        except FasedError as exc:
            logger.info("last_heartbeat_failed", reason=exc.reason)


async def _first_of(work: Awaitable[T], stop: asyncio.Event) -> T | None:
    """What the work gives, or None when `stop` is set before."""
    working = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopped.cancel()
