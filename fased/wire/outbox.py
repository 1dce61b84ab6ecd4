"""Events of an outbox as the bytes that one of its rows holds, and back; nothing else."""

from collections.abc import Iterable

from fased.api.types.v1 import outbox_pb2
from fased.core.events import OutboxEvent


def pack(events: Iterable[OutboxEvent]) -> bytes:
    """The events in order, as one value."""
    packed = outbox_pb2.OutboxEvents()
    for event in events:
        added = packed.events.add(
            topic=event.topic, key=event.key, event_id=event.event_id, value=event.value
        )
        # Even an empty map costs more than all the other fields together.
        if event.headers:
            added.headers.update(event.headers)
    return packed.SerializeToString()


def unpack(packed: bytes) -> list[OutboxEvent]:
    """What `pack` was given."""
    return [
        OutboxEvent(event.topic, event.key, event.event_id, event.value, dict(event.headers))
        for event in outbox_pb2.OutboxEvents.FromString(packed).events
    ]
