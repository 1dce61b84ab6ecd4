"""Learns from the bus what became of the deliveries of runs' results. Decides nothing."""

from collections.abc import Sequence

from fased.api.types.v1 import message_pb2
from fased.bus.port import Received
from fased.core.names import Namespace, RunId
from fased.store import run_deliveries
from fased.store.database import Database
from fased.store.run_deliveries import Change
from fased.wire.times import from_timestamp
from services.scheduler.connections import pooled

GROUP = "scheduler"


class DeliveryEvents:
    """The effect of delivery events on the detail of runs; a repeat changes nothing."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def apply(self, records: Sequence[Received]) -> None:
        """Note the states that the events tell."""
        changes = [change for change in map(_change, records) if change is not None]
        if not changes:
            return
        async with pooled(self._pool) as conn:
            await run_deliveries.record(conn, changes)


def _change(record: Received) -> Change | None:
    event = message_pb2.RunEvent.FromString(record.value)
    if event.kind != message_pb2.RUN_EVENT_KIND_DELIVERY or not event.run_id:
        return None
    at = from_timestamp(event, "event_time")
    if at is None or not event.delivery_id:
        raise ValueError("a delivery's event has a delivery_id and an event_time")
    return Change(
        RunId(event.run_id),
        event.delivery_id,
        Namespace(event.namespace),
        event.delivery_state,
        at,
    )
