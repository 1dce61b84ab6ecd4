"""`fased task`: saved work. Decides words and layout; its runs are in `runs.py`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cli import connection, runs, task_options
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, note, show, terminal_text
from cli.task_options import Delivery, Missed, Mode
from fased.api.channels.v1 import channels_service_pb2, channels_service_pb2_grpc, conversation_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc, task_pb2
from fased.core import task_text
from fased.core.conversations import WEBCHAT, WEBCHAT_ACCOUNT
from fased.core.messages import Peer, PeerKind, Target
from fased.core.names import DEFAULT_NAMESPACE, AgentId, SessionKey, TaskId, parse_namespace
from fased.core.runs import DEFAULT_RUN_FOR, ExecutionMode
from fased.core.tasks import Overlap, Task, TaskState
from fased.wire.plain import id_of, plain
from fased.wire.tasks import task_from_pb, task_to_pb

if TYPE_CHECKING:
    # Named in the stubs' type file only.
    from fased.api.scheduler.v1.scheduler_service_pb2_grpc import TaskServiceAsyncStub

PAGE_SIZE = 100

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="Its name, its id, or how its id begins.")
]


@app.callback()
def group() -> None:
    """Tasks and their runs."""


@app.command()
def add(
    name: task_options.NameArgument,
    prompt: task_options.PromptOption,
    every: task_options.EveryOption = "",
    cron: task_options.CronOption = "",
    at: task_options.AtOption = "",
    manual: task_options.ManualOption = False,
    tz: task_options.ZoneOption = "",
    mode: task_options.ModeOption = Mode.AGENT_TURN,
    agent: task_options.AgentOption = "",
    session: task_options.SessionOption = "",
    model: task_options.ModelOption = "",
    delivery: task_options.DeliveryOption = Delivery.ANNOUNCE,
    overlap: task_options.OverlapOption = Overlap.SKIP,
    missed: task_options.MissedOption = None,
    timeout: task_options.TimeoutOption = None,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Keep a task.

    \b
    Examples:
      fased task add tick --every 5s --mode no-model --prompt tick
      fased task add report --cron "0 9 * * mon-fri" --tz Europe/Berlin --prompt @report.md
      fased task add move --at 2027-01-31T09:00+01:00 --prompt "Remind me to pack."
      fased task add tidy --manual --agent coding --prompt "Tidy the workspace."
    """
    slots = missed or Missed()
    task = Task(
        namespace=parse_namespace(namespace),
        id=TaskId("new"),
        name=name,
        agent_id=AgentId(agent),
        session_key=SessionKey(session),
        prompt=prompt,
        trigger=task_options.trigger_of(every, cron, at, manual, tz),
        mode=ExecutionMode(mode),
        model=model,
        overlap=overlap,
        missed=slots.policy,
        missed_limit=slots.limit,
        missed_within=slots.within,
        run_for=timeout or DEFAULT_RUN_FOR,
    )
    kept = connection.run(namespace, lambda to: _create(to, task, delivery))
    show(output, plain(kept), terminal_text(task_text.details(task_from_pb(kept))))


@app.command("list")
def list_tasks(
    agent: Annotated[str, typer.Option(help="Only those of this Agent.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help=f"All of them, not the first {PAGE_SIZE}.")
    ] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List tasks in the order they were made.

    \b
    Examples:
      fased task list
      fased task list --agent coding --all -o json
    """

    async def read(to: Connection) -> pb.ListTasksResponse:
        whole, token = pb.ListTasksResponse(), ""
        while True:
            page = await _stub(to).ListTasks(
                pb.ListTasksRequest(
                    parent=to.parent, agent_id=agent, page_size=PAGE_SIZE, page_token=token
                )
            )
            whole.tasks.extend(page.tasks)
            token = page.next_page_token
            if not (token and everything):
                whole.next_page_token = token
                return whole

    listed = connection.run(namespace, read)
    table = Table(
        ("TASK", "NAME", "AGENT", "PLAN", "STATE", "NEXT", "LAST"),
        [_row(task_from_pb(task)) for task in listed.tasks],
        empty="No tasks yet. Make one: fased task add NAME --every 1h --prompt TEXT",
    )
    show(output, {"tasks": [plain(task) for task in listed.tasks]}, table)
    if listed.next_page_token:
        note("There are more: ask with --all.")


@app.command("show")
def show_task(
    task: TaskArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Show all of a task.

    \b
    Examples:
      fased task show tick
      fased task show 3f2a9c1b -o yaml
    """
    found = connection.run(namespace, lambda to: _get(to, task))
    show(output, plain(found), terminal_text(task_text.details(task_from_pb(found))))


@app.command()
def pause(
    task: TaskArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Stop a task from firing.

    \b
    Example:
      fased task pause tick
    """

    async def ask(to: Connection) -> task_pb2.Task:
        name, request_id = to.name("tasks", task), new_request_id()
        request = pb.PauseTaskRequest(name=name, request_id=request_id)
        return (await _stub(to).PauseTask(request)).task

    _changed(namespace, output, ask, "paused")


@app.command()
def resume(
    task: TaskArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Check a task again and let it fire. Exit code 1 when it stays blocked.

    \b
    Example:
      fased task resume tick
    """

    async def ask(to: Connection) -> task_pb2.Task:
        name, request_id = to.name("tasks", task), new_request_id()
        request = pb.ResumeTaskRequest(name=name, request_id=request_id)
        return (await _stub(to).ResumeTask(request)).task

    resumed = task_from_pb(_changed(namespace, output, ask, "resumed"))
    if resumed.state is not TaskState.ACTIVE:
        raise typer.Exit(1)


@app.command()
def rm(
    task: TaskArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Remove a task and cancel its live runs; its history stays.

    \b
    Example:
      fased task rm tick
    """

    async def ask(to: Connection) -> task_pb2.Task:
        name, request_id = to.name("tasks", task), new_request_id()
        request = pb.DeleteTaskRequest(name=name, request_id=request_id)
        return (await _stub(to).DeleteTask(request)).task

    _changed(namespace, output, ask, "removed")


runs.add_commands(app)


async def _create(to: Connection, task: Task, delivery: Delivery) -> task_pb2.Task:
    """Keep `task` under the Agent and session that its empty or short words mean."""
    chat = await _chat(to, task)
    peer = Peer(PeerKind.DIRECT, id_of(chat.name))
    owned = replace(
        task,
        agent_id=AgentId(chat.agent_id),
        session_key=SessionKey(chat.session_key),
        target=Target(WEBCHAT, WEBCHAT_ACCOUNT, peer) if delivery is Delivery.ANNOUNCE else None,
    )
    request = pb.CreateTaskRequest(
        parent=to.parent, task=task_to_pb(owned), request_id=new_request_id()
    )
    return (await _stub(to).CreateTask(request)).task


async def _chat(to: Connection, task: Task) -> conversation_pb2.Conversation:
    chats = channels_service_pb2_grpc.ConversationServiceStub(to.channel)
    response = await chats.OpenConversation(
        channels_service_pb2.OpenConversationRequest(
            parent=to.parent, agent_id=task.agent_id, session_key=task.session_key
        )
    )
    return response.conversation


def _changed(
    namespace: str, output: Format, ask: Callable[[Connection], Awaitable[task_pb2.Task]], how: str
) -> task_pb2.Task:
    changed = connection.run(namespace, ask)
    task = task_from_pb(changed)
    blocked = task.state is TaskState.BLOCKED
    line = f"Task {task.name} stays blocked: {task.message}" if blocked else ""
    show(output, plain(changed), line or f"Task {task.name} was {how}.")
    if blocked and task.setup_target:
        note(f"Set up {task.setup_target}, then: fased task resume {task_text.short_id(task.id)}")
    return changed


async def _get(to: Connection, task: str) -> task_pb2.Task:
    return (await _stub(to).GetTask(pb.GetTaskRequest(name=to.name("tasks", task)))).task


def _row(task: Task) -> tuple[str, ...]:
    return (
        task_text.short_id(task.id),
        task.name,
        task.agent_id,
        task_text.plan(task.trigger),
        f"{task.state}: {task.reason}" if task.reason else task.state,
        task_text.instant(task.next_at, task.trigger.timezone) if task.next_at else "-",
        task.last_outcome or "-",
    )


def _stub(to: Connection) -> "TaskServiceAsyncStub":
    return scheduler_service_pb2_grpc.TaskServiceStub(to.channel)
