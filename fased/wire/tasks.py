"""Tasks between core and protobuf; nothing else."""

from datetime import timedelta

from fased.api.scheduler.v1 import task_pb2
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.names import (
    AgentId,
    Namespace,
    SessionKey,
    TaskId,
    parse_resource_name,
    resource_name,
)
from fased.core.runs import DEFAULT_RUN_FOR, checked_mode
from fased.core.tasks import MissedPolicy, Overlap, Task, TaskState, TriggerKind, TriggerSpec
from fased.wire.findings import finding_to_pb
from fased.wire.messages import target_from_pb, target_to_pb
from fased.wire.times import from_duration, from_timestamp, to_duration, to_timestamp

TASKS = "tasks"
_OVERLAPS = {
    Overlap.SKIP: task_pb2.OVERLAP_SKIP,
    Overlap.QUEUE: task_pb2.OVERLAP_QUEUE,
    Overlap.REPLACE: task_pb2.OVERLAP_REPLACE,
}
_OVERLAPS_BACK = {number: overlap for overlap, number in _OVERLAPS.items()}
_MISSED = {
    MissedPolicy.SKIP: task_pb2.MISSED_POLICY_SKIP,
    MissedPolicy.ONCE: task_pb2.MISSED_POLICY_ONCE,
    MissedPolicy.ALL: task_pb2.MISSED_POLICY_ALL,
    MissedPolicy.WITHIN: task_pb2.MISSED_POLICY_WITHIN,
}
_MISSED_BACK = {number: missed for missed, number in _MISSED.items()}
_STATES = {
    TaskState.ACTIVE: task_pb2.TASK_STATE_ACTIVE,
    TaskState.PAUSED: task_pb2.TASK_STATE_PAUSED,
    TaskState.BLOCKED: task_pb2.TASK_STATE_BLOCKED,
    TaskState.DISABLED: task_pb2.TASK_STATE_DISABLED,
    TaskState.DONE: task_pb2.TASK_STATE_DONE,
}
_STATES_BACK = {number: state for state, number in _STATES.items()}


def state_from_pb(number: task_pb2.TaskState.ValueType) -> TaskState:
    """Whether a task fires; it does where nothing is said."""
    return _STATES_BACK.get(number, TaskState.ACTIVE)


def trigger_to_pb(trigger: TriggerSpec) -> task_pb2.TriggerSpec:
    """When a task fires."""
    return task_pb2.TriggerSpec(
        kind=trigger.kind,
        expr=trigger.expr,
        timezone=trigger.timezone,
        anchor_time=to_timestamp(trigger.anchor_at),
        stagger=to_duration(trigger.stagger) if trigger.stagger else None,
    )


def trigger_from_pb(trigger: task_pb2.TriggerSpec) -> TriggerSpec:
    """When a task fires, its expression not looked at; raises InvalidArgument on another kind."""
    try:
        kind = TriggerKind(trigger.kind)
    except ValueError:
        raise InvalidArgument(
            f"trigger.kind {trigger.kind[:40]!r} is none of {', '.join(TriggerKind)}",
            reason="INVALID_TRIGGER",
            metadata={"field": "trigger.kind"},
        ) from None
    return TriggerSpec(
        kind,
        trigger.expr,
        trigger.timezone,
        from_timestamp(trigger, "anchor_time"),
        from_duration(trigger, "stagger") or timedelta(0),
    )


def task_to_pb(task: Task) -> task_pb2.Task:
    """A task with its state."""
    finding = Finding(task.reason, task.message, task.setup_target) if task.reason else None
    return task_pb2.Task(
        name=resource_name(task.namespace, TASKS, task.id),
        display_name=task.name,
        agent_id=task.agent_id,
        session_key=task.session_key,
        prompt=task.prompt,
        trigger=trigger_to_pb(task.trigger),
        mode=task.mode,
        model=task.model,
        target=target_to_pb(task.target),
        overlap=_OVERLAPS[task.overlap],
        missed=_MISSED[task.missed],
        missed_limit=task.missed_limit,
        missed_within=to_duration(task.missed_within) if task.missed_within else None,
        run_for=to_duration(task.run_for),
        state=_STATES[task.state],
        finding=finding_to_pb(finding),
        generation=task.generation,
        managed_by=task.managed_by,
        zone_data=task.zone_data,
        create_time=to_timestamp(task.created_at),
        update_time=to_timestamp(task.updated_at),
        next_time=to_timestamp(task.next_at),
        last_outcome=task.last_outcome,
        last_run_id=task.last_run_id or 0,
        failures_in_row=task.failures_in_row,
    )


def task_from_pb(task: task_pb2.Task) -> Task:
    """A task with its state, as the service answered it."""
    namespace, task_id = parse_resource_name(task.name, TASKS)
    return definition_from_pb(task, namespace, TaskId(task_id))


def definition_from_pb(task: task_pb2.Task, namespace: Namespace, task_id: TaskId) -> Task:
    """A task under the id given; raises InvalidArgument naming the field."""
    return Task(
        namespace=namespace,
        id=task_id,
        name=task.display_name,
        agent_id=AgentId(task.agent_id),
        session_key=SessionKey(task.session_key),
        prompt=task.prompt,
        trigger=trigger_from_pb(task.trigger),
        mode=checked_mode(task.mode),
        model=task.model,
        target=target_from_pb(task.target) if task.HasField("target") else None,
        overlap=_OVERLAPS_BACK.get(task.overlap, Overlap.SKIP),
        missed=_MISSED_BACK.get(task.missed, MissedPolicy.ONCE),
        missed_limit=task.missed_limit,
        missed_within=from_duration(task, "missed_within") or timedelta(0),
        run_for=from_duration(task, "run_for") or DEFAULT_RUN_FOR,
        state=state_from_pb(task.state),
        reason=task.finding.reason,
        message=task.finding.message,
        setup_target=task.finding.setup_target,
        failures_in_row=task.failures_in_row,
        generation=task.generation,
        managed_by=task.managed_by,
        zone_data=task.zone_data,
        created_at=from_timestamp(task, "create_time"),
        updated_at=from_timestamp(task, "update_time"),
        next_at=from_timestamp(task, "next_time"),
        last_outcome=task.last_outcome,
        last_run_id=task.last_run_id or None,
    )
