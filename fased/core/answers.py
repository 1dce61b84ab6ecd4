"""What a chat is told when a run ends, and when a message has to wait. Decides words and kind.

A task's own failures are shown in its list, not sent: only what a person asked for is answered
however it ends. What an answer says is the executor's; whether it is silent too (`deliver`).
"""

from fased.core.messages import MessageKind, OutboundMessage
from fased.core.names import Namespace, RunId, TaskId
from fased.core.runs import EndedRun, Outcome, RunBody, Trigger, end_sentence
from fased.core.tasks import Task

_NEVER_RAN = frozenset({Outcome.SKIPPED, Outcome.MISSED, Outcome.MERGED})

WAITING = (
    "Your message waits: this conversation has a question open. It goes on when that is answered."
)


def told_at_end(run: EndedRun, message_id: str) -> OutboundMessage | None:
    """What the run's target is told, None when nothing is."""
    if run.body.target is None or run.outcome in _NEVER_RAN:
        return None
    said = _answer(run) if run.outcome is Outcome.SUCCEEDED else _failure(run)
    if said is None:
        return None
    kind, text = said
    return _to_target(
        run.namespace, run.body, message_id, text, kind, run.run_id, run.task_id, event_id(run.body)
    )


def told_to_wait(
    namespace: Namespace, run_id: RunId, body: RunBody, message_id: str
) -> OutboundMessage | None:
    """What the sender of a message behind a parked turn is told at once (performance §3, law 6).

    It names no event: the message is not answered by it.
    """
    if body.target is None or not body.inputs:
        return None
    return _to_target(namespace, body, message_id, WAITING, MessageKind.NOTICE, run_id, None, "")


def told_of_task(task: Task, message_id: str, text: str) -> OutboundMessage | None:
    """A notice to the chat that a task delivers to, None for an internal task."""
    if task.target is None:
        return None
    return OutboundMessage(
        id=message_id,
        namespace=task.namespace,
        agent_id=task.agent_id,
        session_key=task.session_key,
        target=task.target,
        text=text,
        kind=MessageKind.NOTICE,
        task_id=task.id,
    )


def event_id(body: RunBody) -> str:
    """The inbound event that a run answers: its last message, or the command that asked for it."""
    if body.inputs:
        return body.inputs[-1].event_id
    return body.correlation_id if body.trigger is Trigger.MANUAL else ""


def _answer(run: EndedRun) -> tuple[MessageKind, str] | None:
    if run.deliver and run.result.text:
        return MessageKind.ANSWER, run.result.text
    if run.body.trigger is Trigger.MANUAL and event_id(run.body):
        return MessageKind.NOTICE, f"**{run.body.task_name}** ran and has nothing to say."
    return None


def _failure(run: EndedRun) -> tuple[MessageKind, str] | None:
    if run.body.trigger not in (Trigger.MESSAGE, Trigger.MANUAL):
        return None
    text = end_sentence(run.outcome, run.result.reason, run.result.message)
    if run.body.task_name:
        text = f"**{run.body.task_name}**: {text}"
    kind = MessageKind.NOTICE if run.outcome is Outcome.CANCELLED else MessageKind.FAILURE
    return kind, text


def _to_target(
    namespace: Namespace,
    body: RunBody,
    message_id: str,
    text: str,
    kind: MessageKind,
    run_id: RunId,
    task_id: TaskId | None,
    event_id: str,
) -> OutboundMessage | None:
    if body.target is None:
        return None
    return OutboundMessage(
        id=message_id,
        namespace=namespace,
        agent_id=body.agent_id,
        session_key=body.session_key,
        target=body.target,
        text=text,
        kind=kind,
        run_id=run_id,
        task_id=task_id,
        event_id=event_id,
    )
