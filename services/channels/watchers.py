"""Who watches which conversation in this process, and what wakes them.

Decides waking and which partial answers are kept for a slow reader; what is stored is read from
the rows. A hint makes waking quick, a poll makes it sure.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from fased.core.conversations import ConversationEvent
from fased.core.names import Namespace
from fased.process import wait_or_stop
from fased.store import transient
from fased.store.channels import conversations
from fased.store.database import Database
from fased.store.notify import Hints

POLL_S = 2.0
MAX_PARTIALS = 8

logger = structlog.get_logger(__name__)


def hint_name(namespace: Namespace, conversation_id: UUID | str) -> str:
    """The hint that a conversation has new events."""
    return f"conversation/{namespace}/{conversation_id}"


class Watcher:
    """One reader of a conversation. `sequence` is how far it has read."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.is_closed = False
        self._woken = asyncio.Event()
        self._partials: dict[int, ConversationEvent] = {}

    async def woken(self) -> None:
        """Wait until there may be something new, or the end."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """Let it look again."""
        self._woken.set()

    def close(self) -> None:
        """Let it end."""
        self.is_closed = True
        self.wake()

    def offer(self, partial: ConversationEvent) -> None:
        """Show an answer so far: the latest of each run is kept, the oldest run's is dropped."""
        run_id = partial.run_id or 0
        self._partials.pop(run_id, None)
        if len(self._partials) >= MAX_PARTIALS:
            del self._partials[next(iter(self._partials))]
        self._partials[run_id] = partial
        self.wake()

    def take_partials(self) -> list[ConversationEvent]:
        """The answers so far that were not shown yet."""
        taken = list(self._partials.values())
        self._partials.clear()
        return taken


class Watchers:
    """The readers of this process."""

    def __init__(self, database: Database, hints: Hints) -> None:
        self._database = database
        self._hints = hints
        self._readers: dict[tuple[Namespace, UUID], set[Watcher]] = {}
        self._is_closed = False

    @contextmanager
    def watch(
        self, namespace: Namespace, conversation_id: UUID, sequence: int
    ) -> Iterator[Watcher]:
        """A watcher that is woken while the block runs."""
        watcher, place = Watcher(sequence), (namespace, conversation_id)
        watcher.is_closed = self._is_closed
        self._readers.setdefault(place, set()).add(watcher)
        try:
            with self._hints.listen(watcher.wake, hint_name(*place)):
                yield watcher
        finally:
            self._readers[place].discard(watcher)
            if not self._readers[place]:
                del self._readers[place]

    def offer(
        self, namespace: Namespace, conversation_id: UUID, partial: ConversationEvent
    ) -> None:
        """Show an answer so far to everyone who watches the conversation here."""
        for watcher in self._readers.get((namespace, conversation_id), ()):
            watcher.offer(partial)

    async def poll_until(self, stop: asyncio.Event) -> None:
        """Wake whom a hint did not reach; at `stop`, end all watches."""
        while not await wait_or_stop(stop, POLL_S * random.uniform(0.75, 1.25)):
            try:
                await self._wake_behind()
            except transient.DRIVER_ERRORS as exc:
                logger.warning("watchers_poll_failed", error=type(exc).__name__)
        self._is_closed = True
        for watchers in self._readers.values():
            for watcher in watchers:
                watcher.close()

    async def _wake_behind(self) -> None:
        if not self._readers:
            return
        async with self._database.queue.acquire() as conn:
            last = await conversations.last_sequences(conn, list(self._readers))
        for place, sequence in last.items():
            for watcher in self._readers.get(place, ()):
                if watcher.sequence < sequence:
                    watcher.wake()
