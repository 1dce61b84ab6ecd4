"""What the log bus's publisher, consumers and tails share: hint names, rows as records, failures.

Decides nothing about when to read or write.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from fased.bus.port import Received
from fased.core.errors import InvalidArgument
from fased.store import database, transient
from fased.store.buslog import StoredRecord


def hint_name(topic: str) -> str:
    """The hint that a topic has new records."""
    return f"bus/{topic}"


def group_hint_name(group: str) -> str:
    """The hint that a group's members or their partitions changed."""
    return f"bus-group/{group}"


def received(row: StoredRecord) -> Received:
    """A row of the log as the port gives it."""
    return Received(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        key=row.key,
        value=row.value,
        headers=json.loads(row.headers),
        published_at=row.published_at,
    )


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors in our words: Unavailable, or InvalidArgument for what no text holds."""
    try:
        yield
    except transient.DRIVER_ERRORS as exc:
        if transient.is_transient(exc):
            raise database.unavailable(exc) from exc
        if (getattr(exc, "sqlstate", None) or "").startswith("22"):
            raise InvalidArgument(
                "the record's key or a header holds what text in the database cannot",
                reason="RECORD_INVALID",
                metadata={"field": "key"},
            ) from exc
        raise
