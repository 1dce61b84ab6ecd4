"""Events that leave a service, as rows of its outbox. Decides their shape, not their transport."""

from dataclasses import dataclass, field
from zlib import crc32

OUTBOX_SHARDS = 16


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event to publish: `event_id` is the same however often it is sent.

    `key` keeps order on the bus; `value` is the encoded message; `headers` carries trace context
    and other CloudEvents attributes.
    """

    topic: str
    key: str
    event_id: str
    value: bytes
    headers: dict[str, str] = field(default_factory=dict, hash=False)


def outbox_shard(key: str) -> int:
    """The outbox shard of a bus key: one key, one shard, so that its order holds."""
    return crc32(key.encode()) % OUTBOX_SHARDS
