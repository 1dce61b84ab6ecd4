"""What the scheduler answered to requests, so that a repeated one changes nothing more.

Decides that the first answer stands. The caller owns the transaction, which holds the change too.
"""

from datetime import timedelta

from fased.core.names import Namespace
from fased.store.database import Connection


async def claim(conn: Connection, namespace: Namespace, request_id: str) -> bytes | None:
    """None the first time, which the caller must `keep` an answer for; else the first answer.

    A repeat waits for a first that is under way. An empty `request_id` is always a first time.
    """
    if not request_id:
        return None
    first = await conn.fetchval(
        """INSERT INTO scheduler.answer (namespace, request_id) VALUES ($1, $2)
           ON CONFLICT DO NOTHING RETURNING true""",
        namespace,
        request_id,
    )
    if first:
        return None
    kept = await conn.fetchval(
        "SELECT value FROM scheduler.answer WHERE namespace = $1 AND request_id = $2",
        namespace,
        request_id,
    )
    return bytes(kept)


async def keep(conn: Connection, namespace: Namespace, request_id: str, answer: bytes) -> None:
    """Store the answer to a request that was claimed in this transaction."""
    if request_id:
        await conn.execute(
            "UPDATE scheduler.answer SET value = $3 WHERE namespace = $1 AND request_id = $2",
            namespace,
            request_id,
            answer,
        )


async def prune(conn: Connection, keep_for: timedelta, limit: int = 500) -> int:
    """Forget answers older than `keep_for`, which must be longer than the bus keeps an event."""
    status = await conn.execute(
        """DELETE FROM scheduler.answer WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM scheduler.answer
              WHERE at < public.fased_now() - $1::interval LIMIT $2))""",
        keep_for,
        limit,
    )
    return int(status.rsplit(" ", 1)[1])
