"""The worker's calls for its runs: what several runs ask at the same time is one call.

Decides what goes together and how long it is tried; what becomes of a run is its own. A call that
is refused for one of them is made again for each alone, so that no run fails for another.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from fased.api.executor.v1 import executor_service_pb2 as executor_pb
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.scheduler.v1 import queue_service_pb2 as queue_pb
from fased.api.scheduler.v1 import run_pb2
from fased.bus.coalesce import Coalescer
from fased.core.transcripts import TranscriptEntry
from fased.wire.transcripts import entry_from_pb
from services.executor.worker.calls import TRANSIENT, persistently

if TYPE_CHECKING:
    from fased.api.executor.v1.executor_service_pb2_grpc import TranscriptServiceAsyncStub
    from fased.api.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub
    from fased.api.scheduler.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

MAX_TOGETHER = 100
# Well under what one gRPC message may hold.
MAX_BYTES = 4_000_000
# What a call may ask of transcripts, in characters.
MAX_CHARS = 2_000_000


class _Sized(Protocol):
    def ByteSize(self) -> int: ...


# The worker that was named, and the runs that are its now.
TakeNext = Callable[[str, Sequence[run_pb2.LeasedRun]], None]
Call = TypeVar("Call", bound=_Sized)
Answer = TypeVar("Answer")


class Together:
    """The calls of one worker. Each tries again while a service is away: a deadline ends it."""

    def __init__(
        self,
        queue: "QueueServiceAsyncStub",
        policy: "PolicyServiceAsyncStub",
        transcripts: "TranscriptServiceAsyncStub",
    ) -> None:
        self._queue = queue
        self._policy = policy
        self._transcripts = transcripts
        self._decisions = _together(self._decide)
        self._steps = _together(self._keep)
        self._additions = _together(self._append)
        self._completions = _together(self._complete)
        self._next_of: Callable[[], str] = lambda: ""
        self._take_next: TakeNext = lambda worker_id, leased: None
        self._tails = Coalescer(
            self._read,
            max_calls=MAX_TOGETHER,
            size=lambda tail: tail.max_chars,
            max_size=MAX_CHARS,
            is_transient=_is_transient,
        )

    def go_on(self, next_of: Callable[[], str], take_next: TakeNext) -> None:
        """Ask, with each completion, for what waits behind those runs.

        `next_of` is the worker to name, empty while it takes no more; `take_next` gets the runs.
        """
        self._next_of, self._take_next = next_of, take_next

    async def decide(self, run: policy_pb.WantedRun) -> policy_pb.RunDecision:
        """Whether a run may go on, and with which Agent and model."""
        return await persistently(lambda: self._decisions.call(run))

    async def read(self, tail: executor_pb.TranscriptTail) -> list[TranscriptEntry]:
        """The end of a transcript, oldest entry first."""
        found = await persistently(lambda: self._tails.call(tail))
        return [entry_from_pb(each) for each in found.entries]

    async def keep(self, step: queue_pb.FinishedStep) -> queue_pb.CheckpointResult:
        """Store what a step left; what stands, or STALE."""
        return await persistently(lambda: self._steps.call(step))

    async def append(self, addition: executor_pb.TranscriptAddition) -> None:
        """Add entries to a transcript."""
        await persistently(lambda: self._additions.call(addition))

    async def complete(self, completion: queue_pb.Completion) -> queue_pb.CompletionResult:
        """End a run; WRITTEN, STALE and CANCELLED are all ends."""
        return await persistently(lambda: self._completions.call(completion))

    async def _decide(self, runs: Sequence[policy_pb.WantedRun]) -> Sequence[policy_pb.RunDecision]:
        request = policy_pb.DecideRunsRequest(runs=runs)
        return (await self._policy.DecideRuns(request)).decisions

    async def _read(
        self, tails: Sequence[executor_pb.TranscriptTail]
    ) -> Sequence[executor_pb.TranscriptEntries]:
        request = executor_pb.ReadTranscriptsRequest(tails=tails)
        return (await self._transcripts.ReadTranscripts(request)).transcripts

    async def _keep(
        self, steps: Sequence[queue_pb.FinishedStep]
    ) -> Sequence[queue_pb.CheckpointResult]:
        request = queue_pb.PutCheckpointsRequest(steps=steps)
        return (await self._queue.PutCheckpoints(request)).results

    async def _append(self, additions: Sequence[executor_pb.TranscriptAddition]) -> Sequence[None]:
        request = executor_pb.AppendTranscriptsRequest(additions=additions)
        await self._transcripts.AppendTranscripts(request)
        return [None] * len(additions)

    async def _complete(
        self, completions: Sequence[queue_pb.Completion]
    ) -> Sequence[queue_pb.CompletionResult]:
        worker_id = self._next_of()
        request = queue_pb.CompleteRunsRequest(completions=completions, worker_id=worker_id)
        answer = await self._queue.CompleteRuns(request)
        if answer.next_runs:
            self._take_next(worker_id, answer.next_runs)
        return answer.results


def _together(
    flush: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]],
) -> Coalescer[Call, Answer]:
    return Coalescer(
        flush,
        max_calls=MAX_TOGETHER,
        size=lambda call: call.ByteSize(),
        max_size=MAX_BYTES,
        is_transient=_is_transient,
    )


def _is_transient(error: Exception) -> bool:
    return isinstance(error, TRANSIENT)
