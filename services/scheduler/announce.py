"""What leaves the scheduler when runs end, as events of its outbox. Decides ids, topics and
keys; what is said is `core/answers.py`.
"""

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.core import answers, firing
from fased.core.events import OutboxEvent
from fased.core.messages import OutboundMessage, bus_key
from fased.core.names import Namespace, RunId
from fased.core.runs import EndedRun, Outcome, RunBody
from fased.core.tasks import Task
from fased.telemetry import metrics
from fased.wire.messages import outbound_to_pb
from fased.wire.times import to_timestamp

# Ids of messages are derived from what they are about (UUIDv5), so that a repeat has the same one.
_IDS = hashlib.sha1(uuid.UUID("0b8fb1a4-3c0d-4b52-8f3e-0f6a5c7d9e21").bytes, usedforsecurity=False)


# As what a run is counted.
_KIND = attrgetter("run_class", "outcome")


def announce(ended: Sequence[EndedRun]) -> Sequence[OutboxEvent]:
    """The events of runs that ended together: that they did, and what their chats are told.

    They are counted here, inside their transaction: one that is tried again counts again. The epoch
    is part of the ids, since a run that is retried ends, and answers, again.
    """
    for (run_class, outcome), runs in Counter(map(_KIND, ended)).items():
        metrics.runs_ended.labels(run_class.name.lower(), outcome).inc(runs)
    events = []
    for run in ended:
        events.append(_ended(run))
        if run.body.target is not None:
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


def _ended(run: EndedRun) -> OutboxEvent:
    event_id = f"run/{run.run_id}/{run.epoch}/ended"
    # The shared event is filled in and encoded at once: a new one costs three times as much.
    event = _end_of(run.namespace, run.outcome, run.result.reason, run.ended_at)
    event.id = event_id
    event.run_id = run.run_id
    event.task_id = run.task_id or ""
    return OutboxEvent(
        topics.RUN_EVENTS,
        f"{run.namespace}/{run.run_id}",
        event_id,
        event.SerializeToString(),
        run.body.trace,
    )


@lru_cache(maxsize=64)
def _end_of(
    namespace: Namespace, outcome: Outcome, reason: str, ended_at: datetime
) -> message_pb2.RunEvent:
    """What the ends of a batch have in common: they have one instant."""
    return message_pb2.RunEvent(
        namespace=namespace,
        kind=message_pb2.RUN_EVENT_KIND_ENDED,
        outcome=outcome,
        reason=reason,
        event_time=to_timestamp(ended_at),
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
    """What `str(uuid.uuid5(...))` gives, at a quarter of its cost: each answer pays it."""
    named = _IDS.copy()
    named.update(text.encode())
    h = named.hexdigest()
    variant = "89ab"[int(h[16], 16) & 3]
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant}{h[17:20]}-{h[20:32]}"
