"""ConversationService: WebChat over gRPC. Decides nothing itself (`core/conversations.py`)."""

import uuid
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc
from fased.bus import topics
from fased.core.access import Role
from fased.core.conversations import (
    WEBCHAT,
    WEBCHAT_ACCOUNT,
    Conversation,
    ConversationEvent,
    EventKind,
    PostState,
    check_post,
    inbound_event,
)
from fased.core.errors import AlreadyExists, InvalidArgument, NotFound
from fased.core.events import OutboxEvent
from fased.core.messages import ReplyTo, Sender, bus_key
from fased.core.names import Namespace, parse_parent, parse_resource_name
from fased.process import Host
from fased.rpc import paging
from fased.rpc.interceptors import current_caller
from fased.store import outbox
from fased.store.channels import accounts, conversations
from fased.store.database import Connection
from fased.wire.conversations import conversation_to_pb, event_to_pb
from fased.wire.messages import inbound_to_pb, sender_from_pb
from services.channels.attachments import Attachments
from services.channels.watchers import Watcher, Watchers, hint_name

COLLECTION = "conversations"
SCHEMA = "channels"
WATCH_PAGE = 200
# Ids of conversations are made from what they are attached to, so that opening twice is opening.
_IDS = UUID("5b0cbb1c-5f2e-5c1f-9d0d-3f2f6e6a7c11")


class ConversationServicer(channels_service_pb2_grpc.ConversationServiceServicer):
    """Conversations over gRPC."""

    def __init__(self, host: Host, watchers: Watchers) -> None:
        self._host = host
        self._pool = host.database.queue
        self._attachments = Attachments(host)
        self._watchers = watchers

    async def OpenConversation(
        self, request: pb.OpenConversationRequest, context: Any
    ) -> pb.OpenConversationResponse:
        """The conversation of an Agent and session, made when there is none."""
        namespace = parse_parent(request.parent)
        agent_id, session_key = await self._attachments.resolve(
            namespace, request.agent_id, request.session_key
        )
        conversation_id = uuid.uuid5(_IDS, f"{namespace}/{agent_id}/{session_key}")
        async with self._pool.acquire() as conn, conn.transaction():
            await accounts.ensure(conn, namespace, WEBCHAT, WEBCHAT_ACCOUNT)
            opened = await conversations.open_(
                conn, namespace, conversation_id, agent_id, session_key
            )
        return pb.OpenConversationResponse(conversation=conversation_to_pb(opened))

    async def PostMessage(
        self, request: pb.PostMessageRequest, context: Any
    ) -> pb.PostMessageResponse:
        """Store a message together with its event for the bus, so that no kill parts them."""
        namespace, conversation_id = _parse(request.name)
        check_post(request.message_id, request.text)
        async with self._pool.acquire() as conn, conn.transaction():
            conversation = await conversations.lock(conn, namespace, conversation_id)
            if conversation is None:
                raise _no_conversation(conversation_id)
            posted = await conversations.find_post(conn, conversation, request.message_id)
            if posted is None:
                posted = await _post(conn, conversation, request)
            elif posted.text != request.text:
                raise AlreadyExists(
                    f"message id {request.message_id} was used for another text",
                    reason="MESSAGE_ID_USED",
                    metadata={"field": "message_id"},
                )
        self._host.hints.send(outbox.hint_name(SCHEMA), hint_name(namespace, conversation_id))
        return pb.PostMessageResponse(event=event_to_pb(posted))

    async def ListEvents(
        self, request: pb.ListEventsRequest, context: Any
    ) -> pb.ListEventsResponse:
        """A page of events, the last page first."""
        namespace, conversation_id = _parse(request.name)
        size, query = paging.page_size(request.page_size), {"events": request.name}
        before = paging.decode(request.page_token, query) or [None]
        async with self._pool.acquire() as conn:
            await _existing(conn, namespace, conversation_id)
            events = await conversations.events_before(
                conn, namespace, conversation_id, before[0], size + 1
            )
        page = events[-size:]
        token = paging.encode([page[0].sequence], query) if len(events) > size else ""
        return pb.ListEventsResponse(
            events=[event_to_pb(event) for event in page], next_page_token=token
        )

    async def WatchConversation(
        self, request: pb.WatchConversationRequest, context: Any
    ) -> AsyncIterator[pb.WatchConversationResponse]:
        """Stored events after a sequence, then what happens from now on."""
        namespace, conversation_id = _parse(request.name)
        async with self._pool.acquire() as conn:
            conversation = await _existing(conn, namespace, conversation_id)
        if not 0 <= request.after_sequence <= conversation.last_sequence:
            raise InvalidArgument(
                f"after_sequence is between 0 and {conversation.last_sequence}",
                reason="INVALID_SEQUENCE",
                metadata={"field": "after_sequence"},
            )
        with self._watchers.watch(namespace, conversation_id, request.after_sequence) as watcher:
            async for event in self._follow(namespace, conversation_id, watcher):
                yield pb.WatchConversationResponse(event=event_to_pb(event))

    async def _follow(
        self, namespace: Namespace, conversation_id: UUID, watcher: Watcher
    ) -> AsyncIterator[ConversationEvent]:
        while not watcher.is_closed:
            async with self._pool.acquire() as conn:
                events = await conversations.events_after(
                    conn, namespace, conversation_id, watcher.sequence, WATCH_PAGE
                )
            for event in events:
                watcher.sequence = event.sequence
                yield event
            if len(events) < WATCH_PAGE:
                for partial in watcher.take_partials():
                    yield partial
                await watcher.woken()


async def _post(
    conn: Connection, conversation: Conversation, request: pb.PostMessageRequest
) -> ConversationEvent:
    reply_to = await _quoted(conn, conversation, request.reply_to_id)
    sender = _sender(request)
    posted = await conversations.append(
        conn,
        conversation,
        EventKind.POSTED,
        request.message_id,
        text=request.text,
        post_state=PostState.QUEUED,
        post_id=request.message_id,
        reply_to_id=request.reply_to_id,
        sender=sender,
    )
    await conversations.add_post(conn, conversation, posted)
    event = inbound_event(
        conversation, posted.message_id, posted.text, sender, posted.created_at, reply_to
    )
    key = bus_key(event.namespace, event.channel, event.account_id, event.peer)
    value = inbound_to_pb(event).SerializeToString()
    await outbox.insert(conn, SCHEMA, [OutboxEvent(topics.INBOUND, key, event.event_id, value)])
    return posted


async def _quoted(conn: Connection, conversation: Conversation, message_id: str) -> ReplyTo | None:
    if not message_id:
        return None
    quoted = await conversations.find_message(conn, conversation, message_id)
    if quoted is None:
        raise InvalidArgument(
            f"there is no message {message_id[:80]} in this conversation to reply to",
            reason="REPLY_TO_MISSING",
            metadata={"field": "reply_to_id"},
        )
    sender = quoted.sender
    name = (sender.display_name or sender.id) if sender else quoted.agent_id
    return ReplyTo(message_id, quoted.text, name)


def _sender(request: pb.PostMessageRequest) -> Sender:
    """Who writes: the caller's own id, however the request spells the name."""
    given, caller = sender_from_pb(request.sender), current_caller()
    sender_id = given.id if caller.role is Role.SERVICE and given.id else caller.subject
    return Sender(sender_id, given.display_name)


async def _existing(conn: Connection, namespace: Namespace, conversation_id: UUID) -> Conversation:
    conversation = await conversations.get(conn, namespace, conversation_id)
    if conversation is None:
        raise _no_conversation(conversation_id)
    return conversation


def _parse(name: str) -> tuple[Namespace, UUID]:
    namespace, text = parse_resource_name(name, COLLECTION)
    try:
        return namespace, UUID(text)
    except ValueError:
        raise _no_conversation(text) from None


def _no_conversation(conversation_id: UUID | str) -> NotFound:
    return NotFound(
        f"there is no conversation {str(conversation_id)[:80]}", reason="CONVERSATION_MISSING"
    )
