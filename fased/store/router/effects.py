"""What happened once: the commands and pairings of events, and answered requests."""

from datetime import timedelta
from uuid import UUID

from fased.core.names import Namespace
from fased.store.database import Connection


async def claim_event(conn: Connection, namespace: Namespace, event_id: str) -> bool:
    """Whether what an event does happens now, in this transaction, for the first time."""
    row = await conn.fetchrow(
        """INSERT INTO router.command_effect (namespace, event_id) VALUES ($1, $2)
           ON CONFLICT DO NOTHING RETURNING 1""",
        namespace,
        event_id,
    )
    return row is not None


async def is_known(conn: Connection, namespace: Namespace, event_id: str) -> bool:
    """Whether what an event does was done before."""
    return bool(
        await conn.fetchval(
            "SELECT 1 FROM router.command_effect WHERE namespace = $1 AND event_id = $2",
            namespace,
            event_id,
        )
    )


async def resource_of(conn: Connection, namespace: Namespace, request_id: UUID | None) -> str:
    """The resource that a request made before; `""` for a new request, and for none.

    A repeat that comes beside the first is seen only by callers who hold what both change.
    """
    if request_id is None:
        return ""
    resource = await conn.fetchval(
        "SELECT resource FROM router.request WHERE namespace = $1 AND request_id = $2",
        namespace,
        request_id,
    )
    return str(resource or "")


async def keep_request(
    conn: Connection, namespace: Namespace, request_id: UUID | None, resource: str
) -> None:
    """Note what a request made, so that its repeat makes nothing more."""
    if request_id is not None:
        await conn.execute(
            """INSERT INTO router.request (namespace, request_id, resource) VALUES ($1, $2, $3)
               ON CONFLICT DO NOTHING""",
            namespace,
            request_id,
            resource,
        )


async def prune(conn: Connection, older_than: timedelta) -> None:
    """Forget effects and requests that are older. By `command_effect_at` and `request_at`."""
    for table in ("command_effect", "request"):
        await conn.execute(
            f"DELETE FROM router.{table} WHERE at < public.fased_now() - $1::interval", older_than
        )
