"""WebChat conversations and events between core and protobuf; nothing else."""

from fased.api.channels.v1 import conversation_pb2
from fased.api.types.v1 import message_pb2
from fased.core.conversations import Conversation, ConversationEvent, EventKind, PostState
from fased.core.names import resource_name
from fased.wire.messages import message_kind_to_pb, sender_to_pb
from fased.wire.times import to_timestamp

_KINDS = {
    EventKind.POSTED: conversation_pb2.CONVERSATION_EVENT_KIND_POSTED,
    EventKind.SAID: conversation_pb2.CONVERSATION_EVENT_KIND_SAID,
    EventKind.STATE: conversation_pb2.CONVERSATION_EVENT_KIND_STATE,
    EventKind.PARTIAL: conversation_pb2.CONVERSATION_EVENT_KIND_PARTIAL,
}
_STATES = {
    PostState.QUEUED: conversation_pb2.POST_STATE_QUEUED,
    PostState.THINKING: conversation_pb2.POST_STATE_THINKING,
    PostState.ANSWERED: conversation_pb2.POST_STATE_ANSWERED,
    PostState.FAILED: conversation_pb2.POST_STATE_FAILED,
}


def conversation_to_pb(conversation: Conversation) -> conversation_pb2.Conversation:
    """A conversation."""
    return conversation_pb2.Conversation(
        name=resource_name(conversation.namespace, "conversations", str(conversation.id)),
        agent_id=conversation.agent_id,
        session_key=conversation.session_key,
        last_sequence=conversation.last_sequence,
        create_time=to_timestamp(conversation.created_at),
    )


def event_to_pb(event: ConversationEvent) -> conversation_pb2.ConversationEvent:
    """One event, stored or not."""
    return conversation_pb2.ConversationEvent(
        sequence=event.sequence,
        kind=_KINDS[event.kind],
        message_id=event.message_id,
        text=event.text,
        message_kind=message_kind_to_pb(event.message_kind)
        if event.message_kind
        else message_pb2.MESSAGE_KIND_UNSPECIFIED,
        post_state=_STATES[event.post_state]
        if event.post_state
        else conversation_pb2.POST_STATE_UNSPECIFIED,
        post_id=event.post_id,
        agent_id=event.agent_id,
        run_id=event.run_id or 0,
        create_time=to_timestamp(event.created_at),
        reply_to_id=event.reply_to_id,
        sender=sender_to_pb(event.sender) if event.sender else None,
    )
