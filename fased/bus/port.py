"""The bus as services see it: what a record is, and what publishing, consuming and tailing promise.

Decides the contract (`tests/contract/test_bus.py` runs it over every implementation) and no
transport. Records of one key keep their order, since a key has one partition.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fased.core.errors import Aborted

MAX_BATCH = 200
MAX_OUTSTANDING = 1000
MAX_TAIL_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """A record to publish; `value` is an encoded protobuf message."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Received:
    """A record as the bus gives it back; `published_at` is the bus's own time."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    published_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records of one partition, in order, at least one; `generation` is that of its ownership."""

    topic: str
    partition: int
    generation: int
    records: tuple[Received, ...]

    @property
    def next_offset(self) -> int:
        """What to commit when all of the batch is done."""
        return self.records[-1].offset + 1


class PartitionLost(Aborted):
    """Another member owns the partition now: what was taken from it is that member's work."""


class Consumer(Protocol):
    """One member of a consumer group.

    A partition has at most one batch out: `next_batch` gives no more of it until `finish`. So a
    batch whose effect has to wait pauses its own partition only, and what is in memory is bounded.
    """

    async def next_batch(self) -> Batch:
        """Wait for records of a partition this member owns; an outage only makes it wait longer.

        May be cancelled without losing a batch.
        """
        ...

    async def commit(self, batch: Batch, next_offset: int) -> None:
        """Store that the group is done with everything before `next_offset`.

        Raises PartitionLost when the partition has gone to another member, Unavailable.
        """
        ...

    def finish(self, batch: Batch) -> None:
        """Let the partition go on, from what was committed: the rest of the batch comes again."""
        ...

    def is_current(self, batch: Batch) -> bool:
        """Whether the partition is still this member's and nobody waits for it."""
        ...


class Publisher(Protocol):
    """The half of a bus that takes records."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Append the records in order; returns when they are durable.

        Raises InvalidArgument for a record the bus can never take, Unavailable when it cannot say
        that the records are durable: they may be, so a repeat may double them.
        """
        ...


class Bus(Publisher, Protocol):
    """A bus; at-least-once for consumers, best effort for tails."""

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        max_batch: int = MAX_BATCH,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> AbstractAsyncContextManager[Consumer]:
        """Join a group, which begins with the oldest record kept; leaves it after the block."""
        ...

    def tail(
        self, topics: Sequence[str], *, max_waiting: int = MAX_TAIL_WAITING
    ) -> AbstractAsyncContextManager[AsyncIterator[Received]]:
        """Every record published from here on, to every tail.

        A reader who is more than `max_waiting` records behind loses the oldest of them.
        """
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """How many records of the topics the group has not committed; raises Unavailable."""
        ...
