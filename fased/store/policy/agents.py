"""Agents in rows. Functions take a connection; the caller owns the transaction."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
from sqlalchemy import Row, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.agents import Agent, AgentDefinition
from fased.core.model_providers import ModelProvider, default_model
from fased.core.names import AgentId, Namespace
from fased.store import codec
from fased.store.database import Connection
from fased.store.policy import model_providers
from fased.store.tables.policy import agent, agent_revision, namespace_default


@dataclass(frozen=True, slots=True)
class Standing:
    """An Agent, None where there is none, and what its namespace says of models.

    `default_model` is what Agents without a model use, `""` for none; `providers` are the
    namespace's own, by age.
    """

    agent: Agent | None
    default_model: str
    providers: tuple[ModelProvider, ...]


async def get(
    conn: AsyncConnection, namespace: Namespace, agent_id: AgentId, *, lock: bool = False
) -> Agent | None:
    """One Agent by primary key; `lock` holds its row for an edit."""
    query = select(agent).where(agent.c.namespace == namespace, agent.c.id == agent_id)
    row = (await conn.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _agent(row)


async def for_runs(
    conn: Connection, wanted: Collection[tuple[Namespace, AgentId]]
) -> dict[tuple[Namespace, AgentId], Standing]:
    """Agents, and what their namespaces say of models, in one round trip: every run asks."""
    rows = await conn.fetch(
        f"""SELECT asked.namespace AS asked_namespace, asked.id AS asked_id, a.namespace, a.id,
                  a.revision, a.definition, a.managed_by, a.created_at, a.updated_at,
                  d.model AS default_model,
                  {model_providers.in_order_of_age("asked.namespace")} AS providers
             FROM unnest($1::text[], $2::text[]) AS asked(namespace, id)
             LEFT JOIN policy.agent a ON a.namespace = asked.namespace AND a.id = asked.id
             LEFT JOIN policy.namespace_default d ON d.namespace = asked.namespace""",
        [namespace for namespace, _ in wanted],
        [agent_id for _, agent_id in wanted],
    )
    found = {}
    for row in rows:
        namespace = Namespace(row["asked_namespace"])
        providers = model_providers.from_json(namespace, row["providers"])
        found[namespace, AgentId(row["asked_id"])] = Standing(
            None if row["id"] is None else _of_row(row),
            default_model(row["default_model"] or "", providers),
            providers,
        )
    return found


async def list_after(
    conn: AsyncConnection, namespace: Namespace, position: int, limit: int
) -> list[tuple[int, Agent]]:
    """Agents in the order they were made, with their positions, after `position`."""
    rows = await conn.execute(
        select(agent)
        .where(agent.c.namespace == namespace, agent.c.position > position)
        .order_by(agent.c.position)
        .limit(limit)
    )
    return [(row.position, _agent(row)) for row in rows]


async def owned_by(conn: AsyncConnection, namespace: Namespace, managed_by: str) -> list[Agent]:
    """All Agents of one owner, locked for an edit."""
    rows = await conn.execute(
        select(agent)
        .where(agent.c.namespace == namespace, agent.c.managed_by == managed_by)
        .order_by(agent.c.id)
        .with_for_update()
    )
    return [_agent(row) for row in rows]


async def create(conn: AsyncConnection, new: Agent) -> Agent | None:
    """Store a new Agent's first revision; None when the id is taken.

    It follows the last one of an Agent that had the id before: runs may refer to those.
    """
    last = (
        select(func.coalesce(func.max(agent_revision.c.revision), 0))
        .where(agent_revision.c.namespace == new.namespace, agent_revision.c.id == new.id)
        .scalar_subquery()
    )
    row = (
        await conn.execute(
            upsert(agent)
            .values(
                namespace=new.namespace,
                id=new.id,
                revision=last + 1,
                definition=_json(new.definition),
                managed_by=new.managed_by,
            )
            .on_conflict_do_nothing()
            .returning(agent)
        )
    ).one_or_none()
    if row is None:
        return None
    await _keep_revision(conn, _agent(row))
    return _agent(row)


async def replace_definition(conn: AsyncConnection, changed: Agent) -> Agent:
    """Store a new revision of a locked Agent."""
    row = (
        await conn.execute(
            update(agent)
            .where(agent.c.namespace == changed.namespace, agent.c.id == changed.id)
            .values(
                revision=agent.c.revision + 1,
                definition=_json(changed.definition),
                managed_by=changed.managed_by,
                updated_at=func.public.fased_now(),
            )
            .returning(agent)
        )
    ).one()
    await _keep_revision(conn, _agent(row))
    return _agent(row)


async def remove(conn: AsyncConnection, namespace: Namespace, agent_id: AgentId) -> None:
    """Remove an Agent; its revisions stay, since runs refer to them."""
    await conn.execute(delete(agent).where(agent.c.namespace == namespace, agent.c.id == agent_id))


async def defaults_but(
    conn: AsyncConnection, namespace: Namespace, agent_id: AgentId
) -> list[Agent]:
    """The Agents that are marked default beside one, held for an edit."""
    rows = await conn.execute(
        select(agent)
        .where(
            agent.c.namespace == namespace,
            agent.c.id != agent_id,
            agent.c.definition["is_default"].as_boolean(),
        )
        .order_by(agent.c.id)
        .with_for_update()
    )
    return [_agent(row) for row in rows]


async def clear_default(conn: AsyncConnection, namespace: Namespace, keep: AgentId) -> None:
    """Let no Agent but `keep` be marked default."""
    for old in await defaults_but(conn, namespace, keep):
        definition = replace(old.definition, is_default=False)
        await replace_definition(conn, replace(old, definition=definition))


async def model_of_namespace(conn: AsyncConnection, namespace: Namespace) -> str:
    """The model of Agents without one; empty when none is set."""
    row = await conn.execute(
        text(
            f"""SELECT (SELECT model FROM policy.namespace_default WHERE namespace = :namespace),
                       {model_providers.in_order_of_age(":namespace")}"""
        ),
        {"namespace": namespace},
    )
    named, providers = row.one()
    return default_model(named or "", model_providers.from_json(namespace, providers))


async def set_default_model(
    conn: AsyncConnection, namespace: Namespace, model: str, managed_by: str
) -> None:
    """Set the model of Agents without one."""
    values = {"model": model, "managed_by": managed_by}
    await conn.execute(
        upsert(namespace_default)
        .values(namespace=namespace, **values)
        .on_conflict_do_update(index_elements=["namespace"], set_=values)
    )


async def _keep_revision(conn: AsyncConnection, stored: Agent) -> None:
    await conn.execute(
        insert(agent_revision).values(
            namespace=stored.namespace,
            id=stored.id,
            revision=stored.revision,
            definition=_json(stored.definition),
        )
    )


def _json(definition: AgentDefinition) -> Any:
    return codec.to_jsonable(definition)


def _of_row(row: asyncpg.Record) -> Agent:
    return Agent(
        namespace=Namespace(row["namespace"]),
        id=AgentId(row["id"]),
        definition=codec.load(AgentDefinition, row["definition"]),
        revision=row["revision"],
        managed_by=row["managed_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _agent(row: Row[Any]) -> Agent:
    return Agent(
        namespace=Namespace(row.namespace),
        id=AgentId(row.id),
        definition=codec.from_jsonable(AgentDefinition, row.definition),
        revision=row.revision,
        managed_by=row.managed_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
