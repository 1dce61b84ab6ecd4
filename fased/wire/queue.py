"""The run queue's calls as its service reads and answers them; nothing else.

The worker's side of the same messages is `work.py`.
"""

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import run_pb2
from fased.core.errors import InvalidArgument
from fased.core.names import RunId, parse_namespace
from fased.core.queue import (
    Completion,
    CompletionResult,
    Enqueued,
    EnqueueItem,
    FinishedStep,
    HeldRun,
    LeasedRun,
    WriteResult,
)
from fased.core.runs import Outcome
from fased.wire.run_views import checkpoint_to_pb, result_from_pb
from fased.wire.runs import body_to_pb, class_to_pb, new_run_from_pb
from fased.wire.times import to_duration, to_timestamp

# The ends that a worker may ask for; the others are the queue's own.
_ASKED_OUTCOMES = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.BLOCKED, Outcome.TIMED_OUT)
_RESULTS = {
    WriteResult.WRITTEN: pb.WRITE_RESULT_WRITTEN,
    WriteResult.CANCELLED: pb.WRITE_RESULT_CANCELLED,
    WriteResult.STALE: pb.WRITE_RESULT_STALE,
}


def item_from_pb(item: pb.EnqueueItem) -> EnqueueItem:
    """All that one event asks for; raises InvalidArgument naming the field."""
    held = HeldRun(RunId(item.parent_run_id), item.parent_epoch) if item.parent_run_id else None
    return EnqueueItem(
        namespace=parse_namespace(item.namespace),
        key=item.key,
        runs=tuple(new_run_from_pb(each) for each in item.runs),
        parent=held,
    )


def enqueued_to_pb(enqueued: Enqueued) -> pb.EnqueuedRuns:
    """What one item made."""
    return pb.EnqueuedRuns(run_ids=enqueued.run_ids, known=enqueued.known)


def leased_to_pb(run: LeasedRun) -> run_pb2.LeasedRun:
    """A run for the worker that now holds it."""
    return run_pb2.LeasedRun(
        namespace=run.namespace,
        run_id=run.run_id,
        epoch=run.epoch,
        run_class=class_to_pb(run.run_class),
        body=body_to_pb(run.body),
        task_id=run.task_id or "",
        attempts=run.attempts,
        wake_seq=run.wake_seq,
        deadline_time=to_timestamp(run.deadline_at),
        time_left=to_duration(run.deadline_at - run.leased_at),
        checkpoints=[checkpoint_to_pb(each) for each in run.checkpoints],
    )


def step_from_pb(step: pb.FinishedStep) -> FinishedStep:
    """What a finished step left."""
    left = step.checkpoint
    return FinishedStep(RunId(step.run_id), step.epoch, left.step, left.value_json)


def completion_from_pb(completion: pb.Completion) -> Completion:
    """One run's end; raises InvalidArgument on an outcome that is not a worker's to say."""
    if completion.outcome not in _ASKED_OUTCOMES:
        raise InvalidArgument(
            f"outcome {completion.outcome[:40]!r} is none of {', '.join(_ASKED_OUTCOMES)}",
            reason="INVALID_OUTCOME",
            metadata={"field": "outcome"},
        )
    return Completion(
        run_id=RunId(completion.run_id),
        epoch=completion.epoch,
        outcome=Outcome(completion.outcome),
        result=result_from_pb(completion.result),
        deliver=completion.deliver,
    )


def completion_result_to_pb(result: CompletionResult) -> pb.CompletionResult:
    """What became of one completion."""
    return pb.CompletionResult(
        run_id=result.run_id, result=_RESULTS[result.result], outcome=result.outcome or ""
    )


def write_result_to_pb(result: WriteResult) -> pb.WriteResult.ValueType:
    """How a fenced write ended."""
    return _RESULTS[result]


def held_from_pb(held: pb.HeldRun) -> HeldRun:
    """A run and its epoch."""
    return HeldRun(RunId(held.run_id), held.epoch)
