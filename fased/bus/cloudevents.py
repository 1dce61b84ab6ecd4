"""CloudEvents attributes as headers of a record. Decides their names (CloudEvents 1.0, Kafka
protocol binding, binary mode, with `-` for `_`), not the payload.
"""

from datetime import UTC, datetime


def attributes(*, event_id: str, type_: str, source: str, at: datetime) -> dict[str, str]:
    """The headers of one event; `event_id` is the same however often it is sent."""
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": type_,
        "ce-source": source,
        "ce-time": at.astimezone(UTC).isoformat(),
    }
