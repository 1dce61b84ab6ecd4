"""Connections for the scheduler's calls and loops. Decides how long to wait for one, and that a
failure of the database is told in our own words.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from fased.core.errors import InvalidArgument, ResourceExhausted
from fased.store import database, transient
from fased.store.database import Connection

ACQUIRE_TIMEOUT_S = 5.0


@asynccontextmanager
async def pooled(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Connection]:
    """A connection of the pool, in no transaction.

    Raises ResourceExhausted when none comes free in time, Unavailable when the database is away,
    and InvalidArgument for a text that no column can hold.
    """
    try:
        conn = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
    except TimeoutError:
        raise ResourceExhausted(
            "the scheduler is busy; try again in a moment", reason="SCHEDULER_BUSY"
        ) from None
    except transient.DRIVER_ERRORS as exc:
        raise database.unavailable(exc) from exc
    try:
        yield conn
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError) as exc:
        raise InvalidArgument(
            "a text holds a zero character", reason="ZERO_CHARACTER", metadata={"field": ""}
        ) from exc
    except transient.DRIVER_ERRORS as exc:
        if not transient.is_transient(exc):
            raise
        raise database.unavailable(exc) from exc
    finally:
        await pool.release(conn)


@asynccontextmanager
async def transaction(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Connection]:
    """As `pooled`, in one transaction."""
    async with pooled(pool) as conn, conn.transaction():
        yield conn
