"""Tasks in words, the same in chat, CLI and console. Decides wording only."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fased.core import durations
from fased.core.messages import Target
from fased.core.tasks import Task, TaskState, TriggerKind, TriggerSpec

SHORT_ID_CHARS = 8


def short_id(task_id: str) -> str:
    """The beginning of a task's id, as people type it."""
    return task_id[:SHORT_ID_CHARS]


def plan(trigger: TriggerSpec) -> str:
    """When a task fires: `every 5s`, `cron 0 9 * * * (Europe/Berlin)`, `at …`, `manual`."""
    zone = f" ({trigger.timezone})" if trigger.timezone else ""
    match trigger.kind:
        case TriggerKind.MANUAL:
            return "manual"
        case TriggerKind.CRON:
            return f"cron {trigger.expr}{zone or ' (UTC)'}"
        case TriggerKind.AT | TriggerKind.EVERY:
            return f"{trigger.kind} {trigger.expr}{zone}"


def delivery(target: Target | None, here: Target | None = None) -> str:
    """Where results go: `here`, `internal`, or channel and chat.

    Another message that is answered there makes no other place.
    """
    if target is None:
        return "internal"
    if here is not None and replace(target, reply_to_id=here.reply_to_id) == here:
        return "here"
    return f"{target.channel} · {target.peer.kind}:{target.peer.id}"


def instant(at: datetime | None, timezone: str = "") -> str:
    """A time to the second in a zone, UTC by default; `never` for None."""
    if at is None:
        return "never"
    local = at.astimezone(ZoneInfo(timezone) if timezone else UTC)
    return f"{local:%Y-%m-%d %H:%M:%S} {timezone or 'UTC'}"


def compact(task: Task, here: Target | None = None) -> str:
    """One line: name, id, plan, mode, delivery, next run, last result."""
    parts = [plan(task.trigger), task.mode, delivery(task.target, here)]
    if task.state is TaskState.ACTIVE and task.next_at is not None:
        parts.append(f"next {instant(task.next_at, task.trigger.timezone)}")
    elif task.state is not TaskState.ACTIVE:
        parts.append(f"{task.state}: {task.reason}" if task.reason else str(task.state))
    parts.append(f"last {task.last_outcome}" if task.last_outcome else "not run yet")
    return f"**{task.name}** ({short_id(task.id)}): " + " · ".join(parts)


def details(task: Task, here: Target | None = None) -> str:
    """All of a task, a line a fact."""
    lines = [
        f"**{task.name}** ({task.id})",
        f"- state: {task.state}" + (f", {task.message}" if task.message else ""),
        f"- plan: {plan(task.trigger)}",
        f"- next: {instant(task.next_at, task.trigger.timezone)}",
        f"- Agent: {task.agent_id}, session: {task.session_key}",
        f"- mode: {task.mode}, model: {task.model or 'of the Agent'}",
        f"- delivery: {delivery(task.target, here)}",
        f"- overlap: {task.overlap}, missed slots: {task.missed}",
        f"- deadline of a run: {durations.format_duration(task.run_for)}",
        f"- last: {task.last_outcome or 'not run yet'}",
        f"- failures in a row: {task.failures_in_row}",
        f"- prompt: {task.prompt}",
    ]
    if task.setup_target:
        lines.insert(2, f"- set up: {task.setup_target}, then /task resume {short_id(task.id)}")
    if task.managed_by:
        lines.append(f"- defined in: {task.managed_by.partition(':')[2]}")
    return "\n".join(lines)
