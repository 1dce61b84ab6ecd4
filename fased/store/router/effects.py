"""What happened once: the commands of events, and answered requests."""

from datetime import timedelta
from uuid import UUID

from fased.core.names import Namespace
from fased.store.database import Connection


async def claim_event(conn: Connection, namespace: Namespace, event_id: str) -> bool:
    """Whether an event's command is carried out now, in this transaction, for the first time."""
    row = await conn.fetchrow(
        """INSERT INTO router.command_effect (namespace, event_id) VALUES ($1, $2)
           ON CONFLICT DO NOTHING RETURNING 1""",
        namespace,
        event_id,
    )
    return row is not None


async def is_known(conn: Connection, namespace: Namespace, event_id: str) -> bool:
    """Whether an event's command was carried out before."""
    return bool(
        await conn.fetchval(
            "SELECT 1 FROM router.command_effect WHERE namespace = $1 AND event_id = $2",
            namespace,
            event_id,
        )
    )


async def claim_request(
    conn: Connection, namespace: Namespace, request_id: UUID, resource: str
) -> str:
    """The resource that a request made: `resource` the first time, else the one it made then."""
    row = await conn.fetchrow(
        """INSERT INTO router.request AS r (namespace, request_id, resource) VALUES ($1, $2, $3)
           ON CONFLICT (namespace, request_id) DO UPDATE SET resource = r.resource
           RETURNING resource""",
        namespace,
        request_id,
        resource,
    )
    return str(row["resource"])


async def prune(conn: Connection, older_than: timedelta) -> None:
    """Forget effects and requests so old that the bus no longer holds their events."""
    for table in ("command_effect", "request"):
        await conn.execute(
            f"DELETE FROM router.{table} WHERE at < public.fased_now() - $1::interval", older_than
        )
