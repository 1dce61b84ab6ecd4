"""Workers: one row a process, whose lease its heartbeat keeps. Only recovery ends a lease."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from fased.core.names import RunId
from fased.core.queue import Heartbeat, HeldRun
from fased.store.queue import claim, rows
from fased.store.queue.lanes import Connection

_REGISTER = """
INSERT INTO scheduler.worker (id, expires_at, heartbeat_at, providers)
VALUES ($1, public.fased_now() + $2, public.fased_now(), $3)
ON CONFLICT (id) DO UPDATE SET providers = EXCLUDED.providers
"""

# A late heartbeat that recovery has not reached revives the lease.
_HEARTBEAT = """
UPDATE scheduler.worker SET expires_at = public.fased_now() + $2, heartbeat_at = public.fased_now()
WHERE id = $1 AND expires_at > '-infinity'
RETURNING 1
"""

_HELD = f"""
SELECT id, epoch, cancel, leased_at < public.fased_now() - $2::interval AS is_old
FROM scheduler.run
WHERE {rows.LISTED.format("worker = $1")} AND worker = $1
"""

_PROVIDERS = """
SELECT DISTINCT unnest(providers) AS provider FROM scheduler.worker
WHERE expires_at > public.fased_now() ORDER BY provider
"""


async def register(
    conn: Connection, worker_id: UUID, lease_for: timedelta, providers: Sequence[str]
) -> None:
    """Make a worker known, or renew the providers it has credentials for."""
    await conn.execute(_REGISTER, worker_id, lease_for, list(providers))


async def heartbeat(
    conn: Connection,
    worker_id: UUID,
    lease_for: timedelta,
    held: Sequence[RunId],
    claim_deadline: timedelta,
) -> Heartbeat:
    """Keep a worker's leases for `lease_for` from now; `held` are the runs it knows it holds.

    Leases older than `claim_deadline` that it does not know come back as `unknown`, for
    `finish.release`. Raises FailedPrecondition LEASE_LOST when the worker was given up.
    """
    if await conn.fetchval(_HEARTBEAT, worker_id, lease_for) is None:
        raise claim.lease_lost()
    found = {row["id"]: row for row in await conn.fetch(_HELD, worker_id, claim_deadline)}
    known = set(held)
    cancelled = [run_id for run_id in held if run_id not in found or found[run_id]["cancel"]]
    unknown = [
        HeldRun(RunId(row["id"]), row["epoch"])
        for row in found.values()
        if row["is_old"] and row["id"] not in known
    ]
    return Heartbeat(tuple(cancelled), tuple(unknown))


async def live_providers(conn: Connection) -> tuple[str, ...]:
    """The model providers that some live worker has credentials for."""
    return tuple(row["provider"] for row in await conn.fetch(_PROVIDERS))
