"""Channel accounts in rows. Functions take a connection; the caller owns the transaction.

When a message last went in or out is read from posts and deliveries, so that no message waits for
the row of its account.
"""

from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.accounts import Account
from fased.core.conversations import WEBCHAT
from fased.core.names import AccountId, ChannelId, Namespace
from fased.store.database import Connection
from fased.store.tables.channels import account, delivery, post


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


async def get(
    conn: AsyncConnection, namespace: Namespace, channel: ChannelId, account_id: AccountId
) -> Account | None:
    """One account by primary key."""
    query = _accounts(namespace).where(
        account.c.channel == channel, account.c.account_id == account_id
    )
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else _account(row)


async def list_all(conn: AsyncConnection, namespace: Namespace) -> list[Account]:
    """All accounts of a namespace, by channel and account."""
    query = _accounts(namespace).order_by(account.c.channel, account.c.account_id)
    return [_account(row) for row in await conn.execute(query)]


def _accounts(namespace: Namespace) -> Select[Any]:
    # Indexes post_created and delivery_account give both without reading the rows before.
    last_in = (
        select(func.max(post.c.created_at))
        .where(post.c.namespace == namespace, account.c.channel == WEBCHAT)
        .scalar_subquery()
    )
    last_out = (
        select(func.max(delivery.c.updated_at))
        .where(
            delivery.c.namespace == namespace,
            delivery.c.channel == account.c.channel,
            delivery.c.account_id == account.c.account_id,
            delivery.c.state == "sent",
        )
        .scalar_subquery()
    )
    return select(
        account, last_in.label("last_inbound_at"), last_out.label("last_outbound_at")
    ).where(account.c.namespace == namespace)


def _account(row: Row[Any]) -> Account:
    return Account(
        namespace=Namespace(row.namespace),
        channel=ChannelId(row.channel),
        account_id=AccountId(row.account_id),
        credential=row.credential,
        is_enabled=row.enabled,
        managed_by=row.managed_by,
        last_error=row.last_error,
        created_at=row.created_at,
        last_inbound_at=row.last_inbound_at,
        last_outbound_at=row.last_outbound_at,
    )
