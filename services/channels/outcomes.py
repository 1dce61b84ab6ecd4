"""The ends of deliveries, as events for the run and as dead letters. Decides their shape only."""

import uuid

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.core.delivery import DeliveryState
from fased.core.events import OutboxEvent
from fased.core.messages import OutboundMessage, bus_key
from fased.store.channels.lanes import Ended
from fased.wire.messages import outbound_from_pb
from fased.wire.times import to_timestamp


def events_of(ended: Ended) -> list[OutboxEvent]:
    """What is told of a delivery that came to an end."""
    message = outbound_from_pb(message_pb2.OutboundMessage.FromString(ended.outbound))
    return events_about(message, ended)


def events_about(message: OutboundMessage, ended: Ended) -> list[OutboxEvent]:
    """What is told of a message's delivery; one that failed is a dead letter as well."""
    events = _run_events(message, ended)
    if ended.state is DeliveryState.FAILED:
        events.append(_dead_letter(message, ended))
    return events


def _run_events(message: OutboundMessage, ended: Ended) -> list[OutboxEvent]:
    """What the run hears of its result's delivery; nothing where no run made it."""
    if message.run_id is None:
        return []
    event_id = str(uuid.uuid5(uuid.UUID(message.id), f"delivery:{ended.state}"))
    event = message_pb2.RunEvent(
        id=event_id,
        namespace=message.namespace,
        run_id=message.run_id,
        task_id=message.task_id or "",
        kind=message_pb2.RUN_EVENT_KIND_DELIVERY,
        reason=ended.reason,
        delivery_id=message.id,
        delivery_state=ended.state,
        event_time=to_timestamp(ended.at),
    )
    key = f"{message.namespace}/{message.run_id}"
    return [OutboxEvent(topics.RUN_EVENTS, key, event_id, event.SerializeToString())]


def _dead_letter(message: OutboundMessage, ended: Ended) -> OutboxEvent:
    target = message.target
    key = bus_key(message.namespace, target.channel, target.account_id, target.peer)
    headers = {
        "fased-origin-topic": topics.OUTBOUND,
        "fased-error": ended.reason,
        "fased-attempts": str(ended.attempts),
    }
    event_id = str(uuid.uuid5(uuid.UUID(message.id), "dead-letter"))
    return OutboxEvent(topics.DEAD_LETTER, key, event_id, ended.outbound, headers)
