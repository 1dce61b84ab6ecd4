"""Takes results from the bus and delivers each once. Decides nothing itself: what becomes of a
message is its adapter's word, and the message's id is the key of the effect.
"""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.consumer import run_consumer
from fased.bus.port import Received
from fased.core import delivery
from fased.core.chunking import chunk_text, resolve_chunking
from fased.core.delivery import DeliveryState, Outcome
from fased.core.messages import OutboundMessage
from fased.core.names import ChannelId
from fased.process import Host
from fased.store import outbox
from fased.store.channels import deliveries
from fased.store.channels.lanes import Ended
from fased.store.database import Connection
from fased.telemetry import metrics, tracing
from fased.wire.messages import outbound_from_pb
from services.channels.adapters.port import Adapter
from services.channels.outcomes import events_about

GROUP = "channels"
SCHEMA = "channels"


class Outbound:
    """The consumer of fased.outbound.v1."""

    def __init__(self, host: Host, adapters: Mapping[ChannelId, Adapter]) -> None:
        self._host = host
        self._adapters = adapters

    async def run(self) -> None:
        """Consume until the process stops."""
        host = self._host
        await run_consumer(host.bus, GROUP, [topics.OUTBOUND], self.deliver, stop=host.stop)

    async def deliver(self, records: Sequence[Received]) -> None:
        """Deliver a batch in one transaction; those taken in before are left as they are.

        Raises ValueError for a record that is no message.
        """
        hints: set[str] = set()
        async with self._host.database.queue.acquire() as conn, conn.transaction():
            for record in records:
                many = len(records) > 1
                with tracing.continued(record.headers) if many else nullcontext():
                    hints |= await self._deliver_one(conn, record)
        self._host.hints.send(*hints)

    async def _deliver_one(self, conn: Connection, record: Received) -> set[str]:
        message = outbound_from_pb(message_pb2.OutboundMessage.FromString(record.value))
        delivery_id = uuid.UUID(message.id)
        if await deliveries.is_known(conn, message.namespace, delivery_id):
            return set()
        adapter = self._adapters.get(message.target.channel)
        outcome = await _accept(conn, adapter, message)
        at = await deliveries.insert(
            conn,
            message,
            delivery_id,
            outcome,
            outbound=record.value,
            traceparent=tracing.inject({}).get("traceparent", ""),
        )
        hints = {adapter.hint(message)} if adapter else set()
        if outcome.state is not DeliveryState.PENDING:
            channel = message.target.channel if adapter else "unknown"
            metrics.deliveries_ended.labels(channel, outcome.state).inc()
            ended = Ended(
                delivery_id, outcome.state, outcome.reason, outcome.message, 0, at, record.value
            )
            events = events_about(message, ended)
            await outbox.insert(conn, SCHEMA, events)
            hints |= {outbox.hint_name(SCHEMA)} if events else set()
        return hints


async def _accept(conn: Connection, adapter: Adapter | None, message: OutboundMessage) -> Outcome:
    if adapter is None:
        return delivery.unknown_channel(message, _texts(message))
    if delivery.is_expired(message, datetime.now(UTC)):
        return delivery.expired(_texts(message))
    return await adapter.accept(conn, message)


def _texts(message: OutboundMessage) -> tuple[str, ...]:
    chunking = resolve_chunking(message.target.channel)
    return tuple(chunk_text(message.text, chunking.limit_units, chunking.mode))
