"""Tokens in rows: hashes only, never secrets."""

from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.access import Caller, Role
from fased.core.names import Namespace
from fased.core.tokens import Token
from fased.store.database import Connection
from fased.store.tables.policy import token


def hash_of(secret: str) -> bytes:
    """What is stored of a secret. It is long and random, so a plain hash cannot be guessed back."""
    return sha256(secret.encode()).digest()


async def create(conn: AsyncConnection, new: Token, secret: str) -> Token | None:
    """Store a token; None when its id is taken."""
    row = (
        await conn.execute(
            upsert(token).values(**_values(new, secret)).on_conflict_do_nothing().returning(token)
        )
    ).one_or_none()
    return None if row is None else _token(row)


async def ensure(conn: AsyncConnection, new: Token, secret: str) -> None:
    """Let the token with this id stand with this secret, whatever it was before."""
    values = _values(new, secret)
    await conn.execute(
        upsert(token)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["namespace", "id"], set_={**values, "revoked_at": None}
        )
    )


async def caller_of(conn: Connection, secret: str) -> Caller | None:
    """Who a secret stands for; None when nobody, or no longer. By the unique hash."""
    row = await conn.fetchrow(
        """SELECT namespace, id, role, namespaces FROM policy.token
            WHERE secret_hash = $1 AND revoked_at IS NULL
              AND (expires_at IS NULL OR expires_at > public.fased_now())""",
        hash_of(secret),
    )
    if row is None:
        return None
    return Caller(f"{row['namespace']}/{row['id']}", Role(row["role"]), tuple(row["namespaces"]))


async def list_all(conn: AsyncConnection, namespace: Namespace) -> list[Token]:
    """A namespace's tokens in the order they were made."""
    rows = await conn.execute(
        select(token).where(token.c.namespace == namespace).order_by(token.c.created_at, token.c.id)
    )
    return [_token(row) for row in rows]


async def revoke(conn: AsyncConnection, namespace: Namespace, token_id: str) -> bool:
    """End a token at once; False when there is none."""
    result = await conn.execute(
        update(token)
        .where(token.c.namespace == namespace, token.c.id == token_id)
        .values(revoked_at=func.coalesce(token.c.revoked_at, func.public.fased_now()))
    )
    return result.rowcount > 0


def _values(new: Token, secret: str) -> dict[str, Any]:
    return {
        "namespace": new.namespace,
        "id": new.id,
        "secret_hash": hash_of(secret),
        "role": int(new.role),
        "namespaces": list(new.namespaces),
        "expires_at": new.expires_at,
    }


def _token(row: Row[Any]) -> Token:
    created_at: datetime = row.created_at
    return Token(
        namespace=Namespace(row.namespace),
        id=row.id,
        role=Role(row.role),
        namespaces=tuple(row.namespaces),
        created_at=created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
