"""Pairing requests and allowed senders in rows.

Functions take an asyncpg connection; the caller owns the transaction, and holds the account
(`gate.lock_account`) where a request is made.
"""

from datetime import datetime

import asyncpg

from fased.core.messages import Sender
from fased.core.names import AccountId, ChannelId, Namespace
from fased.core.pairing import AllowedSender, PairingRequest
from fased.store.database import Connection

_REQUEST = "code, channel, account_id, sender_id, sender_name, created_at, expires_at"
_SENDER = "channel, account_id, sender_id, sender_name, created_at"


async def now(conn: Connection) -> datetime:
    """The instant by which requests are judged."""
    at: datetime = await conn.fetchval("SELECT public.fased_now()")
    return at


async def of_account(
    conn: Connection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> list[PairingRequest]:
    """The requests of one account, expired ones too. By primary key."""
    rows = await conn.fetch(
        f"""SELECT {_REQUEST} FROM router.pairing
             WHERE namespace = $1 AND channel = $2 AND account_id = $3""",
        namespace,
        channel,
        account_id,
    )
    return [_request(row) for row in rows]


async def add(conn: Connection, namespace: Namespace, request: PairingRequest) -> bool:
    """Keep a request, in the place of an expired one of the same sender; False when another
    request has its code.
    """
    await conn.execute(
        """DELETE FROM router.pairing
            WHERE namespace = $1 AND channel = $2 AND account_id = $3 AND expires_at <= $4""",
        namespace,
        request.channel,
        request.account_id,
        request.created_at,
    )
    row = await conn.fetchrow(
        f"""INSERT INTO router.pairing (namespace, {_REQUEST})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (namespace, code) DO NOTHING RETURNING 1""",
        namespace,
        request.code,
        request.channel,
        request.account_id,
        request.sender.id,
        request.sender.display_name,
        request.created_at,
        request.expires_at,
    )
    return row is not None


async def list_pending(conn: Connection, namespace: Namespace) -> list[PairingRequest]:
    """The requests of a namespace that may still be approved, the oldest first."""
    rows = await conn.fetch(
        f"""SELECT {_REQUEST} FROM router.pairing
             WHERE namespace = $1 AND expires_at > public.fased_now()
             ORDER BY created_at, code""",
        namespace,
    )
    return [_request(row) for row in rows]


async def take(conn: Connection, namespace: Namespace, code: str) -> PairingRequest | None:
    """The pending request with a code, removed; None when there is none."""
    row = await conn.fetchrow(
        f"""DELETE FROM router.pairing
             WHERE namespace = $1 AND code = $2 AND expires_at > public.fased_now()
            RETURNING {_REQUEST}""",
        namespace,
        code,
    )
    return None if row is None else _request(row)


async def allow(conn: Connection, namespace: Namespace, allowed: AllowedSender) -> AllowedSender:
    """Let a sender write to an account; a request of theirs is settled by it."""
    key = (namespace, allowed.channel, allowed.account_id, allowed.sender.id)
    await conn.execute(
        """DELETE FROM router.pairing
            WHERE namespace = $1 AND channel = $2 AND account_id = $3 AND sender_id = $4""",
        *key,
    )
    row = await conn.fetchrow(
        f"""INSERT INTO router.allowed_sender AS s
                   (namespace, channel, account_id, sender_id, sender_name)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (namespace, channel, account_id, sender_id)
            DO UPDATE SET sender_name = coalesce(nullif(excluded.sender_name, ''), s.sender_name)
            RETURNING {_SENDER}""",
        *key,
        allowed.sender.display_name,
    )
    return _allowed(row)


async def get_allowed(
    conn: Connection,
    namespace: Namespace,
    channel: ChannelId,
    account_id: AccountId,
    sender_id: str,
) -> AllowedSender | None:
    """One allowed sender, by primary key."""
    row = await conn.fetchrow(
        f"""SELECT {_SENDER} FROM router.allowed_sender
             WHERE namespace = $1 AND channel = $2 AND account_id = $3 AND sender_id = $4""",
        namespace,
        channel,
        account_id,
        sender_id,
    )
    return None if row is None else _allowed(row)


async def list_allowed(
    conn: Connection, namespace: Namespace, after: tuple[str, str, str] | None, limit: int
) -> list[AllowedSender]:
    """The allowed senders of a namespace after a position, by primary key."""
    rows = await conn.fetch(
        f"""SELECT {_SENDER} FROM router.allowed_sender
             WHERE namespace = $1
               AND ($2::text IS NULL OR (channel, account_id, sender_id) > ($2, $3, $4))
             ORDER BY channel, account_id, sender_id LIMIT $5""",
        namespace,
        *(after or (None, None, None)),
        limit,
    )
    return [_allowed(row) for row in rows]


async def revoke(
    conn: Connection,
    namespace: Namespace,
    channel: ChannelId,
    account_id: AccountId,
    sender_id: str,
) -> bool:
    """Take a sender's right back; says whether there was one."""
    row = await conn.fetchrow(
        """DELETE FROM router.allowed_sender
            WHERE namespace = $1 AND channel = $2 AND account_id = $3 AND sender_id = $4
           RETURNING 1""",
        namespace,
        channel,
        account_id,
        sender_id,
    )
    return row is not None


async def prune(conn: Connection) -> None:
    """Forget requests that have expired; few are ever there."""
    await conn.execute("DELETE FROM router.pairing WHERE expires_at <= public.fased_now()")


def _request(row: "asyncpg.Record") -> PairingRequest:
    return PairingRequest(
        code=row["code"],
        channel=ChannelId(row["channel"]),
        account_id=AccountId(row["account_id"]),
        sender=Sender(row["sender_id"], row["sender_name"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


def _allowed(row: "asyncpg.Record") -> AllowedSender:
    return AllowedSender(
        ChannelId(row["channel"]),
        AccountId(row["account_id"]),
        Sender(row["sender_id"], row["sender_name"]),
        row["created_at"],
    )
