"""What a run is about, between core and protobuf; nothing else."""

from fased.api.scheduler.v1 import run_pb2
from fased.core.errors import InvalidArgument
from fased.core.names import AgentId, Namespace, RunId, SessionId, SessionKey, TaskId
from fased.core.runs import (
    DEFAULT_RUN_FOR,
    NewRun,
    RunBody,
    RunClass,
    RunInput,
    Trigger,
    checked_mode,
    lane_of,
)
from fased.wire.messages import (
    reply_from_pb,
    reply_to_pb,
    sender_from_pb,
    sender_to_pb,
    target_from_pb,
    target_to_pb,
)
from fased.wire.times import from_duration, from_timestamp, to_duration, to_timestamp

_CLASSES = {
    RunClass.MESSAGE: run_pb2.RUN_CLASS_MESSAGE,
    RunClass.MANUAL: run_pb2.RUN_CLASS_MANUAL,
    RunClass.CHILD: run_pb2.RUN_CLASS_CHILD,
    RunClass.SCHEDULED: run_pb2.RUN_CLASS_SCHEDULED,
}
_CLASSES_BACK = {number: run_class for run_class, number in _CLASSES.items()}


def class_to_pb(run_class: RunClass) -> run_pb2.RunClass.ValueType:
    """A run class."""
    return _CLASSES[run_class]


def class_from_pb(number: run_pb2.RunClass.ValueType) -> RunClass:
    """A run class; raises InvalidArgument when unspecified."""
    try:
        return _CLASSES_BACK[number]
    except KeyError:
        raise InvalidArgument(
            "run_class is needed", reason="INVALID_CLASS", metadata={"field": "run_class"}
        ) from None


def input_to_pb(run_input: RunInput) -> run_pb2.RunInput:
    """One message that a run answers."""
    return run_pb2.RunInput(
        event_id=run_input.event_id,
        text=run_input.text,
        sender=sender_to_pb(run_input.sender),
        reply_to=reply_to_pb(run_input.reply_to),
        receive_time=to_timestamp(run_input.received_at),
    )


def input_from_pb(run_input: run_pb2.RunInput) -> RunInput:
    """One message that a run answers; raises InvalidArgument without a receive time."""
    received_at = from_timestamp(run_input, "receive_time")
    if received_at is None:
        raise InvalidArgument(
            "an input has a receive_time",
            reason="INVALID_INPUT",
            metadata={"field": "inputs.receive_time"},
        )
    return RunInput(
        event_id=run_input.event_id,
        text=run_input.text,
        sender=sender_from_pb(run_input.sender),
        received_at=received_at,
        reply_to=reply_from_pb(run_input.reply_to) if run_input.HasField("reply_to") else None,
    )


def body_to_pb(body: RunBody) -> run_pb2.RunBody:
    """What a run is about."""
    return run_pb2.RunBody(
        agent_id=body.agent_id,
        session_key=body.session_key,
        session_id=body.session_id,
        mode=body.mode,
        trigger=body.trigger,
        inputs=[input_to_pb(each) for each in body.inputs],
        prompt=body.prompt,
        target=target_to_pb(body.target),
        model=body.model,
        task_name=body.task_name,
        slot_time=to_timestamp(body.slot),
        parent_run_id=body.parent_run or 0,
        correlation_id=body.correlation_id,
        trace=body.trace,
        context_lines=body.context_lines,
    )


def body_from_pb(body: run_pb2.RunBody) -> RunBody:
    """What a run is about; raises InvalidArgument on an unknown mode or trigger."""
    return RunBody(
        agent_id=AgentId(body.agent_id),
        session_key=SessionKey(body.session_key),
        session_id=SessionId(body.session_id),
        mode=checked_mode(body.mode),
        trigger=_trigger(body.trigger),
        inputs=tuple(input_from_pb(each) for each in body.inputs),
        prompt=body.prompt,
        target=target_from_pb(body.target) if body.HasField("target") else None,
        model=body.model,
        task_name=body.task_name,
        slot=from_timestamp(body, "slot_time"),
        parent_run=RunId(body.parent_run_id) if body.parent_run_id else None,
        correlation_id=body.correlation_id,
        trace=dict(body.trace),
        context_lines=tuple(body.context_lines),
    )


def new_run_to_pb(run: NewRun) -> run_pb2.NewRun:
    """A run to enqueue."""
    return run_pb2.NewRun(
        namespace=run.namespace,
        lane=run.lane,
        run_class=class_to_pb(run.run_class),
        body=body_to_pb(run.body),
        task_id=run.task_id or "",
        run_for=to_duration(run.run_for),
        run_time=to_timestamp(run.run_at),
    )


def new_run_from_pb(run: run_pb2.NewRun) -> NewRun:
    """A run to enqueue; an empty lane becomes the one its mode and session give it."""
    body = body_from_pb(run.body)
    task_id = TaskId(run.task_id) if run.task_id else None
    return NewRun(
        namespace=Namespace(run.namespace),
        lane=run.lane or lane_of(body.mode, body.session_key, task_id),
        run_class=class_from_pb(run.run_class),
        body=body,
        run_for=from_duration(run, "run_for") or DEFAULT_RUN_FOR,
        task_id=task_id,
        run_at=from_timestamp(run, "run_time"),
    )


def _trigger(text: str) -> Trigger:
    try:
        return Trigger(text)
    except ValueError:
        raise InvalidArgument(
            f"trigger {text[:40]!r} is none of {', '.join(Trigger)}",
            reason="INVALID_TRIGGER",
            metadata={"field": "trigger"},
        ) from None
