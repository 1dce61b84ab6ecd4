"""The migrations on a real PostgreSQL: what they make, twice, and two at once."""

import asyncio
import os
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from fased.core.errors import FailedPrecondition
from fased.store import database, migrate, tables
from fased.store.tables.metadata import metadata
from tests.support.postgres import statement, with_database


@pytest.fixture
def empty_url(postgres_dsn: str) -> Iterator[str]:
    """A database without anything of ours."""
    name = f"fased_empty_{os.getpid()}"
    statement(postgres_dsn, f"CREATE DATABASE {name}")
    try:
        yield with_database(postgres_dsn, name)
    finally:
        statement(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_schemas_after_an_upgrade_from_empty_are_the_tables_in_code(
    empty_url: str,
) -> None:
    assert await migrate.upgrade(empty_url)
    assert await differences(empty_url) == []


async def test_a_second_upgrade_does_nothing(empty_url: str) -> None:
    assert await migrate.current_revision(empty_url) == ""
    assert await migrate.upgrade(empty_url)
    assert await migrate.current_revision(empty_url) == migrate.head_revision()
    assert not await migrate.upgrade(empty_url)


async def test_two_upgrades_at_once_wait_for_each_other(empty_url: str) -> None:
    await asyncio.gather(migrate.upgrade(empty_url), migrate.upgrade(empty_url))
    assert await migrate.current_revision(empty_url) == migrate.head_revision()
    assert await differences(empty_url) == []


async def test_a_failed_upgrade_leaves_the_revision_before_and_says_why(empty_url: str) -> None:
    conn = await database.connect(empty_url)
    await conn.execute("CREATE SCHEMA router; CREATE TABLE router.session (mine text)")
    await conn.close()
    with pytest.raises(FailedPrecondition, match='schema "router" already exists'):
        await migrate.upgrade(empty_url)
    assert await migrate.current_revision(empty_url) == "0003"


async def differences(url: str) -> list[object]:
    """What Alembic would change to make the database what the code says."""
    for module in pkgutil.iter_modules(tables.__path__):
        import_module(f"{tables.__name__}.{module.name}")
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as conn:
            return await conn.run_sync(_differences)
    finally:
        await engine.dispose()


def _differences(connection: Connection) -> list[object]:
    schemas = {table.schema for table in metadata.tables.values()}
    partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))

    def include_name(name: str | None, kind: str, parents: object) -> bool:
        if kind == "schema":
            return name in schemas
        return name not in partitions

    def include_object(
        found: object, name: str | None, kind: str, is_reflected: bool, other: object
    ) -> bool:
        # Most indexes stand in the SQL alone: no statement names them.
        return not (kind == "index" and is_reflected and other is None)

    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": include_name,
            "include_object": include_object,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
    return list(compare_metadata(context, metadata))
