"""`/task`: the tasks of this chat's Agent and session. Each effect is the scheduler's, asked for
under a request id derived from the event, so that a redelivered command does nothing twice.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from fased.api.scheduler.v1 import run_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.core import durations, run_text, task_edits, task_text
from fased.core.commands import TaskAction, TaskList, TaskNew, TaskRuns, TaskVerb
from fased.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from fased.core.names import TaskId, resource_name
from fased.core.runs import DEFAULT_RUN_FOR, ExecutionMode, checked_mode
from fased.core.task_words import TaskDraft
from fased.core.tasks import Task, TaskState
from fased.wire.messages import target_to_pb
from fased.wire.run_views import run_from_pb
from fased.wire.tasks import TASKS, task_from_pb, task_to_pb
from services.router.commands.chat import Chat

MAX_LISTED = 50
MAX_SEARCHED = 1000
# Flags that have an effect, and which of their values do, empty for any; accepting another in
# silence would promise what a later version brings.
_SERVED: Mapping[str, tuple[str, ...]] = {
    "delivery": ("announce", "internal"),
    "mode": (ExecutionMode.NO_MODEL, ExecutionMode.AGENT_TURN),
    "model": (),
    "timeout": (),
}


async def new(chat: Chat, command: TaskNew) -> str:
    """Make tasks that belong to this chat's Agent and session and answer here.

    All are checked before the first is made: of a message with a mistake nothing is kept.
    """
    wanted = [_checked(chat, number, draft) for number, draft in enumerate(command.drafts, 1)]
    lines = []
    for ordinal, task in enumerate(wanted):
        response = await chat.services.tasks.CreateTask(
            pb.CreateTaskRequest(
                parent=chat.parent, task=task_to_pb(task), request_id=chat.request_id(ordinal)
            )
        )
        lines.append(_created(chat, task_from_pb(response.task)))
    return "\n".join(lines)


async def list_(chat: Chat, command: TaskList) -> str:
    """The tasks of this session, or of the whole Agent."""
    response = await chat.services.tasks.ListTasks(
        pb.ListTasksRequest(
            parent=chat.parent,
            agent_id=chat.agent_id,
            session_key="" if command.all else chat.session.session_key,
            page_size=MAX_LISTED,
        )
    )
    if not response.tasks:
        return "No tasks here yet. Make one: /task new every 1h <name>: <prompt>"
    lines = [f"- {task_text.compact(task_from_pb(task), chat.target)}" for task in response.tasks]
    more = ["- … more; list them with: fased task list"] if response.next_page_token else []
    return "\n".join(["Tasks:", *lines, *more])


async def act(chat: Chat, command: TaskAction) -> str | None:
    """Do one thing with one task; None when its answer comes later."""
    if command.verb is TaskVerb.CANCEL:
        return await _cancel(chat, command.ref)
    task = await _own(chat, command.ref)
    name = resource_name(chat.namespace, TASKS, task.id)
    tasks, request_id = chat.services.tasks, chat.request_id()
    match command.verb:
        case TaskVerb.SHOW:
            return task_text.details(task, chat.target)
        case TaskVerb.PAUSE:
            await tasks.PauseTask(pb.PauseTaskRequest(name=name, request_id=request_id))
            return f"Paused **{task.name}**. Resume it with /task resume {_short(task)}."
        case TaskVerb.RESUME:
            resumed = await tasks.ResumeTask(pb.ResumeTaskRequest(name=name, request_id=request_id))
            return _resumed(task_from_pb(resumed.task))
        case TaskVerb.LAST:
            return await _last(chat, task)
        case TaskVerb.RUN:
            return await _run(chat, task, name)
        case _:
            return f"/task {command.verb} is not available in this version."


async def runs(chat: Chat, command: TaskRuns) -> str:
    """The last runs of a task."""
    task = await _own(chat, command.ref)
    found = await _recent(chat, task, command.count)
    if not found:
        return f"**{task.name}** has not run yet."
    lines = [f"- {run_text.compact(run_from_pb(run))}" for run in found]
    return "\n".join([f"Runs of **{task.name}**:", *lines])


async def _cancel(chat: Chat, ref: str) -> str:
    # This very command may have removed it before it was interrupted: its repeat is answered.
    with suppress(NotFound):
        ref = (await _own(chat, ref)).id
    name = resource_name(chat.namespace, TASKS, ref)
    removed = await chat.services.tasks.DeleteTask(
        pb.DeleteTaskRequest(name=name, request_id=chat.request_id())
    )
    return f"Cancelled **{removed.task.display_name}**: it will not run again. Its history stays."


async def _run(chat: Chat, task: Task, name: str) -> str | None:
    if task.state is TaskState.BLOCKED:
        return f"**{task.name}** is blocked: {task.message} Set it up, then /task resume."
    await chat.services.tasks.RunTask(
        pb.RunTaskRequest(
            name=name,
            request_id=chat.request_id(),
            target=target_to_pb(chat.target),
            event_id=chat.event.event_id,
        )
    )
    return None


async def _last(chat: Chat, task: Task) -> str:
    found = await _recent(chat, task, 1)
    if not found:
        return f"**{task.name}** has not run yet."
    return run_text.details(run_from_pb(found[0]))


async def _recent(chat: Chat, task: Task, count: int) -> list[run_pb2.Run]:
    response = await chat.services.runs.ListRuns(
        pb.ListRunsRequest(parent=chat.parent, task_id=task.id, page_size=min(count, MAX_LISTED))
    )
    return list(response.runs)


async def _own(chat: Chat, ref: str) -> Task:
    try:
        response = await chat.services.tasks.GetTask(
            pb.GetTaskRequest(name=resource_name(chat.namespace, TASKS, ref))
        )
    except FailedPrecondition as exc:
        if exc.reason != "AMBIGUOUS":
            raise
        return await _own_by(chat, ref)
    task = task_from_pb(response.task)
    if not _is_own(chat, task):
        raise PermissionDenied(
            "Task belongs to another Agent/session and was not shown.", reason="OTHER_OWNER"
        )
    return task


async def _own_by(chat: Chat, ref: str) -> Task:
    """The one task of this session that `ref` means: other sessions' may have its name too."""
    response = await chat.services.tasks.ListTasks(
        pb.ListTasksRequest(
            parent=chat.parent,
            agent_id=chat.agent_id,
            session_key=chat.session.session_key,
            page_size=MAX_SEARCHED,
        )
    )
    own = [task_from_pb(task) for task in response.tasks]
    named = [task for task in own if task.name == ref]
    return task_edits.the_one(ref, named or [task for task in own if task.id.startswith(ref)])


def _is_own(chat: Chat, task: Task) -> bool:
    owner = chat.agent_id, chat.session.session_key
    return (task.agent_id, task.session_key) == owner


def _checked(chat: Chat, number: int, draft: TaskDraft) -> Task:
    try:
        return task_edits.checked_new(_task(chat, draft), chat.event.received_at)
    except InvalidArgument as exc:
        if number == 1:
            raise
        raise InvalidArgument(
            f"task {number}: {exc.message}", reason=exc.reason, metadata=exc.metadata
        ) from exc


def _task(chat: Chat, draft: TaskDraft) -> Task:
    _check_served(draft)
    timeout = draft.flags.get("timeout")
    delivery = draft.flags.get("delivery", "announce")
    return Task(
        namespace=chat.namespace,
        id=TaskId("new"),
        name=draft.name,
        agent_id=chat.agent_id,
        session_key=chat.session.session_key,
        prompt=draft.prompt,
        trigger=draft.trigger,
        mode=checked_mode(draft.flags.get("mode", "")),
        model=draft.flags.get("model", ""),
        # Not as a reply: what comes of it in a week answers no message.
        target=replace(chat.target, reply_to_id="") if delivery == "announce" else None,
        run_for=durations.parse_duration(timeout, field="timeout") if timeout else DEFAULT_RUN_FOR,
    )


def _check_served(draft: TaskDraft) -> None:
    """Raises InvalidArgument for a flag, or a value of one, that only later versions carry out."""
    for flag, value in draft.flags.items():
        served = _SERVED.get(flag, ())
        if flag in _SERVED and (not served or value in served):
            continue
        what = f"--{flag} {value[:40]}" if flag in _SERVED else f"--{flag}"
        others = ", ".join(served or [f"--{one}" for one in sorted([*_SERVED, "tz"])])
        raise InvalidArgument(
            f"{what} is not available in this version; available: {others}",
            reason="FLAG_NOT_SERVED",
            metadata={"field": flag},
        )


def _created(chat: Chat, task: Task) -> str:
    line = f"Created {task_text.compact(task, chat.target)}"
    if task.state is TaskState.BLOCKED:
        line += f"\nBlocked: {task.message} Set it up, then /task resume {_short(task)}."
    return line


def _resumed(task: Task) -> str:
    if task.state is TaskState.BLOCKED:
        return f"**{task.name}** stays blocked: {task.message} Set up: {task.setup_target}."
    return f"Resumed **{task.name}**: next {task_text.instant(task.next_at)}."


def _short(task: Task) -> str:
    return task_text.short_id(task.id)
