"""Conversations, their events and posts in rows. Functions take an asyncpg connection; the caller
owns the transaction.

Who changes a conversation holds its row (`lock`) first: sequences have no gap and commit in order.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from fased.core.conversations import Conversation, ConversationEvent, EventKind, PostState
from fased.core.messages import MessageKind, Sender
from fased.core.names import AgentId, Namespace, RunId, SessionKey
from fased.store.database import Connection

_CONVERSATION = "id, namespace, agent_id, session_key, last_sequence, created_at"
_EVENT = (
    "sequence, kind, message_id, text, message_kind, post_state, post_id, agent_id, run_id,"
    " reply_to_id, sender_id, sender_name, created_at"
)


async def open_(
    conn: Connection,
    namespace: Namespace,
    conversation_id: UUID,
    agent_id: AgentId,
    session_key: SessionKey,
) -> Conversation:
    """The conversation with this id, made when there is none."""
    await conn.execute(
        """INSERT INTO channels.conversation (namespace, id, agent_id, session_key)
           VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING""",
        namespace,
        conversation_id,
        agent_id,
        session_key,
    )
    opened = await get(conn, namespace, conversation_id)
    assert opened is not None
    return opened


async def get(conn: Connection, namespace: Namespace, conversation_id: UUID) -> Conversation | None:
    """One conversation by primary key."""
    row = await conn.fetchrow(
        f"SELECT {_CONVERSATION} FROM channels.conversation WHERE namespace = $1 AND id = $2",
        namespace,
        conversation_id,
    )
    return None if row is None else _conversation(row)


async def lock(
    conn: Connection, namespace: Namespace, conversation_id: UUID
) -> Conversation | None:
    """One conversation, held until the transaction ends."""
    row = await conn.fetchrow(
        f"""SELECT {_CONVERSATION} FROM channels.conversation
             WHERE namespace = $1 AND id = $2 FOR NO KEY UPDATE""",
        namespace,
        conversation_id,
    )
    return None if row is None else _conversation(row)


async def append(
    conn: Connection,
    conversation: Conversation,
    kind: EventKind,
    message_id: str,
    *,
    text: str = "",
    message_kind: MessageKind | None = None,
    post_state: PostState | None = None,
    post_id: str = "",
    agent_id: str = "",
    run_id: RunId | None = None,
    reply_to_id: str = "",
    sender: Sender | None = None,
) -> ConversationEvent:
    """Add an event at the end of a locked conversation."""
    row = await conn.fetchrow(
        f"""WITH c AS (
              UPDATE channels.conversation SET last_sequence = last_sequence + 1
               WHERE namespace = $1 AND id = $2 RETURNING last_sequence)
            INSERT INTO channels.conversation_event
              (namespace, conversation_id, sequence, kind, message_id, text, message_kind,
               post_state, post_id, agent_id, run_id, reply_to_id, sender_id, sender_name)
            SELECT $1, $2, last_sequence, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 FROM c
            RETURNING {_EVENT}""",
        conversation.namespace,
        conversation.id,
        kind,
        message_id,
        text,
        message_kind,
        post_state,
        post_id,
        agent_id,
        run_id,
        reply_to_id,
        sender.id if sender else "",
        sender.display_name if sender else "",
    )
    assert row is not None
    return _event(row)


async def add_post(conn: Connection, conversation: Conversation, event: ConversationEvent) -> None:
    """Keep the post of a POSTED event, queued."""
    await conn.execute(
        """INSERT INTO channels.post (namespace, conversation_id, message_id, sequence, state)
           VALUES ($1, $2, $3, $4, $5)""",
        conversation.namespace,
        conversation.id,
        event.message_id,
        event.sequence,
        PostState.QUEUED,
    )


async def find_post(
    conn: Connection, conversation: Conversation, message_id: str
) -> ConversationEvent | None:
    """The POSTED event of a message id, by the post's primary key."""
    row = await conn.fetchrow(
        f"""SELECT {_qualified("e")} FROM channels.post p
              JOIN channels.conversation_event e USING (namespace, conversation_id, sequence)
             WHERE p.namespace = $1 AND p.conversation_id = $2 AND p.message_id = $3""",
        conversation.namespace,
        conversation.id,
        message_id,
    )
    return None if row is None else _event(row)


async def find_message(
    conn: Connection, conversation: Conversation, message_id: str
) -> ConversationEvent | None:
    """What was posted or said under a message id, by index conversation_event_message."""
    row = await conn.fetchrow(
        f"""SELECT {_EVENT} FROM channels.conversation_event
             WHERE namespace = $1 AND conversation_id = $2 AND message_id = $3 AND kind <> 'state'
             ORDER BY sequence LIMIT 1""",
        conversation.namespace,
        conversation.id,
        message_id,
    )
    return None if row is None else _event(row)


class Post(NamedTuple):
    """Which post."""

    namespace: Namespace
    conversation_id: UUID
    message_id: str


async def queued_posts(conn: Connection, asked: Sequence[Post]) -> list[Post]:
    """Those of the posts that nobody has taken up yet, by the posts' primary key."""
    rows = await conn.fetch(
        """SELECT p.namespace, p.conversation_id, p.message_id
             FROM unnest($1::text[], $2::uuid[], $3::text[])
                  AS a(namespace, conversation_id, message_id)
             JOIN channels.post p USING (namespace, conversation_id, message_id)
            WHERE p.state = 'queued'""",
        *(list(column) for column in zip(*asked, strict=True)),
    )
    return [Post(*row) for row in rows]


async def post_state(
    conn: Connection, conversation: Conversation, message_id: str
) -> PostState | None:
    """Where a post of a locked conversation stands; None for one that is not there."""
    state = await conn.fetchval(
        """SELECT state FROM channels.post
            WHERE namespace = $1 AND conversation_id = $2 AND message_id = $3""",
        conversation.namespace,
        conversation.id,
        message_id,
    )
    return None if state is None else PostState(state)


async def set_post_state(
    conn: Connection,
    conversation: Conversation,
    message_id: str,
    state: PostState,
    run_id: RunId | None,
) -> ConversationEvent:
    """Move a post of a locked conversation, and add the STATE event that says so."""
    await conn.execute(
        """UPDATE channels.post SET state = $4
            WHERE namespace = $1 AND conversation_id = $2 AND message_id = $3""",
        conversation.namespace,
        conversation.id,
        message_id,
        state,
    )
    return await append(
        conn,
        conversation,
        EventKind.STATE,
        message_id,
        post_state=state,
        post_id=message_id,
        run_id=run_id,
    )


async def events_after(
    conn: Connection, namespace: Namespace, conversation_id: UUID, sequence: int, limit: int
) -> list[ConversationEvent]:
    """The next events after a sequence, oldest first, by primary key."""
    rows = await conn.fetch(
        f"""SELECT {_EVENT} FROM channels.conversation_event
             WHERE namespace = $1 AND conversation_id = $2 AND sequence > $3
             ORDER BY sequence LIMIT $4""",
        namespace,
        conversation_id,
        sequence,
        limit,
    )
    return [_event(row) for row in rows]


async def events_before(
    conn: Connection, namespace: Namespace, conversation_id: UUID, sequence: int | None, limit: int
) -> list[ConversationEvent]:
    """The last events before a sequence (None: of all), oldest first, by primary key."""
    rows = await conn.fetch(
        f"""SELECT {_EVENT} FROM channels.conversation_event
             WHERE namespace = $1 AND conversation_id = $2
               AND sequence < coalesce($3, 9223372036854775807)
             ORDER BY sequence DESC LIMIT $4""",
        namespace,
        conversation_id,
        sequence,
        limit,
    )
    return [_event(row) for row in reversed(rows)]


async def last_sequences(
    conn: Connection, watched: Sequence[tuple[Namespace, UUID]]
) -> dict[tuple[Namespace, UUID], int]:
    """How far each of these conversations has come, by primary key."""
    rows = await conn.fetch(
        """SELECT namespace, id, last_sequence FROM channels.conversation
            WHERE (namespace, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))""",
        [namespace for namespace, _ in watched],
        [conversation_id for _, conversation_id in watched],
    )
    return {(Namespace(row["namespace"]), row["id"]): row["last_sequence"] for row in rows}


def _qualified(alias: str) -> str:
    return ", ".join(f"{alias}.{column.strip()}" for column in _EVENT.split(","))


def _conversation(row: asyncpg.Record) -> Conversation:
    return Conversation(
        namespace=Namespace(row["namespace"]),
        id=row["id"],
        agent_id=AgentId(row["agent_id"]),
        session_key=SessionKey(row["session_key"]),
        last_sequence=row["last_sequence"],
        created_at=row["created_at"],
    )


def _event(row: asyncpg.Record) -> ConversationEvent:
    return ConversationEvent(
        sequence=row["sequence"],
        kind=EventKind(row["kind"]),
        message_id=row["message_id"],
        created_at=row["created_at"],
        text=row["text"],
        message_kind=MessageKind(row["message_kind"]) if row["message_kind"] else None,
        post_state=PostState(row["post_state"]) if row["post_state"] else None,
        post_id=row["post_id"],
        agent_id=row["agent_id"],
        run_id=None if row["run_id"] is None else RunId(row["run_id"]),
        reply_to_id=row["reply_to_id"],
        sender=Sender(row["sender_id"], row["sender_name"]) if row["sender_id"] else None,
    )
