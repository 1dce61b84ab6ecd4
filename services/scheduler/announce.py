"""What leaves the scheduler when a run ends, as events of its outbox. Decides ids, topics and
keys; what is said is `core/answers.py`.
"""

import hashlib
import uuid
from collections.abc import Sequence
from functools import cache, lru_cache

from prometheus_client import Counter

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.core import answers, firing
from fased.core.events import OutboxEvent
from fased.core.messages import OutboundMessage, bus_key
from fased.core.names import Namespace, RunId
from fased.core.runs import EndedRun, Outcome, RunBody, RunClass
from fased.core.tasks import Task
from fased.telemetry import metrics
from fased.wire.messages import outbound_to_pb
from fased.wire.times import to_timestamp

# Ids of events are derived from what they are about (UUIDv5), so that a repeat has the same one.
_IDS = hashlib.sha1(uuid.UUID("0b8fb1a4-3c0d-4b52-8f3e-0f6a5c7d9e21").bytes, usedforsecurity=False)
# Runs that are completed together end at one instant.
_instant = lru_cache(maxsize=16)(to_timestamp)


def announce(run: EndedRun) -> Sequence[OutboxEvent]:
    """The events of a run's end: that it ended, and what its chat is told.

    It is counted here, inside its transaction: one that is tried again counts again. The epoch is
    part of the ids, since a run that is retried ends, and answers, again.
    """
    _counter(run.run_class, run.outcome).inc()
    events = [_ended(run)]
    if run.body.target is None:
        return events
    message = answers.told_at_end(run, _id(f"run:{run.run_id}:{run.epoch}:answer"))
    if message is not None:
        events.append(_outbound(message, run.body.trace))
    return events


def must_wait(namespace: Namespace, run_id: RunId, body: RunBody) -> Sequence[OutboxEvent]:
    """The notice to the sender of a message that waits behind a parked turn."""
    message = answers.told_to_wait(namespace, run_id, body, _id(f"run:{run_id}:waits"))
    return [] if message is None else [_outbound(message, body.trace)]


def disabled(task: Task, why: str) -> Sequence[OutboxEvent]:
    """The notice to the chat of a task that no longer fires."""
    text = firing.disabled_sentence(task, why)
    message = answers.told_of_task(task, _id(f"task:{task.id}:{task.generation}:disabled"), text)
    return [] if message is None else [_outbound(message, {})]


@cache
def _counter(run_class: RunClass, outcome: Outcome) -> Counter:
    return metrics.runs_ended.labels(run_class.name.lower(), outcome)


def _ended(run: EndedRun) -> OutboxEvent:
    event_id = _id(f"run:{run.run_id}:{run.epoch}:ended")
    event = message_pb2.RunEvent(
        id=event_id,
        namespace=run.namespace,
        run_id=run.run_id,
        task_id=run.task_id or "",
        kind=message_pb2.RUN_EVENT_KIND_ENDED,
        outcome=run.outcome,
        reason=run.result.reason,
        event_time=_instant(run.ended_at),
    )
    return OutboxEvent(
        topic=topics.RUN_EVENTS,
        key=f"{run.namespace}/{run.run_id}",
        event_id=event_id,
        value=event.SerializeToString(),
        headers=run.body.trace,
    )


def _outbound(message: OutboundMessage, trace: dict[str, str]) -> OutboxEvent:
    target = message.target
    return OutboxEvent(
        topic=topics.OUTBOUND,
        key=bus_key(message.namespace, target.channel, target.account_id, target.peer),
        event_id=message.id,
        value=outbound_to_pb(message).SerializeToString(),
        headers=trace,
    )


def _id(text: str) -> str:
    """What `str(uuid.uuid5(...))` gives, at a quarter of its cost: each end of a run pays it."""
    named = _IDS.copy()
    named.update(text.encode())
    h = named.hexdigest()
    variant = "89ab"[int(h[16], 16) & 3]
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant}{h[17:20]}-{h[20:32]}"
