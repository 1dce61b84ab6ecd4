"""WebChat over HTTP: open, post, history, and the stream of what happens.

Decides nothing but where an idempotency key may be; the rest is the channels service's word.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core.errors import InvalidArgument
from fased.wire.plain import plain
from services.gateway.bodies import (
    NewConversation,
    NewMessage,
    Page,
    StreamQuery,
    read_body,
    read_query,
)
from services.gateway.calls import asking
from services.gateway.stream import sequence_after, server_sent_events

COLLECTION = "conversations"


async def open_conversation(request: Request) -> Response:
    """The conversation of an Agent and session."""
    ask, body = await asking(request), await read_body(request, NewConversation)
    message = pb.OpenConversationRequest(
        parent=ask.parent, agent_id=body.agent_id, session_key=body.session_key
    )
    opened = await ask.call(ask.services.conversations.OpenConversation, message)
    return JSONResponse(plain(opened))


async def post_message(request: Request) -> Response:
    """Take a message; a repeat with the same key answers with the first."""
    ask, body = await asking(request), await read_body(request, NewMessage)
    key = request.headers.get("idempotency-key", "")
    if key and body.message_id and key != body.message_id:
        raise InvalidArgument(
            "message_id and the Idempotency-Key header differ",
            reason="INVALID_MESSAGE_ID",
            metadata={"field": "message_id"},
        )
    subject = ask.caller.subject
    message = pb.PostMessageRequest(
        name=ask.name(COLLECTION, "conversation"),
        message_id=body.message_id or key,
        text=body.text,
        reply_to_id=body.reply_to_id,
        sender=message_pb2.Sender(
            id=subject, display_name=body.sender_name or subject.rpartition("/")[2]
        ),
    )
    posted = await ask.call(ask.services.conversations.PostMessage, message)
    return JSONResponse(plain(posted), 201)


async def list_events(request: Request) -> Response:
    """A page of stored events, the last page first."""
    ask, page = await asking(request), read_query(request, Page)
    message = pb.ListEventsRequest(
        name=ask.name(COLLECTION, "conversation"),
        page_size=page.page_size,
        page_token=page.page_token,
    )
    listed = await ask.call(ask.services.conversations.ListEvents, message)
    return JSONResponse(plain(listed))


async def stream_events(request: Request) -> Response:
    """Stored events after a sequence, then what happens, until either side goes."""
    ask = await asking(request)
    after = sequence_after(request, read_query(request, StreamQuery).after)
    name = ask.name(COLLECTION, "conversation")
    last = await ask.call(
        ask.services.conversations.ListEvents, pb.ListEventsRequest(name=name, page_size=1)
    )
    if after > (last.events[-1].sequence if last.events else 0):
        raise InvalidArgument(
            "the conversation has not come that far",
            reason="INVALID_SEQUENCE",
            metadata={"field": "after"},
        )
    events = server_sent_events(ask, name, after)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


_CONVERSATIONS = "/api/v1/namespaces/{namespace}/conversations"
ROUTES = (
    Route(_CONVERSATIONS, open_conversation, methods=["POST"]),
    Route(f"{_CONVERSATIONS}/{{conversation}}/messages", post_message, methods=["POST"]),
    Route(f"{_CONVERSATIONS}/{{conversation}}/events", list_events, methods=["GET"]),
    Route(f"{_CONVERSATIONS}/{{conversation}}/stream", stream_events, methods=["GET"]),
)
