"""What the channels forget in time, batch by batch. Functions take an asyncpg connection; each is a
transaction of its own and answers how many rows went, none where there is no more.
"""

from datetime import timedelta

from fased.store.database import Connection

BATCH = 1_000


async def prune_requests(conn: Connection, kept: timedelta) -> int:
    """Forget answered requests, by index request_age."""
    return _count(
        await conn.execute(
            """DELETE FROM channels.request WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM channels.request
                  WHERE created_at < public.fased_now() - $1::interval LIMIT $2))""",
            kept,
            BATCH,
        )
    )


async def prune_deliveries(conn: Connection, kept: timedelta) -> int:
    """Forget deliveries that came to an end, with their chunks, by index delivery_age.

    A message that the bus still keeps would be sent again: they are kept longer than that.
    """
    return _count(
        await conn.execute(
            """WITH old AS (
                 DELETE FROM channels.delivery d USING (
                   SELECT namespace, id FROM channels.delivery
                    WHERE created_at < public.fased_now() - $1::interval AND state <> 'pending'
                    LIMIT $2 FOR UPDATE SKIP LOCKED) o
                  WHERE d.namespace = o.namespace AND d.id = o.id
                 RETURNING d.namespace, d.id)
               DELETE FROM channels.delivery_chunk c USING old
                WHERE c.namespace = old.namespace AND c.delivery_id = old.id""",
            kept,
            BATCH,
        )
    )


async def prune_conversations(conn: Connection, kept: timedelta) -> int:
    """Forget WebChat conversations in which nothing has happened for so long, as wholes."""
    return _count(
        await conn.execute(
            """WITH old AS (
                 DELETE FROM channels.conversation c USING (
                   SELECT namespace, id FROM channels.conversation i
                    WHERE created_at < public.fased_now() - $1::interval
                      AND NOT EXISTS (
                        SELECT FROM channels.conversation_event e
                         WHERE e.namespace = i.namespace AND e.conversation_id = i.id
                           AND e.sequence = i.last_sequence
                           AND e.created_at >= public.fased_now() - $1::interval)
                    LIMIT $2 FOR UPDATE SKIP LOCKED) o
                  WHERE c.namespace = o.namespace AND c.id = o.id
                 RETURNING c.namespace, c.id),
               posts AS (
                 DELETE FROM channels.post p USING old
                  WHERE p.namespace = old.namespace AND p.conversation_id = old.id),
               events AS (
                 DELETE FROM channels.conversation_event e USING old
                  WHERE e.namespace = old.namespace AND e.conversation_id = old.id)
               SELECT FROM old""",
            kept,
            BATCH // 10,
        )
    )


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
