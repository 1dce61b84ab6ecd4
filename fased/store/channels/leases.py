"""Who receives for an account, and how far it has come. Functions take an asyncpg connection; the
caller owns the transaction.

The database's clock alone decides who holds a lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fased.core.errors import Aborted
from fased.store.channels.accounts import Place
from fased.store.database import Connection


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder knows it; `next_update_id` counts updates of the bot `bot_id`."""

    place: Place
    owner: str
    generation: int
    bot_id: str
    next_update_id: int


async def hold(conn: Connection, place: Place, owner: str, ttl: timedelta) -> Lease | None:
    """Take or renew an account's lease; None while another holds it, or the account is gone."""
    row = await conn.fetchrow(
        """INSERT INTO channels.connection_lease AS l
             (namespace, channel, account_id, owner, generation, expires_at)
           SELECT namespace, channel, account_id, $4, 1, public.fased_now() + $5::interval
             FROM channels.account WHERE namespace = $1 AND channel = $2 AND account_id = $3
           ON CONFLICT (namespace, channel, account_id) DO UPDATE
             SET owner = excluded.owner, expires_at = excluded.expires_at,
                 generation = l.generation + (l.owner <> excluded.owner)::int
             WHERE l.owner = excluded.owner OR l.expires_at <= public.fased_now()
           RETURNING generation, bot_id, next_update_id""",
        *place,
        owner,
        ttl,
    )
    if row is None:
        return None
    return Lease(place, owner, row["generation"], row["bot_id"], row["next_update_id"])


async def advance(conn: Connection, lease: Lease, bot_id: str, next_update_id: int) -> None:
    """Note how far the holder has come; raises Aborted (LEASE_LOST) when it holds no more."""
    status = await conn.execute(
        """UPDATE channels.connection_lease SET bot_id = $6, next_update_id = $7
            WHERE namespace = $1 AND channel = $2 AND account_id = $3
              AND owner = $4 AND generation = $5 AND expires_at > public.fased_now()""",
        *lease.place,
        lease.owner,
        lease.generation,
        bot_id,
        next_update_id,
    )
    if status != "UPDATE 1":
        raise Aborted("another process receives for the account now", reason="LEASE_LOST")


async def release(conn: Connection, lease: Lease) -> None:
    """Let another take the lease at once."""
    await conn.execute(
        """UPDATE channels.connection_lease SET owner = '', expires_at = public.fased_now()
            WHERE namespace = $1 AND channel = $2 AND account_id = $3
              AND owner = $4 AND generation = $5""",
        *lease.place,
        lease.owner,
        lease.generation,
    )


async def end_all(conn: Connection) -> None:
    """End every lease and claim: whoever held one is gone for sure."""
    await conn.execute(
        """WITH l AS (UPDATE channels.connection_lease
                         SET owner = '', expires_at = public.fased_now() WHERE owner <> '')
           UPDATE channels.delivery_lane
              SET owner = '', generation = nextval('channels.lane_generation'),
                  next_at = public.fased_now()
            WHERE owner <> ''""",
    )


async def first_ids(conn: Connection, place: Place, ids: Sequence[str]) -> dict[str, str]:
    """The ids that chats had before they got these ones, of those that had another.

    By index migrated_chat_new.
    """
    rows = await conn.fetch(
        """SELECT new_id, old_id FROM channels.migrated_chat
            WHERE namespace = $1 AND channel = $2 AND account_id = $3
              AND new_id = ANY($4::text[])""",
        *place,
        list(ids),
    )
    return {row["new_id"]: row["old_id"] for row in rows}


async def note_migration(
    conn: Connection,
    place: Place,
    old_id: str,
    new_id: str,
) -> bool:
    """Note that a chat has another id now; False when it was noted before."""
    status = await conn.execute(
        """INSERT INTO channels.migrated_chat (namespace, channel, account_id, old_id, new_id)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING""",
        *place,
        old_id,
        new_id,
    )
    return bool(status != "INSERT 0 0")
