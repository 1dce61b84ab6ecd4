"""`fased chat`: WebChat in a terminal. Decides when to send, wait and end; what is printed of an
event is decided in `chat_screen.py`.
"""

import asyncio
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import connection
from cli.chat_screen import Screen
from cli.connection import Connection
from cli.options import Format
from cli.output import clean, note, show
from cli.plain import plain
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc, conversation_pb2
from fased.api.types.v1 import message_pb2
from fased.core.errors import DeadlineExceeded, FasedError, Unavailable

if TYPE_CHECKING:
    # Named in the stubs' type file only.
    from fased.api.channels.v1.channels_service_pb2_grpc import ConversationServiceAsyncStub

HISTORY_EVENTS = 100
HISTORY_LINES = 10
RECONNECT_PERIOD_S = 1.0
# How long what was sent may still be answered after the input ended.
LAST_WAIT_S = 60.0

Event = conversation_pb2.ConversationEvent


@dataclass(frozen=True, slots=True)
class Place:
    """Which conversation: an empty Agent is the default one, an empty session its main one."""

    namespace: str
    agent: str
    session: str


def chat(place: Place, message: str | None, *, wait_s: float, output: Format) -> None:
    """Converse until the input ends or, given a message, until that is answered.

    Raises FasedError with the failure's text when there is no answer, DeadlineExceeded when it
    takes longer than `wait_s` seconds.
    """
    if message is None:
        connection.run(place.namespace, lambda to: _Conversation(to).converse(place))
        return
    said = connection.run(
        place.namespace, lambda to: _Conversation(to).ask(place, message, wait_s)
    )
    show(output, {"answers": [plain(event) for event in said]}, *(event.text for event in said))


class _Conversation:
    """A conversation over one connection; it knows how far it was read and what waits."""

    def __init__(self, to: Connection) -> None:
        self._parent = to.parent
        self._stub = _stub(to)
        self._name = ""
        self._sequence = 0
        self._waiting: set[str] = set()
        self._settled = asyncio.Event()

    async def ask(self, place: Place, text: str, wait_s: float) -> list[Event]:
        """Post `text` and give what was said to it, once that is all."""
        await self._open(place)
        said: list[Event] = []
        message_id = await self._post(text)
        try:
            async with asyncio.timeout(wait_s):
                async for event in self._events():
                    if event.post_id != message_id:
                        continue
                    if event.kind == conversation_pb2.CONVERSATION_EVENT_KIND_SAID:
                        said.append(event)
                    if said and event.post_state in _ENDS:
                        break
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"no answer within {wait_s:g} s; it may still come",
                reason="NO_ANSWER_YET",
                metadata={"next": "see it with fased chat, or give a longer --wait"},
            ) from exc
        failed = [each for each in said if each.message_kind == message_pb2.MESSAGE_KIND_FAILURE]
        if failed and len(failed) == len(said):
            raise FasedError(failed[0].text, reason="RUN_FAILED")
        return said
