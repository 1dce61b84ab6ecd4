"""The run commands of `fased task`. Decides words and layout; what may be done to a run is decided
by the scheduler.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.failures import EXIT_REFUSED
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, show, terminal_text
from fased.api.scheduler.v1 import run_pb2, scheduler_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.core import run_text, task_text
from fased.core.names import DEFAULT_NAMESPACE
from fased.core.runs import Outcome
from fased.wire.plain import id_of, plain
from fased.wire.run_views import run_from_pb
from fased.wire.times import from_timestamp

if TYPE_CHECKING:
    # Named in the stubs' type file only.
    from fased.api.scheduler.v1.scheduler_service_pb2_grpc import RunServiceAsyncStub

POLL_PERIOD_S = 0.5
MAX_LISTED = 1000
ENDS = frozenset(Outcome)

RunArgument = Annotated[int, typer.Argument(metavar="RUN", min=1, help="Its number.")]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Its name or id.")]


def add_commands(app: typer.Typer) -> None:
    """Add the run commands to those of `fased task`."""
    app.command("run")(run)
    app.command("runs")(list_runs)
    app.command("run-show")(show_run)
    app.command("status")(status)
    app.command("cancel-run")(cancel_run)
    app.command("retry-run")(retry_run)
    app.command("clear-stale")(clear_stale)


def run(
    task: TaskArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Until it ended; 1 unless well.")] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Run a task now, whatever its schedule says.

    \b
    Examples:
      fased task run tick
      fased task run report --wait
    """

    async def ask(to: Connection) -> run_pb2.Run:
        tasks = scheduler_service_pb2_grpc.TaskServiceStub(to.channel)
        response = await tasks.RunTask(
            pb.RunTaskRequest(name=to.name("tasks", task), request_id=new_request_id())
        )
        return await _ended(to, response.run) if wait else response.run

    made = connection.run(namespace, ask)
    details = terminal_text(run_text.details(run_from_pb(made)))
    started = f"Run {made.run_id} was started; see it with: fased task run-show {made.run_id}"
    show(output, plain(made), details if wait else started)
    if wait and made.state != Outcome.SUCCEEDED:
        raise typer.Exit(EXIT_REFUSED)


def list_runs(
    task: TaskArgument,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most this many.")] = 20,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List a task's runs: live ones first, then the latest.

    \b
    Examples:
      fased task runs tick
      fased task runs tick --limit 100 -o json
    """

    async def read(to: Connection) -> list[run_pb2.Run]:
        tasks = scheduler_service_pb2_grpc.TaskServiceStub(to.channel)
        found = await tasks.GetTask(pb.GetTaskRequest(name=to.name("tasks", task)))
        response = await _stub(to).ListRuns(
            pb.ListRunsRequest(parent=to.parent, task_id=id_of(found.task.name), page_size=limit)
        )
        return list(response.runs)

    found = connection.run(namespace, read)
    table = Table(
        ("RUN", "STATE", "TRIGGER", "WHEN", "TOOK", "RESULT"),
        [_row(each) for each in found],
        empty="It has not run yet.",
    )
    show(output, {"runs": [plain(each) for each in found]}, table)


def show_run(
    run_id: RunArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Show all of a run, with its checkpoints and deliveries.

    \b
    Examples:
      fased task run-show 42
      fased task run-show 42 -o json
    """
    found = connection.run(namespace, lambda to: _get(to, run_id))
    show(output, plain(found), *_details(found))


def status(namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE) -> None:
    """Count the live runs of a namespace.

    \b
    Example:
      fased task status
    """

    async def ask(to: Connection) -> pb.GetQueueStatusResponse:
        return await _stub(to).GetQueueStatus(pb.GetQueueStatusRequest(parent=to.parent))

    counted = connection.run(namespace, ask)
    facts = [
        ("queued", str(counted.queued)),
        ("running", str(counted.running)),
        ("parked", str(counted.parked)),
        ("delayed", str(counted.delayed)),
        ("oldest waits", f"{counted.oldest_ready_age_s:.1f}s"),
        ("workers", str(counted.workers)),
        ("active tasks", str(counted.active_tasks)),
        ("next slot", task_text.instant(from_timestamp(counted, "next_slot_time"))),
    ]
    show(output, plain(counted), Table((), facts))


def cancel_run(
    run_id: RunArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """End a run, or ask the worker that holds it to stop.

    \b
    Example:
      fased task cancel-run 42
    """

    async def ask(to: Connection) -> run_pb2.Run:
        name, request_id = to.name("runs", run_id), new_request_id()
        request = pb.CancelRunRequest(name=name, request_id=request_id)
        return (await _stub(to).CancelRun(request)).run

    _changed(namespace, output, ask)


def retry_run(
    run_id: RunArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Run an ended run again, keeping what its finished steps left.

    \b
    Example:
      fased task retry-run 42
    """

    async def ask(to: Connection) -> run_pb2.Run:
        name, request_id = to.name("runs", run_id), new_request_id()
        request = pb.RetryRunRequest(name=name, request_id=request_id)
        return (await _stub(to).RetryRun(request)).run

    _changed(namespace, output, ask)


def clear_stale(
    run_id: RunArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Take a run from a worker whose lease has expired.

    \b
    Example:
      fased task clear-stale 42
    """

    async def ask(to: Connection) -> run_pb2.Run:
        name, request_id = to.name("runs", run_id), new_request_id()
        request = pb.ClearStaleRunRequest(name=name, request_id=request_id)
        return (await _stub(to).ClearStaleRun(request)).run

    _changed(namespace, output, ask)


async def _ended(to: Connection, made: run_pb2.Run) -> run_pb2.Run:
    while made.state not in ENDS:
        await asyncio.sleep(POLL_PERIOD_S)
        made = await _get(to, made.run_id)
    return made


async def _get(to: Connection, run_id: int) -> run_pb2.Run:
    return (await _stub(to).GetRun(pb.GetRunRequest(name=to.name("runs", run_id)))).run


def _changed(
    namespace: str, output: Format, ask: Callable[[Connection], Awaitable[run_pb2.Run]]
) -> None:
    changed = connection.run(namespace, ask)
    view = run_from_pb(changed)
    show(output, plain(changed), f"Run {view.run_id} is {run_text.state(view)}.")


def _row(message: run_pb2.Run) -> tuple[str, ...]:
    view = run_from_pb(message)
    return (
        str(view.run_id),
        run_text.state(view),
        str(view.body.trigger),
        run_text.when(view),
        run_text.duration(view) or "-",
        run_text.summary(view) or "-",
    )


def _details(message: run_pb2.Run) -> list[Table | str]:
    blocks: list[Table | str] = [terminal_text(run_text.details(run_from_pb(message)))]
    if message.worker_id:
        until = from_timestamp(message, "deadline_time")
        limit = f", until {task_text.instant(until)} at the latest" if until else ""
        blocks.append(f"- worker: {message.worker_id}{limit}")
    if message.checkpoints:
        blocks.append(f"- checkpoints: {', '.join(each.step for each in message.checkpoints)}")
    for delivery in message.deliveries:
        at = task_text.instant(from_timestamp(delivery, "update_time"))
        blocks.append(f"- delivery {delivery.delivery_id}: {delivery.state}, {at}")
    return blocks


def _stub(to: Connection) -> "RunServiceAsyncStub":
    return scheduler_service_pb2_grpc.RunServiceStub(to.channel)
