"""Gates in rows: the policy of each account, and all that a batch of messages is judged by.

Functions take an asyncpg connection; the caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import asyncpg

from fased.core.gate import GatePolicy
from fased.core.names import AccountId, ChannelId, Namespace
from fased.store import codec
from fased.store.database import Connection

DEFAULT_POLICY = GatePolicy()


@dataclass(frozen=True, slots=True)
class StoredGate:
    """The gate of one account, with who names it."""

    channel: ChannelId
    account_id: AccountId
    policy: GatePolicy
    managed_by: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who wrote to which account, by which event."""

    namespace: Namespace
    channel: ChannelId
    account_id: AccountId
    sender_id: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What rows say of an arrival; `is_done` when its event had its effect here before."""

    policy: GatePolicy
    is_approved: bool
    is_done: bool


async def standings(conn: Connection, arrivals: Sequence[Arrival]) -> list[Standing]:
    """What is known of arrivals, in their places. By the primary keys of three tables."""
    if not arrivals:
        return []
    rows = await conn.fetch(
        """SELECT g.policy, s.sender_id IS NOT NULL AS approved, e.event_id IS NOT NULL AS done
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
                  WITH ORDINALITY u(namespace, channel, account_id, sender_id, event_id, place)
             LEFT JOIN router.gate g USING (namespace, channel, account_id)
             LEFT JOIN router.allowed_sender s USING (namespace, channel, account_id, sender_id)
             LEFT JOIN router.command_effect e USING (namespace, event_id)
            ORDER BY place""",
        [each.namespace for each in arrivals],
        [each.channel for each in arrivals],
        [each.account_id for each in arrivals],
        [each.sender_id for each in arrivals],
        [each.event_id for each in arrivals],
    )
    return [Standing(_policy(row["policy"]), row["approved"], row["done"]) for row in rows]


async def lock_account(
    conn: Connection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> None:
    """Let changes of one account's gate and pairings come one after the other, row or no row."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('gate/' || $1, 0))",
        f"{namespace}/{channel}/{account_id}",
    )


async def get(
    conn: Connection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> StoredGate:
    """The gate of an account, the default one where it has no row."""
    row = await conn.fetchrow(
        """SELECT channel, account_id, policy, managed_by FROM router.gate
            WHERE namespace = $1 AND channel = $2 AND account_id = $3""",
        namespace,
        channel,
        account_id,
    )
    return StoredGate(channel, account_id, DEFAULT_POLICY) if row is None else _gate(row)


async def list_all(conn: Connection, namespace: Namespace) -> list[StoredGate]:
    """The gates of a namespace that were set, by channel and account."""
    rows = await conn.fetch(
        """SELECT channel, account_id, policy, managed_by FROM router.gate
            WHERE namespace = $1 ORDER BY channel, account_id""",
        namespace,
    )
    return [_gate(row) for row in rows]


async def put(conn: Connection, namespace: Namespace, gate: StoredGate) -> None:
    """Store a gate, new or changed."""
    await conn.execute(
        """INSERT INTO router.gate (namespace, channel, account_id, policy, managed_by)
           VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (namespace, channel, account_id)
           DO UPDATE SET policy = excluded.policy, managed_by = excluded.managed_by""",
        namespace,
        gate.channel,
        gate.account_id,
        codec.dump(gate.policy),
        gate.managed_by,
    )


async def remove(
    conn: Connection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> None:
    """Forget a gate: its account has the default one."""
    await conn.execute(
        """DELETE FROM router.gate
            WHERE namespace = $1 AND channel = $2 AND account_id = $3""",
        namespace,
        channel,
        account_id,
    )


def _gate(row: "asyncpg.Record") -> StoredGate:
    return StoredGate(
        ChannelId(row["channel"]),
        AccountId(row["account_id"]),
        _policy(row["policy"]),
        row["managed_by"],
    )


# A policy is read with every batch and seldom changes; equal texts are equal policies.
@lru_cache(maxsize=1024)
def _policy(text: str | None) -> GatePolicy:
    return DEFAULT_POLICY if text is None else codec.load(GatePolicy, text)
