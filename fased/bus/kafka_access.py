"""What the Kafka bus's producer, members, tails and questions share: settings, records, failures.

Decides how long things wait and how a record looks in Kafka; not when to read or write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from fased.bus.port import Received
from fased.core.errors import InvalidArgument, Unavailable

# What aiokafka raises when the broker is away or refuses; a closed connection may come as OSError.
DRIVER_ERRORS = (KafkaError, OSError, TimeoutError)
# A partition's next records are not fetched before the last are taken out: the chunk bounds memory.
FETCH_BYTES = 256 * 1024
FETCH_WAIT_MS = 250

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things wait. The broker gives a member's partitions to others after `session_s`
    without a heartbeat, and waits `rebalance_s` for each member when the group changes; a member
    hears of that at its next heartbeat.

    `drain_s` is what a member takes of that to finish its batches. A member that reads nothing for
    `stall_s` although the broker answers and records wait is replaced by a new one.
    """

    session_s: float = 10.0
    heartbeat_s: float = 1.0
    rebalance_s: float = 10.0
    drain_s: float = 5.0
    publish_s: float = 10.0
    commit_s: float = 5.0
    answer_s: float = 5.0
    watch_s: float = 5.0
    stall_s: float = 30.0

    @property
    def request_s(self) -> float:
        """The bound of one request; a member's request to join is answered after `rebalance_s`."""
        return self.rebalance_s + 5.0


TIMING = Timing()


@dataclass(frozen=True, slots=True)
class Link:
    """Where the brokers are (`host:port`, by commas) and who asks.

    `instance_id`, such as the ordinal of a StatefulSet's pod, makes a member static: restarted
    within `session_s` it has its partitions back without a rebalance, and one that is gone for good
    is missed only after that. A static process is in a group once.
    """

    bootstrap: str
    client_id: str
    instance_id: str | None
    timing: Timing
    # Of `kafka_security.security_options`; kept out of what is printed, since it holds a password.
    security: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def options(self) -> dict[str, Any]:
        """What every client of aiokafka is told."""
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": round(self.timing.request_s * 1000),
            "metadata_max_age_ms": 60_000,
            **self.security,
        }

    def reader(self, **options: Any) -> AIOKafkaConsumer:
        """A consumer, not started; without a group unless `options` name one."""
        return AIOKafkaConsumer(
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            **self.options(),
            **options,
        )


def received(record: ConsumerRecord) -> Received:
    """A record of Kafka's as the port gives it; what others wrote may lack a key or a value."""
    return Received(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode(errors="replace"),
        value=record.value or b"",
        headers={name: value.decode(errors="replace") for name, value in record.headers},
        published_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
    )


def headers(of: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Headers as Kafka keeps them."""
    return [(name, value.encode()) for name, value in of.items()]


def unavailable(exc: BaseException) -> Unavailable:
    """A failure of the broker or of the way to it, in our own words."""
    return Unavailable(
        "the message bus does not answer; try again in a moment",
        reason="BUS_UNAVAILABLE",
        metadata={"error": type(exc).__name__},
    )


@contextmanager
def connecting(bootstrap: str) -> Iterator[None]:
    """A first connection's failure in words for whoever set it up.

    aiokafka keeps what the broker answered to itself but for a line in the log, so that a wrong
    password cannot be told from a broker that is away.
    """
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise Unavailable(
            f"no broker at {bootstrap} lets us in; check FASED_KAFKA_BOOTSTRAP and, if they want "
            "that, FASED_KAFKA_TLS, FASED_KAFKA_USERNAME and FASED_KAFKA_PASSWORD",
            reason="BUS_UNAVAILABLE",
            metadata={"field": "kafka_bootstrap", "error": type(exc).__name__},
        ) from exc


@contextmanager
def translated() -> Iterator[None]:
    """aiokafka's errors in our words: Unavailable, or InvalidArgument for what is too large."""
    try:
        yield
    except MessageSizeTooLargeError as exc:
        raise InvalidArgument(
            "the record is larger than the bus takes",
            reason="EVENT_TOO_LARGE",
            metadata={"field": "value"},
        ) from exc
    except DRIVER_ERRORS as exc:
        raise unavailable(exc) from exc


async def stop(close: Callable[[], Awaitable[None]], patience_s: float) -> None:
    """Close a client; one that takes longer than `patience_s` goes on closing by itself.

    It must not be cancelled: half closed, a member would go on with its heartbeats and keep
    partitions that nobody reads.
    """
    closing = asyncio.ensure_future(close())
    done, _ = await asyncio.wait({closing}, timeout=patience_s)
    if not done:
        logger.warning("bus_client_closes_slowly", patience_s=patience_s)
        return
    error = closing.exception()
    if error is not None:
        if not isinstance(error, DRIVER_ERRORS):
            raise error
        logger.warning("bus_client_close_failed", error=type(error).__name__)
