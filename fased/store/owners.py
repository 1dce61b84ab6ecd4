"""The owners of rows: files and custom resources, each with the generation it applied last.

Decides that applies of one owner come one after the other. One table shape stands in the schema of
every service whose rows have owners; functions take a driver's connection, and the caller owns the
transaction.
"""

from dataclasses import dataclass
from enum import StrEnum

from fased.core.names import Namespace
from fased.core.owners import check_generation, checked_owner
from fased.store.database import Connection


class Owned(StrEnum):
    """What an owner may define; each kind has owners and generations of its own."""

    AGENTS = "agents"
    MODEL_PROVIDERS = "model-providers"
    ROUTING = "routing"
    GATES = "gates"
    ACCOUNTS = "accounts"
    TASKS = "tasks"


_SCHEMAS = {
    Owned.AGENTS: "policy",
    Owned.MODEL_PROVIDERS: "policy",
    Owned.ROUTING: "router",
    Owned.GATES: "router",
    Owned.ACCOUNTS: "channels",
    Owned.TASKS: "scheduler",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who defines rows of a namespace; `generation` 0 where it has none."""

    namespace: Namespace
    managed_by: str
    generation: int


async def claim(
    conn: Connection, owned: Owned, namespace: Namespace, managed_by: str, generation: int
) -> None:
    """Hold an owner until the transaction ends, and note its generation.

    Raises InvalidArgument for what is no owner, Aborted (STALE_GENERATION) when a later generation
    stands. Take it before any other lock.
    """
    applied = await conn.fetchval(
        f"""INSERT INTO {_SCHEMAS[owned]}.owner AS o (kind, namespace, managed_by, generation)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (kind, namespace, managed_by)
            DO UPDATE SET generation = greatest(o.generation, excluded.generation)
            RETURNING generation""",
        owned.value,
        namespace,
        checked_owner(managed_by),
        max(generation, 0),
    )
    check_generation(generation, applied)


async def forget(conn: Connection, owned: Owned, namespace: Namespace, managed_by: str) -> None:
    """Forget an owner that was claimed and defines nothing any more."""
    await conn.execute(
        f"""DELETE FROM {_SCHEMAS[owned]}.owner
             WHERE kind = $1 AND namespace = $2 AND managed_by = $3""",
        owned.value,
        namespace,
        managed_by,
    )


async def list_after(
    conn: Connection, owned: Owned, prefix: str, after: tuple[str, str], limit: int
) -> list[Owner]:
    """Owners of all namespaces whose name begins with `prefix`, by namespace and name.

    By primary key, after a namespace and a name; both are `""` for the first.
    """
    rows = await conn.fetch(
        f"""SELECT namespace, managed_by, generation FROM {_SCHEMAS[owned]}.owner
             WHERE kind = $1 AND (namespace, managed_by) > ($2, $3)
               AND starts_with(managed_by, $4)
             ORDER BY namespace, managed_by LIMIT $5""",
        owned.value,
        *after,
        prefix,
        limit,
    )
    return [
        Owner(Namespace(row["namespace"]), row["managed_by"], row["generation"]) for row in rows
    ]
