"""Telegram's updates on their way to the bus, by poll and by webhook alike.

Decides what is stored of an update; what it means is `core/telegram.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from opentelemetry.trace import SpanKind

from fased.bus import topics
from fased.core import telegram
from fased.core.errors import InvalidArgument
from fased.core.events import OutboxEvent
from fased.core.messages import InboundEvent, PeerKind, bus_key
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
    """An update as it is stored: a message, a moved chat, or nothing of it.

    `value` is the message as the bus carries it, `headers` are its trace.
    """

    update_id: int
    event: InboundEvent | None = None
    migrated: Migrated | None = None
    value: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


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
    """Store what was taken, in the caller's transaction.

    A chat that moves and its next message may come together, so moves are noted first.
    """
    for place, each in taken:
        if each.migrated is not None:
            old, new = each.migrated.old.id, each.migrated.new.id
            if await leases.note_migration(conn, place, old, new):
                logger.info("chat_migrated", account="/".join(place), old=old, new=new)
    first_ids = await _first_ids(conn, taken)
    await outbox.insert(
        conn,
        SCHEMA,
        [_outbox_event(each, first_ids.get(place, {})) for place, each in taken if each.event],
    )


async def _first_ids(
    conn: Connection, taken: Sequence[tuple[Place, Taken]]
) -> dict[Place, dict[str, str]]:
    """What groups were called before, by account; people keep their ids."""
    groups: dict[Place, set[str]] = {}
    for place, each in taken:
        if each.event is not None and each.event.peer.kind is PeerKind.GROUP:
            groups.setdefault(place, set()).add(each.event.peer.id)
    return {place: await leases.first_ids(conn, place, list(ids)) for place, ids in groups.items()}


def _outbox_event(taken: Taken, first_ids: Mapping[str, str]) -> OutboxEvent:
    event, value = taken.event, taken.value
    assert event is not None
    if first_id := first_ids.get(event.peer.id):
        event = telegram.under_first_id(event, first_id)
        value = inbound_to_pb(event).SerializeToString()
    key = bus_key(event.namespace, event.channel, event.account_id, event.peer)
    return OutboxEvent(topics.INBOUND, key, event.event_id, value, dict(taken.headers))


def _taken(parsed: telegram.Update, place: Place) -> Taken:
    if isinstance(parsed, Migrated):
        return Taken(parsed.update_id, migrated=parsed)
    if not isinstance(parsed, Arrived):
        return Taken(parsed.update_id)
    namespace, _, account_id = place
    event = telegram.inbound_event(parsed, namespace, account_id, datetime.now(UTC))
    with tracing.tracer().start_as_current_span("receive telegram", kind=SpanKind.SERVER):
        headers = tracing.inject({})
    try:
        value = inbound_to_pb(event).SerializeToString()
    except ValueError:
        raise _unreadable("holds characters that are none") from None
    if len(value) > outbox.MAX_VALUE_BYTES or "\0" in event.text:
        raise _unreadable("cannot be carried")
    return Taken(parsed.update_id, event, value=value, headers=headers)


def _unreadable(why: str) -> InvalidArgument:
    return InvalidArgument(
        f"the message's text {why}", reason="MALFORMED_UPDATE", metadata={"field": "text"}
    )
