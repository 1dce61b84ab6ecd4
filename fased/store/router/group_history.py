"""What was said in groups and not to the bot, in rows: the last lines of each chat.

Functions take an asyncpg connection; the caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fased.core.gate import MAX_HISTORY_LINES
from fased.core.names import Namespace
from fased.store.database import Connection


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One message of a group; `chat` is the group, or a thread or topic of it."""

    namespace: Namespace
    chat: str
    event_id: str
    line: str
    received_at: datetime


async def keep(conn: Connection, lines: Sequence[HistoryLine]) -> None:
    """Keep lines, once an event, and of each of their chats only the last. By primary key."""
    await conn.execute(
        """INSERT INTO router.group_history (namespace, chat, event_id, line, received_at)
           SELECT n, c, e, l, a
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
                  WITH ORDINALITY u(n, c, e, l, a, i)
            ORDER BY i
           ON CONFLICT DO NOTHING""",
        [each.namespace for each in lines],
        [each.chat for each in lines],
        [each.event_id for each in lines],
        [each.line for each in lines],
        [each.received_at for each in lines],
    )
    chats = sorted({(each.namespace, each.chat) for each in lines})
    await conn.execute(
        """DELETE FROM router.group_history h
            USING unnest($1::text[], $2::text[]) u(n, c)
            CROSS JOIN LATERAL (
              SELECT event_id FROM router.group_history o
               WHERE o.namespace = u.n AND o.chat = u.c
               ORDER BY o.received_at DESC, o.id DESC OFFSET $3) old
            WHERE h.namespace = u.n AND h.chat = u.c AND h.event_id = old.event_id""",
        [namespace for namespace, _ in chats],
        [chat for _, chat in chats],
        MAX_HISTORY_LINES,
    )


async def give(
    conn: Connection, namespace: Namespace, chat: str, event_id: str, at: datetime
) -> list[str]:
    """The lines of a chat that no run was shown yet, oldest first, for the run of an event that
    came `at`; the same lines again when the event comes again. By primary key.
    """
    rows = await conn.fetch(
        """WITH given AS (
             UPDATE router.group_history h SET given_to = $3
              WHERE namespace = $1 AND chat = $2
                AND (given_to = $3 OR (
                  given_to = '' AND received_at <= $4
                  AND NOT EXISTS (SELECT 1 FROM router.group_history
                                   WHERE namespace = $1 AND chat = $2 AND given_to = $3)))
             RETURNING line, received_at, id)
           SELECT line FROM given ORDER BY received_at, id""",
        namespace,
        chat,
        event_id,
        at,
    )
    return [row["line"] for row in rows]


async def prune(conn: Connection, older_than: timedelta) -> None:
    """Forget lines that are older. By `group_history_received`."""
    await conn.execute(
        "DELETE FROM router.group_history WHERE received_at < public.fased_now() - $1::interval",
        older_than,
    )
