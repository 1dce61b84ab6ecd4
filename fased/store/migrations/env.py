"""Alembic's entry: one connection, one transaction a revision, held under one advisory lock."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, pool, text
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
    url = context.config.attributes["url"]
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # The driver reads the URL itself: SQLAlchemy knows no `sslmode` and the like.
        async_creator=lambda: asyncpg.connect(url, server_settings={"statement_timeout": "300s"}),
        poolclass=pool.NullPool,
    )
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_main())
