"""Runs as people read them, between core and protobuf; nothing else."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.message import Message

from fased.api.scheduler.v1 import run_pb2
from fased.core.errors import InvalidArgument
from fased.core.names import RunId, TaskId, parse_resource_name, resource_name
from fased.core.queue import Checkpoint, RunDelivery, RunView
from fased.core.runs import RunResult
from fased.wire.runs import body_from_pb, body_to_pb, class_from_pb, class_to_pb
from fased.wire.times import from_timestamp, to_timestamp

RUNS = "runs"


def run_to_pb(
    view: RunView,
    checkpoints: Sequence[Checkpoint] = (),
    deliveries: Sequence[RunDelivery] = (),
) -> run_pb2.Run:
    """A run, live or ended."""
    return run_pb2.Run(
        name=resource_name(view.namespace, RUNS, view.run_id),
        run_id=view.run_id,
        state=view.state,
        run_class=class_to_pb(view.run_class),
        lane=view.lane,
        task_id=view.task_id or "",
        body=body_to_pb(view.body),
        result=None if view.result is None else result_to_pb(view.result),
        attempts=view.attempts,
        crashes=view.crashes,
        worker_id=view.worker_id,
        cancel_requested=view.cancel_requested,
        last_reason=view.last_reason,
        create_time=to_timestamp(view.created_at),
        run_time=to_timestamp(view.run_at),
        lease_time=to_timestamp(view.leased_at),
        deadline_time=to_timestamp(view.deadline_at),
        end_time=to_timestamp(view.ended_at),
        checkpoints=[checkpoint_to_pb(each) for each in checkpoints],
        deliveries=[_delivery_to_pb(each) for each in deliveries],
        slot_count=view.slot_count,
        first_slot_time=to_timestamp(view.first_slot),
        last_slot_time=to_timestamp(view.last_slot),
    )


def run_from_pb(run: run_pb2.Run) -> RunView:
    """A run as the service answered it; raises InvalidArgument on one that it never wrote."""
    namespace, _ = parse_resource_name(run.name, RUNS)
    return RunView(
        run_id=RunId(run.run_id),
        namespace=namespace,
        state=run.state,
        run_class=class_from_pb(run.run_class),
        lane=run.lane,
        task_id=TaskId(run.task_id) if run.task_id else None,
        body=body_from_pb(run.body),
        attempts=run.attempts,
        crashes=run.crashes,
        worker_id=run.worker_id,
        cancel_requested=run.cancel_requested,
        last_reason=run.last_reason,
        created_at=_needed(run, "create_time"),
        run_at=_needed(run, "run_time"),
        leased_at=from_timestamp(run, "lease_time"),
        deadline_at=from_timestamp(run, "deadline_time"),
        result=result_from_pb(run.result) if run.HasField("result") else None,
        ended_at=from_timestamp(run, "end_time"),
        slot_count=run.slot_count,
        first_slot=from_timestamp(run, "first_slot_time"),
        last_slot=from_timestamp(run, "last_slot_time"),
    )


def result_to_pb(result: RunResult) -> run_pb2.RunResult:
    """What a run ended with."""
    return run_pb2.RunResult(
        text=result.text,
        reason=result.reason,
        message=result.message,
        setup_target=result.setup_target,
        model=result.model,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
    )


def result_from_pb(result: run_pb2.RunResult) -> RunResult:
    """What a run ended with."""
    return RunResult(
        text=result.text,
        reason=result.reason,
        message=result.message,
        setup_target=result.setup_target,
        model=result.model,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
    )


def checkpoint_to_pb(checkpoint: Checkpoint) -> run_pb2.Checkpoint:
    """What one finished step left."""
    return run_pb2.Checkpoint(
        step=checkpoint.step,
        value_json=checkpoint.value_json,
        create_time=to_timestamp(checkpoint.created_at),
    )


def _delivery_to_pb(delivery: RunDelivery) -> run_pb2.RunDelivery:
    return run_pb2.RunDelivery(
        delivery_id=delivery.delivery_id,
        state=delivery.state,
        update_time=to_timestamp(delivery.updated_at),
    )


def _needed(message: Message, field: str) -> datetime:
    at = from_timestamp(message, field)
    if at is None:
        raise InvalidArgument(
            f"a run has a {field}", reason="INVALID_RUN", metadata={"field": field}
        )
    return at
