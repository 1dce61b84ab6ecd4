"""A channel as deliveries see it. Decides the contract; each adapter is a file of its own."""

from typing import Protocol

from fased.core.delivery import CallResult, Chunk, Outcome
from fased.core.messages import OutboundMessage, Target
from fased.core.names import ChannelId
from fased.store.database import Connection


class Adapter(Protocol):
    """One kind of channel."""

    @property
    def channel(self) -> ChannelId:
        """The channel whose messages it takes."""
        ...

    async def accept(self, conn: Connection, message: OutboundMessage) -> Outcome:
        """What becomes of a message as it is taken in, inside the transaction that stores it.

        An adapter whose platform is these tables says it there: SENT. One that must call a
        platform answers PENDING with its chunks, and sends them after the commit.
        """
        ...

    def hint(self, message: OutboundMessage) -> str:
        """The hint to send after the commit."""
        ...


class Line(Protocol):
    """A platform as one account writes to it."""

    async def send(self, target: Target, chunk: Chunk, not_after: float) -> CallResult:
        """Send one chunk as one message, and say what came of it. Bounded in time.

        After `not_after` (of `time.monotonic()`) nothing is sent: a process that stood still would
        say it after what others said meanwhile.
        """
        ...
