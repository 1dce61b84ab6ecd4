"""WebChat: its platform is our own tables, so that what is said is delivered when it is stored.

Decides nothing itself (`core/conversations.py`, `core/delivery.py`).
"""

from fased.core import delivery
from fased.core.conversations import (
    WEBCHAT,
    Conversation,
    EventKind,
    conversation_id_of,
    next_post_state,
    post_id_of,
)
from fased.core.delivery import Outcome
from fased.core.messages import OutboundMessage
from fased.core.names import ChannelId
from fased.store.channels import conversations
from fased.store.database import Connection
from services.channels.watchers import hint_name


class WebChat:
    """See `port.Adapter`."""

    @property
    def channel(self) -> ChannelId:
        """`webchat`."""
        return WEBCHAT

    async def accept(self, conn: Connection, message: OutboundMessage) -> Outcome:
        """Say it in its conversation; the receipt is the event's sequence."""
        conversation = await _conversation(conn, message)
        if conversation is None:
            return delivery.refused(
                "CHAT_NOT_FOUND", "There is no such conversation.", (message.text,)
            )
        post_id = post_id_of(conversation.namespace, conversation.id, message.event_id)
        said = await conversations.append(
            conn,
            conversation,
            EventKind.SAID,
            message.id,
            text=message.text,
            message_kind=message.kind,
            post_id=post_id,
            agent_id=message.agent_id,
            run_id=message.run_id,
        )
        current = post_id and await conversations.post_state(conn, conversation, post_id)
        if current and (state := next_post_state(current, message.kind)):
            await conversations.set_post_state(conn, conversation, post_id, state, message.run_id)
        return delivery.sent((str(said.sequence),))

    def hint(self, message: OutboundMessage) -> str:
        """Wakes who watches the conversation."""
        return hint_name(message.namespace, message.target.peer.id)


async def _conversation(conn: Connection, message: OutboundMessage) -> Conversation | None:
    conversation_id = conversation_id_of(message.target)
    if conversation_id is None:
        return None
    return await conversations.lock(conn, message.namespace, conversation_id)
