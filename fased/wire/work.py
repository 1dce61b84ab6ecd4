"""A run as its worker reads and writes it, between core and protobuf; nothing else."""

from datetime import timedelta

from fased.api.scheduler.v1 import queue_service_pb2, run_pb2
from fased.core.durations import EPOCH
from fased.core.names import Namespace, RunId, TaskId
from fased.core.queue import Checkpoint, Completion, LeasedRun
from fased.core.runs import RunResult
from fased.wire.runs import body_from_pb, class_from_pb
from fased.wire.times import from_duration, from_timestamp


def leased_from_pb(run: run_pb2.LeasedRun) -> tuple[LeasedRun, timedelta]:
    """A run as a worker holds it, and how long it may still take.

    Raises InvalidArgument on a body that no version of ours has written.
    """
    deadline_at = from_timestamp(run, "deadline_time") or EPOCH
    time_left = from_duration(run, "time_left") or timedelta(0)
    leased = LeasedRun(
        run_id=RunId(run.run_id),
        namespace=Namespace(run.namespace),
        epoch=run.epoch,
        run_class=class_from_pb(run.run_class),
        body=body_from_pb(run.body),
        task_id=TaskId(run.task_id) if run.task_id else None,
        attempts=run.attempts,
        wake_seq=run.wake_seq,
        leased_at=deadline_at - time_left,
        deadline_at=deadline_at,
        checkpoints=tuple(checkpoint_from_pb(each) for each in run.checkpoints),
    )
    return leased, time_left


def checkpoint_from_pb(checkpoint: run_pb2.Checkpoint) -> Checkpoint:
    """What one finished step left."""
    return Checkpoint(
        checkpoint.step,
        checkpoint.value_json,
        from_timestamp(checkpoint, "create_time") or EPOCH,
    )


def completion_to_pb(completion: Completion) -> queue_service_pb2.Completion:
    """One run's end."""
    return queue_service_pb2.Completion(
        run_id=completion.run_id,
        epoch=completion.epoch,
        outcome=completion.outcome,
        result=_result_to_pb(completion.result),
        deliver=completion.deliver,
    )


def _result_to_pb(result: RunResult) -> run_pb2.RunResult:
    return run_pb2.RunResult(
        text=result.text,
        reason=result.reason,
        message=result.message,
        setup_target=result.setup_target,
        model=result.model,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
    )
