"""Channel accounts in rows. Functions take a connection; the caller owns the transaction.

When a message last went out, or into WebChat, is read from deliveries and posts, so that no
message waits for the row of its account.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.accounts import (
    Account,
    AccountSettings,
    AccountStatus,
    Identity,
    Probe,
    ReceiveMode,
)
from fased.core.conversations import WEBCHAT
from fased.core.delivery import UnknownPolicy
from fased.core.names import AccountId, ChannelId, Namespace
from fased.store.database import Connection
from fased.store.tables.channels import account, connection_lease, delivery, post, request

Place = tuple[Namespace, ChannelId, AccountId]


@dataclass(frozen=True, slots=True)
class StatusNote:
    """What was seen of an account since the last note; None where nothing was.

    `error` is a reason and a sentence, both `""` once it is over.
    """

    place: Place
    is_connected: bool | None = None
    identity: Identity | None = None
    last_inbound_at: datetime | None = None
    error: tuple[str, str] | None = None


async def ensure(
    conn: Connection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> None:
    """Let an account without a credential stand, such as WebChat's."""
    await conn.execute(
        """INSERT INTO channels.account (namespace, channel, account_id) VALUES ($1, $2, $3)
           ON CONFLICT DO NOTHING""",
        namespace,
        channel,
        account_id,
    )


async def is_there(conn: Connection, place: Place) -> bool:
    """Whether an account is there; it stays until the transaction ends."""
    return bool(
        await conn.fetchval(
            """SELECT true FROM channels.account
                WHERE namespace = $1 AND channel = $2 AND account_id = $3 FOR KEY SHARE""",
            *place,
        )
    )


async def get(
    conn: AsyncConnection,
    namespace: Namespace,
    channel: ChannelId,
    account_id: AccountId,
    *,
    lock: bool = False,
) -> Account | None:
    """One account by primary key; `lock` holds its row for an edit."""
    query = _accounts().where(_is(namespace, channel, account_id))
    row = (await conn.execute(query.with_for_update(of=account) if lock else query)).one_or_none()
    return None if row is None else _account(row)


async def list_all(conn: AsyncConnection, namespace: Namespace) -> list[Account]:
    """All accounts of a namespace, by channel and account."""
    query = _accounts().where(account.c.namespace == namespace)
    rows = await conn.execute(query.order_by(account.c.channel, account.c.account_id))
    return [_account(row) for row in rows]


async def list_enabled(conn: AsyncConnection, channel: ChannelId) -> list[Account]:
    """The accounts of a channel that are used, of all namespaces."""
    query = _accounts().where(account.c.channel == channel, account.c.enabled)
    rows = await conn.execute(query.order_by(account.c.namespace, account.c.account_id))
    return [_account(row) for row in rows]


async def owned_by(conn: AsyncConnection, namespace: Namespace, managed_by: str) -> list[Account]:
    """All accounts of one owner, locked for an edit."""
    query = _accounts().where(account.c.namespace == namespace, account.c.managed_by == managed_by)
    query = query.order_by(account.c.channel, account.c.account_id).with_for_update(of=account)
    return [_account(row) for row in await conn.execute(query)]


async def create(
    conn: AsyncConnection,
    namespace: Namespace,
    channel: ChannelId,
    account_id: AccountId,
    settings: AccountSettings,
    managed_by: str,
) -> bool:
    """Store a new account; False when the id is taken."""
    statement = insert(account).values(
        namespace=namespace,
        channel=channel,
        account_id=account_id,
        managed_by=managed_by,
        **_columns(settings),
    )
    return (await conn.execute(statement.on_conflict_do_nothing())).rowcount > 0


async def change(
    conn: AsyncConnection, old: Account, settings: AccountSettings, managed_by: str
) -> None:
    """Store other settings, or another owner, of a locked account."""
    await conn.execute(
        update(account)
        .where(_is(old.namespace, old.channel, old.account_id))
        .values(managed_by=managed_by, **_columns(settings))
    )


async def remove(conn: AsyncConnection, old: Account) -> None:
    """Remove an account with its lease."""
    await conn.execute(delete(account).where(_is(old.namespace, old.channel, old.account_id)))


async def first_time(
    conn: AsyncConnection, namespace: Namespace, request_id: UUID, resource: str
) -> bool:
    """Whether a request was not answered before; a repeat waits for the first to commit."""
    statement = insert(request).values(
        namespace=namespace, request_id=request_id, resource=resource
    )
    return (await conn.execute(statement.on_conflict_do_nothing())).rowcount > 0


async def note_status(conn: Connection, notes: Sequence[StatusNote]) -> None:
    """Keep what was seen of accounts; None leaves a column, removed accounts are passed over."""
    await conn.executemany(
        """UPDATE channels.account SET
             connected = coalesce($4, connected),
             bot_id = coalesce($5, bot_id),
             bot_username = coalesce($6, bot_username),
             bot_name = coalesce($7, bot_name),
             last_inbound_at = greatest($8, last_inbound_at),
             last_error_reason = coalesce($9, last_error_reason),
             last_error = coalesce($10, last_error),
             last_error_at = CASE WHEN $9::text IS NULL THEN last_error_at
                                  ELSE public.fased_now() END
           WHERE namespace = $1 AND channel = $2 AND account_id = $3""",
        [_note_row(note) for note in notes],
    )


async def note_probe(
    conn: AsyncConnection, seen: Account, identity: Identity | None, reason: str, message: str
) -> None:
    """Keep what the platform answered to a probe."""
    found: dict[str, Any] = {}
    if identity is not None:
        found = {
            "bot_id": identity.id,
            "bot_username": identity.username,
            "bot_name": identity.name,
        }
    await conn.execute(
        update(account)
        .where(_is(seen.namespace, seen.channel, seen.account_id))
        .values(
            probed_at=func.public.fased_now(), probe_reason=reason, probe_message=message, **found
        )
    )


def _note_row(note: StatusNote) -> tuple[object, ...]:
    identity = note.identity
    return (
        *note.place,
        note.is_connected,
        identity.id if identity else None,
        identity.username if identity else None,
        identity.name if identity else None,
        note.last_inbound_at,
        note.error[0] if note.error else None,
        note.error[1] if note.error else None,
    )


def _is(namespace: Namespace, channel: ChannelId, account_id: AccountId) -> ColumnElement[bool]:
    return and_(
        account.c.namespace == namespace,
        account.c.channel == channel,
        account.c.account_id == account_id,
    )


def _columns(settings: AccountSettings) -> dict[str, Any]:
    return {
        "enabled": settings.is_enabled,
        "credential": settings.credential,
        "mode": settings.mode,
        "api_base": settings.api_base,
        "webhook_url": settings.webhook_url,
        "unknown_policy": settings.unknown_policy,
    }


def _accounts() -> Select[Any]:
    # Indexes post_created and delivery_account give both without reading the rows before.
    posted = (
        select(func.max(post.c.created_at))
        .where(post.c.namespace == account.c.namespace, account.c.channel == WEBCHAT)
        .scalar_subquery()
    )
    last_out = (
        select(func.max(delivery.c.updated_at))
        .where(
            delivery.c.namespace == account.c.namespace,
            delivery.c.channel == account.c.channel,
            delivery.c.account_id == account.c.account_id,
            delivery.c.state == "sent",
        )
        .scalar_subquery()
    )
    lease = connection_lease
    is_held = exists().where(
        lease.c.namespace == account.c.namespace,
        lease.c.channel == account.c.channel,
        lease.c.account_id == account.c.account_id,
        lease.c.expires_at > func.public.fased_now(),
    )
    return select(
        account,
        func.coalesce(account.c.last_inbound_at, posted).label("last_in_at"),
        last_out.label("last_out_at"),
        # WebChat is connected by being here.
        ((account.c.connected & is_held) | (account.c.channel == WEBCHAT)).label("is_connected"),
    )


def _account(row: Row[Any]) -> Account:
    return Account(
        namespace=Namespace(row.namespace),
        channel=ChannelId(row.channel),
        account_id=AccountId(row.account_id),
        settings=AccountSettings(
            credential=row.credential,
            mode=ReceiveMode(row.mode),
            api_base=row.api_base,
            webhook_url=row.webhook_url,
            unknown_policy=UnknownPolicy(row.unknown_policy),
            is_enabled=row.enabled,
        ),
        managed_by=row.managed_by,
        created_at=row.created_at,
        status=AccountStatus(
            is_connected=row.is_connected,
            identity=Identity(row.bot_id, row.bot_username, row.bot_name),
            last_inbound_at=row.last_in_at,
            last_outbound_at=row.last_out_at,
            last_error_reason=row.last_error_reason,
            last_error=row.last_error,
            last_error_at=row.last_error_at,
            probe=None
            if row.probed_at is None
            else Probe(row.probed_at, row.probe_reason, row.probe_message),
        ),
    )
