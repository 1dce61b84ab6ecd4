"""Alembic's entry: one connection, one transaction a revision, held under one advisory lock."""

import asyncio

from alembic import context
from sqlalchemy import Connection, make_url, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

# Two migrations at once wait for each other instead of colliding; the number is arbitrary.
_LOCK = 746_001


def _run(connection: Connection) -> None:
    # A migration under way is waited for; a table in use is not, lest all others wait for us.
    connection.execute(text("SET lock_timeout = '280s'"))
    connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
    connection.execute(text("SET lock_timeout = '10s'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def _main() -> None:
    url = make_url(context.config.attributes["url"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"server_settings": {"statement_timeout": "300s"}},
    )
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_main())
