"""Tails: one reader of the log a process, handed out to every follower. Loss is allowed here.

Decides what a slow follower loses (its oldest records) and when the reader runs (while anybody
follows).
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from fased.bus import pglog_access
from fased.bus.port import Received
from fased.store import notify, transient
from fased.store.buslog import Partition, Position

READ_LIMIT = 500

logger = structlog.get_logger(__name__)

Read = Callable[[Sequence[Position], int], Awaitable[list[Received]]]


class Subscription:
    """The records of one follower, as an endless iterator."""

    def __init__(self, starts: dict[Partition, int], max_waiting: int) -> None:
        self.starts = starts
        self._waiting: deque[Received] = deque(maxlen=max_waiting)
        self._arrived = asyncio.Event()

    def offer(self, record: Received) -> None:
        """Keep the record if it was published after the subscription began."""
        start = self.starts.get(Partition(record.topic, record.partition))
        if start is not None and record.offset >= start:
            self._waiting.append(record)
            self._arrived.set()

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


class Tails:
    """The followers of one process and the reader they share."""

    def __init__(self, read: Read, hints: notify.Hints, *, poll_s: float) -> None:
        self._read = read
        self._hints = hints
        self._poll_s = poll_s
        self._followers: set[Subscription] = set()
        self._positions: dict[Partition, int] = {}
        self._stirred = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(
        self, ends: Sequence[Position], max_waiting: int
    ) -> AsyncIterator[Subscription]:
        """Follow partitions from where they ended; `ends` names them all."""
        starts = {Partition(end.topic, end.partition): end.next_offset for end in ends}
        subscription = Subscription(starts, max_waiting)
        async with AsyncExitStack() as stack:
            for name in {pglog_access.hint_name(end.topic) for end in ends}:
                stack.enter_context(self._hints.listen(self._stirred.set, name))
            self._followers.add(subscription)
            stack.push_async_callback(self._forget, subscription)
            for partition, start in starts.items():
                self._positions.setdefault(partition, start)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read_on(), name="bus-tails")
            self._stirred.set()
            yield subscription

    async def _forget(self, subscription: Subscription) -> None:
        self._followers.discard(subscription)
        followed = {each for follower in self._followers for each in follower.starts}
        self._positions = {p: at for p, at in self._positions.items() if p in followed}
        if not self._followers and self._reader is not None:
            reader, self._reader = self._reader, None
            reader.cancel()
            await asyncio.wait({reader})
            if not reader.cancelled():
                reader.result()

    async def _read_on(self) -> None:
        while True:
            await notify.wait(self._stirred, self._poll_s * random.uniform(1, 2))
            try:
                while await self._hand_out():
                    pass
            except transient.DRIVER_ERRORS as exc:
                if not transient.is_transient(exc):
                    raise
                logger.warning("bus_tail_waits", error=type(exc).__name__)

    async def _hand_out(self) -> bool:
        """Read once and hand out; says whether more may be there."""
        positions = [Position(*partition, at) for partition, at in self._positions.items()]
        records = await self._read(positions, READ_LIMIT)
        for record in records:
            partition = Partition(record.topic, record.partition)
            if partition in self._positions:
                self._positions[partition] = record.offset + 1
            for follower in self._followers:
                follower.offer(record)
        return len(records) >= READ_LIMIT
