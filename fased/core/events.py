"""Events that leave a service, as rows of its outbox. Decides their shape and which of them share
a row, not their transport.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from zlib import crc32

OUTBOX_SHARDS = 16
# What a row holds at most, but for one event that is larger: PostgreSQL keeps it in the table.
MAX_ROW_BYTES = 1600
# What an event or a header takes beside its key, its id and its value: its topic, mostly.
_EVENT_BYTES = 40

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class OutboxEvent(NamedTuple):
    """One event to publish: `event_id` is the same however often it is sent.

    `key` keeps order on the bus; `value` is the encoded message; `headers` carries trace context
    and other CloudEvents attributes.
    """

    topic: str
    key: str
    event_id: str
    value: bytes
    headers: Mapping[str, str] = _NO_HEADERS


def outbox_shard(key: str) -> int:
    """The outbox shard of a bus key: one key, one shard, so that its order holds."""
    return crc32(key.encode()) % OUTBOX_SHARDS


def outbox_rows(events: Iterable[OutboxEvent]) -> list[tuple[int, list[OutboxEvent]]]:
    """Events of one transaction as rows: a shard, and events of it in their order.

    Rows of a shard come in the order of their events.
    """
    rows: list[tuple[int, list[OutboxEvent]]] = []
    room: dict[int, int] = {}
    last: dict[int, list[OutboxEvent]] = {}
    for event in events:
        shard = outbox_shard(event.key)
        size = _size(event)
        left = room.get(shard, 0) - size
        if left >= 0:
            last[shard].append(event)
        else:
            left = MAX_ROW_BYTES - size
            last[shard] = [event]
            rows.append((shard, last[shard]))
        room[shard] = left
    return rows


def _size(event: OutboxEvent) -> int:
    """About how many bytes an event takes."""
    size = _EVENT_BYTES + len(event.key) + len(event.event_id) + len(event.value)
    for name, text in event.headers.items():
        size += _EVENT_BYTES + len(name) + len(text)
    return size
