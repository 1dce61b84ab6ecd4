"""WebChat: conversations, what happens in them, and where a person's message stands.

Decides what may be posted and how a post's state moves; not ids, sequences or times.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from fased.core.errors import InvalidArgument
from fased.core.messages import (
    Attachment,
    InboundEvent,
    MessageKind,
    Peer,
    PeerKind,
    ReplyTo,
    Sender,
    Target,
)
from fased.core.names import (
    DEFAULT_ACCOUNT,
    AccountId,
    AgentId,
    ChannelId,
    Namespace,
    RunId,
    SessionKey,
)

WEBCHAT = ChannelId("webchat")
WEBCHAT_ACCOUNT: AccountId = DEFAULT_ACCOUNT
MAX_MESSAGE_ID_CHARS = 64
MAX_TEXT_CHARS = 32_000


class EventKind(StrEnum):
    """What happened in a conversation. A partial is never stored."""

    POSTED = "posted"
    SAID = "said"
    STATE = "state"
    PARTIAL = "partial"


class PostState(StrEnum):
    """Where a person's message stands."""

    QUEUED = "queued"
    THINKING = "thinking"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A WebChat chat, attached to an Agent and session. Its id is the peer's id as text."""

    namespace: Namespace
    id: UUID
    agent_id: AgentId
    session_key: SessionKey
    last_sequence: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ConversationEvent:
    """One thing that happened. `sequence` grows by one in a conversation; 0 is not stored.

    `message_id` is the post's or the delivery's; `post_id` the post that it is about or answers.
    """

    sequence: int
    kind: EventKind
    message_id: str
    created_at: datetime
    text: str = ""
    message_kind: MessageKind | None = None
    post_state: PostState | None = None
    post_id: str = ""
    agent_id: str = ""
    run_id: RunId | None = None
    reply_to_id: str = ""
    sender: Sender | None = None


def check_post(message_id: str, text: str) -> None:
    """Raise InvalidArgument unless this may be posted: an id of 1 to 64, a text of 1 to 32,000."""
    if not 1 <= len(message_id) <= MAX_MESSAGE_ID_CHARS or not message_id.isprintable():
        raise InvalidArgument(
            f"message_id has 1 to {MAX_MESSAGE_ID_CHARS} printable characters",
            reason="INVALID_MESSAGE_ID",
            metadata={"field": "message_id"},
        )
    if not text.strip() or len(text) > MAX_TEXT_CHARS or "\0" in text:
        raise InvalidArgument(
            f"text has 1 to {MAX_TEXT_CHARS:,} characters, not only blanks and none of them NUL",
            reason="INVALID_TEXT",
            metadata={"field": "text"},
        )


def next_post_state(current: PostState, said: MessageKind | None) -> PostState | None:
    """The state after something was `said` about a post, or after its run started (None).

    None where nothing changes: a start that comes late, or a failure after an answer (several
    Agents may answer one message). A retried run may still answer what had failed.
    """
    if said is None:
        wanted = PostState.THINKING if current is PostState.QUEUED else current
    elif said is MessageKind.FAILURE:
        wanted = current if current is PostState.ANSWERED else PostState.FAILED
    else:
        wanted = PostState.ANSWERED
    return None if wanted is current else wanted


def inbound_event(
    conversation: Conversation,
    message_id: str,
    text: str,
    sender: Sender,
    received_at: datetime,
    reply_to: ReplyTo | None,
) -> InboundEvent:
    """What a post is to the router: the peer is the conversation, attached to what was picked."""
    return InboundEvent(
        event_id=event_id_of(conversation.namespace, conversation.id, message_id),
        namespace=conversation.namespace,
        channel=WEBCHAT,
        account_id=WEBCHAT_ACCOUNT,
        peer=Peer(PeerKind.DIRECT, str(conversation.id)),
        sender=sender,
        text=text,
        received_at=received_at,
        reply_to=reply_to,
        attached=Attachment(conversation.agent_id, conversation.session_key),
        native_id=message_id,
    )


def event_id_of(namespace: Namespace, conversation_id: UUID, message_id: str) -> str:
    """The inbound event's id of a post (design §5)."""
    return f"{namespace}:{WEBCHAT}:{WEBCHAT_ACCOUNT}:{conversation_id}/{message_id}"


def post_id_of(namespace: Namespace, conversation_id: UUID, event_id: str) -> str:
    """The message id of the post with this event id; `""` for an event from elsewhere."""
    prefix = event_id_of(namespace, conversation_id, "")
    return event_id[len(prefix) :] if event_id.startswith(prefix) else ""


def conversation_id_of(target: Target) -> UUID | None:
    """The conversation that a WebChat target means; None when its peer is not the id of one."""
    try:
        return UUID(target.peer.id)
    except ValueError:
        return None
