"""`fased chat`: WebChat in a terminal. Decides when to send, wait and end; what of an event is
printed is decided in `chat_screen.py`.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import chat_input, connection, failures
from cli.chat_screen import Screen
from cli.connection import Connection
from cli.options import Format
from cli.output import note, show
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc, conversation_pb2
from fased.api.types.v1 import message_pb2
from fased.core.errors import DeadlineExceeded, FasedError, Unavailable
from fased.wire.plain import plain

if TYPE_CHECKING:
    # Named in the stubs' type file only.
    from fased.api.channels.v1.channels_service_pb2_grpc import ConversationServiceAsyncStub

HISTORY_EVENTS = 100
HISTORY_LINES = 10
RECONNECT_PERIOD_S = 1.0
RECONNECT_TRIES = 30
# How long what was sent may still be answered after a file or pipe has ended.
LAST_WAIT_S = 60.0

SAID = conversation_pb2.CONVERSATION_EVENT_KIND_SAID
ENDS = (conversation_pb2.POST_STATE_ANSWERED, conversation_pb2.POST_STATE_FAILED)

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
        connection.run(place.namespace, lambda to: _converse(to, place))
        return
    said = connection.run(place.namespace, lambda to: _ask(to, place, message, wait_s))
    show(output, {"answers": [plain(event) for event in said]}, *(event.text for event in said))


class _Conversation:
    """An open conversation. It knows how far it was read and which posts wait for their end."""

    def __init__(
        self, stub: "ConversationServiceAsyncStub", opened: conversation_pb2.Conversation
    ) -> None:
        self.name = opened.name
        self.agent_id = opened.agent_id
        self.waiting: set[str] = set()
        self.settled = asyncio.Event()
        self._stub = stub
        self._sequence = opened.last_sequence

    async def history(self) -> list[Event]:
        """The last events before those that `events` gives."""
        request = pb.ListEventsRequest(name=self.name, page_size=HISTORY_EVENTS)
        listed = await self._stub.ListEvents(request)
        return [event for event in listed.events if event.sequence <= self._sequence]

    async def post(self, message_id: str, text: str) -> None:
        """Post a text; where the answer is lost, again under the same id, which has one effect."""
        self.waiting.add(message_id)
        request = pb.PostMessageRequest(name=self.name, message_id=message_id, text=text)
        tries = 0
        while True:
            try:
                await self._stub.PostMessage(request)
                return
            except FasedError as error:
                tries += 1
                if not await _may_retry(error, tries):
                    self._settle(message_id)
                    raise

    async def events(self) -> AsyncIterator[Event]:
        """What happens, from now on and across lost connections; a stored event comes once."""
        tries = 0
        while True:
            request = pb.WatchConversationRequest(name=self.name, after_sequence=self._sequence)
            try:
                async for response in self._stub.WatchConversation(request):
                    tries = 0
                    self._sequence = max(self._sequence, response.event.sequence)
                    yield response.event
                    if response.event.post_state in ENDS:
                        self._settle(response.event.post_id)
                # A stream ends without an error when its service stops.
                lost = Unavailable("the conversation's stream ended", reason="UNAVAILABLE")
            except Unavailable as error:
                lost = error
            tries += 1
            if not await _may_retry(lost, tries):
                raise lost

    def _settle(self, message_id: str) -> None:
        self.waiting.discard(message_id)
        if not self.waiting:
            self.settled.set()


async def _ask(to: Connection, place: Place, text: str, wait_s: float) -> list[Event]:
    """Post `text` and give what was said to it, once it is answered."""
    conversation = await _open(to, place)
    message_id = _new_message_id()
    said: list[Event] = []
    try:
        async with asyncio.timeout(wait_s):
            await conversation.post(message_id, text)
            async for event in conversation.events():
                if event.post_id != message_id:
                    continue
                if event.kind == SAID:
                    said.append(event)
                if event.post_state in ENDS:
                    break
    except TimeoutError as exc:
        raise DeadlineExceeded(
            f"no answer within {wait_s:g} s; it may still come",
            reason="NO_ANSWER_YET",
            metadata={"next": "see it with fased chat, or give a longer --wait"},
        ) from exc
    if said and all(each.message_kind == message_pb2.MESSAGE_KIND_FAILURE for each in said):
        raise FasedError(said[-1].text, reason="RUN_FAILED")
    return said


async def _converse(to: Connection, place: Place) -> None:
    conversation = await _open(to, place)
    screen = Screen(sys.stdout, conversation.agent_id)
    screen.show_history(await conversation.history(), HISTORY_LINES)
    reading = asyncio.create_task(_read(conversation, screen))
    watching = asyncio.create_task(_watch(conversation, screen))
    try:
        done, _ = await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, watching):
            task.cancel()
        await asyncio.gather(reading, watching, return_exceptions=True)
        screen.leave()
    for task in done:
        task.result()


async def _read(conversation: _Conversation, screen: Screen) -> None:
    """Post what is typed, line by line, until the input ends."""
    screen.prompt()
    async for line in chat_input.lines():
        if line.strip():
            message_id = _new_message_id()
            # Before it is posted: its event may be here before the answer is.
            screen.own.add(message_id)
            try:
                await conversation.post(message_id, line)
            except FasedError as error:
                if connection.is_lost(error):
                    raise
                note(failures.one_line(error))
        screen.prompt()
    if conversation.waiting and not sys.stdin.isatty():
        conversation.settled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WAIT_S):
                await conversation.settled.wait()


async def _watch(conversation: _Conversation, screen: Screen) -> None:
    async for event in conversation.events():
        screen.show(event)


async def _open(to: Connection, place: Place) -> _Conversation:
    stub = channels_service_pb2_grpc.ConversationServiceStub(to.channel)
    request = pb.OpenConversationRequest(
        parent=to.parent, agent_id=place.agent, session_key=place.session
    )
    return _Conversation(stub, (await stub.OpenConversation(request)).conversation)


def _new_message_id() -> str:
    return uuid.uuid4().hex


async def _may_retry(error: FasedError, tries: int) -> bool:
    """Whether the connection was lost and may come back; waits a little when so."""
    if not connection.is_lost(error) or tries > RECONNECT_TRIES:
        return False
    await asyncio.sleep(RECONNECT_PERIOD_S)
    return True
