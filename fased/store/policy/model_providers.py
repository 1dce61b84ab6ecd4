"""Model providers in rows. Functions take a driver connection; the caller owns the transaction.

Each namespace has few: all of them are read at once.
"""

import json

import asyncpg

from fased.core.model_providers import ModelProvider, ProviderDefinition
from fased.core.names import Namespace
from fased.store import codec
from fased.store.database import Connection

_SELECT = """SELECT namespace, id, definition, managed_by, created_at, updated_at
               FROM policy.model_provider"""


def in_order_of_age(namespace: str) -> str:
    """SQL for the providers of the namespace that an expression names: `from_json` reads it."""
    return f"""(SELECT json_agg(json_build_array(p.id, p.definition) ORDER BY p.created_at, p.id)
                  FROM policy.model_provider p WHERE p.namespace = {namespace})::text"""


def from_json(namespace: Namespace, text: str | None) -> tuple[ModelProvider, ...]:
    """The providers of a namespace that `in_order_of_age` gave."""
    return tuple(
        ModelProvider(namespace, provider_id, codec.from_jsonable(ProviderDefinition, definition))
        for provider_id, definition in json.loads(text or "[]")
    )


async def list_all(conn: Connection, namespace: Namespace) -> list[ModelProvider]:
    """A namespace's providers by id."""
    rows = await conn.fetch(f"{_SELECT} WHERE namespace = $1 ORDER BY id", namespace)
    return [_provider(row) for row in rows]


async def lock_all(conn: Connection, namespace: Namespace) -> dict[str, ModelProvider]:
    """A namespace's providers by id, held for an edit."""
    rows = await conn.fetch(f"{_SELECT} WHERE namespace = $1 ORDER BY id FOR UPDATE", namespace)
    return {row["id"]: _provider(row) for row in rows}


async def put(conn: Connection, provider: ModelProvider) -> bool:
    """Store a provider, new or changed; False where another owner has just made it."""
    stored = await conn.fetchval(
        """INSERT INTO policy.model_provider AS p (namespace, id, definition, managed_by)
           VALUES ($1, $2, $3, $4)
           ON CONFLICT (namespace, id) DO UPDATE
           SET definition = excluded.definition, managed_by = excluded.managed_by,
               updated_at = public.fased_now()
           WHERE p.managed_by IN ('', excluded.managed_by)
           RETURNING true""",
        provider.namespace,
        provider.id,
        codec.dump(provider.definition),
        provider.managed_by,
    )
    return bool(stored)


async def remove(conn: Connection, namespace: Namespace, provider_id: str) -> None:
    """Remove a provider."""
    await conn.execute(
        "DELETE FROM policy.model_provider WHERE namespace = $1 AND id = $2",
        namespace,
        provider_id,
    )


def _provider(row: "asyncpg.Record") -> ModelProvider:
    return ModelProvider(
        namespace=Namespace(row["namespace"]),
        id=row["id"],
        definition=codec.load(ProviderDefinition, row["definition"]),
        managed_by=row["managed_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
