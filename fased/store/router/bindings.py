"""Bindings, session policy and routing options in rows, under one version a namespace.

Decides the places that bindings take in the order; not what may be changed by whom.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.bindings import COMMAND_POSITION, Binding
from fased.core.names import Namespace
from fased.core.route_table import RoutingOptions
from fased.core.sessions import SessionPolicy
from fased.store import codec
from fased.store.tables.router import binding, routing


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """A binding with its owner."""

    binding: Binding
    managed_by: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The session policy and the options of a namespace, with who names them."""

    session: SessionPolicy = field(default_factory=SessionPolicy)
    options: RoutingOptions = field(default_factory=RoutingOptions)
    managed_by: str = ""


@dataclass(frozen=True, slots=True)
class Routing:
    """A namespace's rules as they stand; `version` moves with every change."""

    version: int
    bindings: tuple[StoredBinding, ...]
    settings: Settings


async def version(conn: AsyncConnection, namespace: Namespace) -> int:
    """The version of a namespace's rules, 0 when it never had any."""
    query = select(routing.c.version).where(routing.c.namespace == namespace)
    return (await conn.execute(query)).scalar_one_or_none() or 0


async def lock(conn: AsyncConnection, namespace: Namespace) -> int:
    """The version, held so that changes of one namespace come one after the other."""
    await conn.execute(insert(routing).values(namespace=namespace).on_conflict_do_nothing())
    query = select(routing.c.version).where(routing.c.namespace == namespace).with_for_update()
    return int((await conn.execute(query)).scalar_one())


async def read(conn: AsyncConnection, namespace: Namespace) -> Routing:
    """All rules of a namespace, in the order that decides.

    Without the lock, the bindings may be newer than the version, and never older.
    """
    head = (
        await conn.execute(select(routing).where(routing.c.namespace == namespace))
    ).one_or_none()
    rows = await conn.execute(
        select(binding)
        .where(binding.c.namespace == namespace)
        .order_by(binding.c.position, binding.c.created_at, binding.c.id)
    )
    if head is None:
        return Routing(0, tuple(map(_stored, rows)), Settings())
    settings = Settings(
        codec.load(SessionPolicy, head.session),
        codec.from_jsonable(RoutingOptions, head.options),
        head.settings_managed_by,
    )
    return Routing(head.version, tuple(map(_stored, rows)), settings)


async def put(conn: AsyncConnection, namespace: Namespace, stored: StoredBinding) -> StoredBinding:
    """Store a binding under its id, new or changed; gives it with the instant it was made.

    That is now for a new one, unless it says when.
    """
    values: dict[str, Any] = {
        "position": stored.binding.position,
        "agent_id": stored.binding.agent_id,
        "match": codec.to_jsonable(replace(stored.binding, id="", position=0, created_at=None)),
        "managed_by": stored.managed_by,
    }
    if stored.binding.created_at is not None:
        values["created_at"] = stored.binding.created_at
    row = await conn.execute(
        insert(binding)
        .values(namespace=namespace, id=stored.binding.id, **values)
        .on_conflict_do_update(index_elements=["namespace", "id"], set_=values)
        .returning(binding)
    )
    return _stored(row.one())


async def remove(conn: AsyncConnection, namespace: Namespace, ids: Sequence[str]) -> None:
    """Remove bindings by id."""
    await conn.execute(
        delete(binding).where(binding.c.namespace == namespace, binding.c.id.in_(ids))
    )


async def set_settings(conn: AsyncConnection, namespace: Namespace, settings: Settings) -> None:
    """Set the session policy and the options of a locked namespace."""
    await conn.execute(
        update(routing)
        .where(routing.c.namespace == namespace)
        .values(
            session=codec.dump(settings.session),
            options=codec.to_jsonable(settings.options),
            settings_managed_by=settings.managed_by,
        )
    )


async def next_version(conn: AsyncConnection, namespace: Namespace) -> int:
    """Count the version of a locked namespace up."""
    query = (
        update(routing)
        .where(routing.c.namespace == namespace)
        .values(version=routing.c.version + 1)
        .returning(routing.c.version)
    )
    return int((await conn.execute(query)).scalar_one())


async def next_position(conn: AsyncConnection, namespace: Namespace) -> int:
    """The place after the last binding that was made by command."""
    last = func.max(binding.c.position)
    query = select(func.coalesce(last + 1, COMMAND_POSITION)).where(
        binding.c.namespace == namespace, binding.c.position >= COMMAND_POSITION
    )
    return int((await conn.execute(query)).scalar_one())


def _stored(row: Row[Any]) -> StoredBinding:
    matched = codec.from_jsonable(Binding, {**row.match, "id": "", "position": 0})
    return StoredBinding(
        replace(
            matched,
            id=row.id,
            position=row.position,
            agent_id=row.agent_id,
            created_at=row.created_at,
        ),
        row.managed_by,
    )
