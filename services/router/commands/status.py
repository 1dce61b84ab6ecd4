"""`/status`, `/whoami`, `/stop` and what is done with one run by its number. Decides the words."""

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.core import run_text
from fased.core.commands import RunAction, RunVerb, Status, Stop, WhoAmI
from fased.core.errors import PermissionDenied
from fased.core.names import resource_name
from fased.core.queue import RunView
from fased.wire.run_views import run_from_pb
from services.router.commands.chat import Chat

RUNS = "runs"


async def status(chat: Chat, command: Status) -> str:
    """This chat's Agent and session, and what its session's runs do."""
    response = await chat.services.runs.ListRuns(
        pb.ListRunsRequest(parent=chat.parent, session_key=chat.session.session_key, page_size=5)
    )
    counts = await chat.services.runs.GetQueueStatus(pb.GetQueueStatusRequest(parent=chat.parent))
    lines = [
        f"Agent {chat.describe_agent(chat.agent_id)}, session {chat.session.session_key}",
        f"- queue: {counts.queued} queued, {counts.running} running, {counts.workers} workers",
        f"- tasks that fire: {counts.active_tasks}",
    ]
    lines += [f"- {run_text.compact(run_from_pb(run))}" for run in response.runs]
    return "\n".join(lines)


async def whoami(chat: Chat, command: WhoAmI) -> str:
    """Who the sender is to Fased."""
    sender, event = chat.event.sender, chat.event
    name = f" ({sender.display_name})" if sender.display_name else ""
    return f"You are {sender.id}{name} on {event.channel} account {event.account_id}."


async def stop(chat: Chat, command: Stop) -> str:
    """Stop what runs or waits in this session."""
    response = await chat.services.runs.CancelSessionRuns(
        pb.CancelSessionRunsRequest(
            parent=chat.parent,
            session_key=chat.session.session_key,
            request_id=chat.request_id(),
        )
    )
    if not response.count:
        return "Nothing is running here."
    return f"Stopped {response.count} run{'s' if response.count > 1 else ''}."


async def run(chat: Chat, command: RunAction) -> str:
    """Show or control one run of this session."""
    name = resource_name(chat.namespace, RUNS, command.run)
    runs, request_id = chat.services.runs, chat.request_id()
    view = run_from_pb((await runs.GetRun(pb.GetRunRequest(name=name))).run)
    _check_own(chat, view)
    match command.verb:
        case RunVerb.SHOW:
            return run_text.details(view)
        case RunVerb.CANCEL:
            await runs.CancelRun(pb.CancelRunRequest(name=name, request_id=request_id))
            return f"Run {command.run} is being cancelled."
        case RunVerb.RETRY:
            await runs.RetryRun(pb.RetryRunRequest(name=name, request_id=request_id))
            return f"Run {command.run} runs again; finished steps are kept."
        case RunVerb.CLEAR_STALE:
            await runs.ClearStaleRun(pb.ClearStaleRunRequest(name=name, request_id=request_id))
            return f"Run {command.run} was taken from its lost worker and waits again."


def _check_own(chat: Chat, view: RunView) -> None:
    if view.body.agent_id != chat.agent_id or view.body.session_key != chat.session.session_key:
        raise PermissionDenied(
            "Task belongs to another Agent/session and was not shown.", reason="OTHER_OWNER"
        )
