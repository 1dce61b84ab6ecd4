"""What is asked of a task: to be kept, paused, resumed, run. Decides what is refused, and the
state it leaves.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fased.core import durations, firing, schedule, schedule_text, sessions
from fased.core.errors import FailedPrecondition, InvalidArgument, NotFound
from fased.core.findings import Finding
from fased.core.messages import Target
from fased.core.names import TaskId, canonical_agent
from fased.core.schedule import Schedule
from fased.core.tasks import Task, TaskState, TriggerSpec, checked_name, checked_prompt

SHORTEST_RUN = timedelta(seconds=1)
LONGEST_RUN = timedelta(hours=24)
MAX_MISSED_LIMIT = 100
MAX_MODEL_CHARS = 200
MAX_TRIGGER_CHARS = 500

# What an owner says of a task; all else is what became of it.
_DEFINING = (
    "name", "agent_id", "session_key", "prompt", "trigger", "mode", "model", "target", "overlap",
    "missed", "missed_limit", "missed_within", "run_for", "labels",
)  # fmt: skip

_AGENT_MISSING = "AGENT_MISSING"


def checked_new(draft: Task, now: datetime) -> Task:
    """A new task as it will be kept, made at `now`; raises InvalidArgument naming the field.

    Without a session of its own it gets one by its id, without an Agent the session's.
    """
    task = replace(_checked(draft), created_at=now, updated_at=now)
    planned = schedule_text.from_trigger(task.trigger, now)
    if planned is not None:
        schedule.check_new(planned, now)
    return task


def checked_edit(known: Task, draft: Task, now: datetime) -> Task:
    """The task as `draft` defines it, with what it has been through; raises as `checked_new`.

    A time that stays as it was may have passed.
    """
    draft = _checked(draft)
    if is_same_definition(known, draft):
        return replace(known, managed_by=draft.managed_by)
    planned = schedule_text.from_trigger(draft.trigger, known.created_at or now)
    if planned is not None and draft.trigger != known.trigger:
        schedule.check_new(planned, now)
    changes: dict[str, Any] = {name: getattr(draft, name) for name in _DEFINING}
    return replace(known, **changes, zone_data=draft.zone_data, managed_by=draft.managed_by)


def is_same_definition(one: Task, other: Task) -> bool:
    """Whether two tasks are defined alike, whatever became of them."""
    return all(getattr(one, name) == getattr(other, name) for name in _DEFINING)


def checked_preview(trigger: TriggerSpec, begin: datetime) -> Schedule | None:
    """The schedule to look ahead of from `begin`, None for a manual one; raises InvalidArgument."""
    _check_trigger(trigger)
    if not durations.EARLIEST <= begin < durations.LATEST:
        raise _invalid("from_time", "from_time is between 1900 and 9000", "INVALID_INSTANT")
    planned = schedule_text.from_trigger(trigger, begin)
    if planned is not None:
        schedule.check(planned)
    return planned


def after_preflight(task: Task, findings: Sequence[Finding], now: datetime) -> Task:
    """The task active and due, or blocked by the most important finding.

    Raises NotFound when its Agent does not exist, and FailedPrecondition TASK_DONE when its
    schedule has no slot left.
    """
    if findings and findings[0].reason == _AGENT_MISSING:
        first = findings[0]
        raise NotFound(first.message, reason=first.reason, metadata={"field": "agent_id"})
    after = checked_again(task, findings, now)
    if after.state is TaskState.DONE:
        raise FailedPrecondition(
            f"task {task.name} has no run left: its time has passed",
            reason="TASK_DONE",
            metadata={"field": "name"},
        )
    return after


def checked_again(task: Task, findings: Sequence[Finding], now: datetime) -> Task:
    """The task active and due, blocked by the most important finding, or done without a slot."""
    if findings:
        first = findings[0]
        return replace(
            task,
            state=TaskState.BLOCKED,
            reason=first.reason,
            message=first.message,
            setup_target=first.setup_target,
            next_at=None,
        )
    planned = firing.schedule_of(task)
    next_at = None
    if planned is not None:
        next_at = schedule.first_slot(planned, now, last_slot=task.last_slot, task_id=task.id)
    is_over = planned is not None and next_at is None
    state = TaskState.DONE if is_over else TaskState.ACTIVE
    return replace(task, state=state, reason="", message="", setup_target="", next_at=next_at)


def check_pausable(task: Task) -> None:
    """Raises FailedPrecondition TASK_DONE for a task that has no run left to hold back."""
    if task.state is TaskState.DONE:
        raise FailedPrecondition(
            f"task {task.name} is done: it has no run left to hold back",
            reason="TASK_DONE",
            metadata={"field": "name"},
        )


def check_runnable(task: Task) -> None:
    """Raises FailedPrecondition TASK_BLOCKED, with what to set up, for a blocked task."""
    if task.state is TaskState.BLOCKED:
        raise FailedPrecondition(
            f"task {task.name} is blocked: {task.message} Set it up, then resume the task.",
            reason="TASK_BLOCKED",
            metadata={"field": "name", "blocked": task.reason, "setup_target": task.setup_target},
        )


def the_one(ref: str, found: Sequence[Task]) -> Task:
    """The task that `ref` means; raises NotFound, or FailedPrecondition AMBIGUOUS with the ids."""
    if not found:
        raise NotFound(
            f"there is no task {ref[:80]}; list them with: fased task list",
            reason="TASK_MISSING",
            metadata={"field": "name"},
        )
    if len(found) > 1:
        candidates = ", ".join(f"{task.id} ({task.name})" for task in found)
        raise FailedPrecondition(
            f"{ref[:80]} means several tasks: {candidates}; name one by its id",
            reason="AMBIGUOUS",
            metadata={"field": "name", "candidates": ",".join(task.id for task in found)},
        )
    return found[0]


def _checked(draft: Task) -> Task:
    _check_texts(draft)
    task = replace(draft, name=checked_name(draft.name), prompt=checked_prompt(draft.prompt))
    task = _with_session(task)
    _check_bounds(task)
    _check_trigger(task.trigger)
    return task


def _with_session(task: Task) -> Task:
    if not task.session_key:
        agent_id = canonical_agent(task.agent_id)
        key = sessions.task_key(agent_id, TaskId(task.id))
        return replace(task, agent_id=agent_id, session_key=key)
    owner, _ = sessions.parse_session_key(task.session_key)
    agent_id = canonical_agent(task.agent_id) if task.agent_id else owner
    if agent_id != owner:
        raise _invalid(
            "session_key", f"session {task.session_key[:120]} belongs to Agent {owner}, "
            f"not to {agent_id}", "SESSION_OF_OTHER_AGENT",
        )  # fmt: skip
    key = sessions.session_key(task.session_key.strip())
    return replace(task, agent_id=agent_id, session_key=key)


def _check_texts(task: Task) -> None:
    texts = {
        "display_name": task.name,
        "prompt": task.prompt,
        "agent_id": task.agent_id,
        "session_key": task.session_key,
        "model": task.model,
        "trigger.expr": task.trigger.expr,
        "trigger.timezone": task.trigger.timezone,
        "target": "" if task.target is None else _target_text(task.target),
    }
    for field_name, text in texts.items():
        if "\0" in text:
            raise _invalid(field_name, f"{field_name} holds a zero character", "ZERO_CHARACTER")


def _check_trigger(trigger: TriggerSpec) -> None:
    if max(len(trigger.expr), len(trigger.timezone)) > MAX_TRIGGER_CHARS:
        raise _invalid(
            "trigger.expr", f"a trigger has at most {MAX_TRIGGER_CHARS} characters",
            "INVALID_TRIGGER",
        )  # fmt: skip


def _target_text(target: Target) -> str:
    thread = target.thread.id if target.thread else ""
    return "".join((target.channel, target.account_id, target.peer.id, thread, target.reply_to_id))


def _check_bounds(task: Task) -> None:
    if not SHORTEST_RUN <= task.run_for <= LONGEST_RUN:
        bounds = " to ".join(map(durations.format_duration, (SHORTEST_RUN, LONGEST_RUN)))
        raise _invalid("run_for", f"a run's deadline is {bounds}", "INVALID_RUN_FOR")
    if not 0 <= task.missed_limit <= MAX_MISSED_LIMIT:
        raise _invalid(
            "missed_limit", f"missed_limit is 0 to {MAX_MISSED_LIMIT}", "INVALID_MISSED_LIMIT"
        )
    if task.missed_within < timedelta(0):
        raise _invalid("missed_within", "missed_within is not negative", "INVALID_MISSED_WITHIN")
    if len(task.model) > MAX_MODEL_CHARS:
        raise _invalid(
            "model", f"a model reference has at most {MAX_MODEL_CHARS} characters", "INVALID_MODEL"
        )
    if task.target is not None and not (task.target.channel and task.target.peer.id):
        raise _invalid("target", "a target names a channel and a chat", "INVALID_TARGET")


def _invalid(field_name: str, message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, metadata={"field": field_name})
