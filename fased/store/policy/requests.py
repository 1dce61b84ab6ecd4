"""Request ids that were answered, so that a repeated request changes nothing more."""

import uuid

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.names import Namespace
from fased.store.tables.policy import request


async def claim(
    conn: AsyncConnection, namespace: Namespace, request_id: uuid.UUID, resource: str
) -> bool:
    """Whether this is the first time; a repeat waits for the first to commit."""
    result = await conn.execute(
        insert(request)
        .values(namespace=namespace, request_id=request_id, resource=resource)
        .on_conflict_do_nothing()
    )
    return result.rowcount > 0
