"""What became of the deliveries of runs' results. Decides that a later state stands."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fased.core.names import Namespace, RunId
from fased.core.queue import RunDelivery
from fased.store.database import Connection

# One statement cannot touch a row twice, so of one delivery only the latest state goes in.
_RECORD = """
INSERT INTO scheduler.run_delivery AS d (run_id, delivery_id, namespace, state, updated_at)
SELECT DISTINCT ON (r, i) r, i, n, s, a
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
  WITH ORDINALITY u(r, i, n, s, a, place)
ORDER BY r, i, a DESC, place DESC
ON CONFLICT (run_id, delivery_id) DO UPDATE
SET state = EXCLUDED.state, updated_at = EXCLUDED.updated_at
WHERE d.updated_at <= EXCLUDED.updated_at
"""

_LIST = """
SELECT delivery_id, state, updated_at FROM scheduler.run_delivery
WHERE run_id = $1 AND namespace = $2 ORDER BY updated_at, delivery_id
"""


class Change(NamedTuple):
    """A delivery's state, from an event of the channels."""

    run_id: RunId
    delivery_id: str
    namespace: Namespace
    state: str
    at: datetime


async def record(conn: Connection, changes: Sequence[Change]) -> None:
    """Note states of deliveries; a repeat, and one older than what stands, changes nothing."""
    if changes:
        await conn.execute(_RECORD, *(list(column) for column in zip(*changes, strict=True)))


async def list_of(conn: Connection, namespace: Namespace, run_id: RunId) -> list[RunDelivery]:
    """A run's deliveries, by primary key."""
    rows = await conn.fetch(_LIST, run_id, namespace)
    return [RunDelivery(row["delivery_id"], row["state"], row["updated_at"]) for row in rows]
