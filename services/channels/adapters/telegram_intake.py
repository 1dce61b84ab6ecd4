"""Telegram's updates on their way to the bus, by poll and by webhook alike.

Decides what is stored of an update; what it means is `core/telegram.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from opentelemetry.trace import SpanKind

from fased.bus import topics
from fased.core import telegram
from fased.core.errors import InvalidArgument
from fased.core.events import OutboxEvent
from fased.core.messages import bus_key
from fased.core.telegram import Arrived, BotIdentity, Migrated
from fased.store import outbox
from fased.store.channels import leases
from fased.store.channels.accounts import Place
from fased.store.database import Connection
from fased.telemetry import metrics, tracing
from fased.wire.messages import inbound_to_pb

SCHEMA = "channels"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """An update as it is stored: a message as an event, a moved chat, or nothing of it."""

    update_id: int
    event: OutboxEvent | None = None
    migrated: Migrated | None = None


def take(update: object, place: Place, bot: BotIdentity) -> Taken:
    """What of a decoded update is to be stored; raises InvalidArgument MALFORMED_UPDATE."""
    try:
        parsed = telegram.parse_update(update, bot)
        taken = _taken(parsed, place)
    except InvalidArgument:
        metrics.channel_received.labels(telegram.CHANNEL, "malformed").inc()
        raise
    outcome = "taken" if taken.event or taken.migrated else "skipped"
    metrics.channel_received.labels(telegram.CHANNEL, outcome).inc()
    return taken


async def store(conn: Connection, taken: Sequence[tuple[Place, Taken]]) -> None:
    """Store what was taken, in the caller's transaction."""
    await outbox.insert(conn, SCHEMA, [each.event for _, each in taken if each.event])
    for place, each in taken:
        if each.migrated is not None:
            old, new = each.migrated.old.id, each.migrated.new.id
            if await leases.note_migration(conn, place, old, new):
                logger.info("chat_migrated", account="/".join(place), old=old, new=new)


def _taken(parsed: telegram.Update, place: Place) -> Taken:
    if isinstance(parsed, Migrated):
        return Taken(parsed.update_id, migrated=parsed)
    if not isinstance(parsed, Arrived):
        return Taken(parsed.update_id)
    namespace, channel, account_id = place
    event = telegram.inbound_event(parsed, namespace, account_id, datetime.now(UTC))
    key = bus_key(namespace, channel, account_id, event.peer)
    with tracing.tracer().start_as_current_span("receive telegram", kind=SpanKind.SERVER):
        headers = tracing.inject({})
    try:
        value = inbound_to_pb(event).SerializeToString()
    except ValueError:
        raise _unreadable("holds characters that are none") from None
    if len(value) > outbox.MAX_VALUE_BYTES or "\0" in event.text:
        raise _unreadable("cannot be carried")
    return Taken(parsed.update_id, OutboxEvent(topics.INBOUND, key, event.event_id, value, headers))


def _unreadable(why: str) -> InvalidArgument:
    return InvalidArgument(
        f"the message's text {why}", reason="MALFORMED_UPDATE", metadata={"field": "text"}
    )
