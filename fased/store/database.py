"""Connections to PostgreSQL. Decides pools, timeouts and how a driver connection is reached; runs
no statement of its own.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fased.core.errors import FasedError, ResourceExhausted, Unavailable
from fased.store import transient

# A driver's connection, of its own or out of a pool.
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 20.0
# A disk or a bound was reached: less, or later (PostgreSQL's class 53).
_EXHAUSTED = re.compile(r"53[0-9A-Z]{3}\Z")
_SERVER_SETTINGS = {
    "application_name": "fased",
    "jit": "off",
    # What the queue reads is in memory: it goes by index (performance §3, law 14).
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "statement_timeout": "20s",
    "lock_timeout": "10s",
    # A process that stands still inside a transaction holds up the others no longer than this.
    "idle_in_transaction_session_timeout": "10s",
}


@dataclass(frozen=True, slots=True)
class Database:
    """The pools of one process.

    `engine` serves lists and edits; `queue` the run queue's claims and completes; `heartbeat`
    only heartbeats, so that a busy queue never loses a lease for want of a connection.
    """

    url: str
    engine: AsyncEngine
    queue: "asyncpg.Pool[asyncpg.Record]"
    heartbeat: "asyncpg.Pool[asyncpg.Record]"


@asynccontextmanager
async def open_database(
    url: str, *, api_size: int = 8, queue_size: int = 6
) -> AsyncIterator[Database]:
    """The pools for the server at `url` (`postgresql://…`), closed on the way out.

    Raises Unavailable when the server cannot be reached.
    """

    async def connected() -> "asyncpg.Connection[asyncpg.Record]":
        # The driver reads the URL itself: SQLAlchemy knows no `sslmode` and the like.
        return await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=_SERVER_SETTINGS,
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connected,
        pool_size=api_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        # A failed statement must not quote what somebody wrote.
        hide_parameters=True,
    )
    try:
        async with (
            _pool(url, queue_size, "queue") as queue,
            _pool(url, 2, "heartbeat") as heartbeat,
        ):
            yield Database(url, engine, queue, heartbeat)
    finally:
        await engine.dispose()


async def connect(url: str, *, name: str = "fased") -> "asyncpg.Connection[asyncpg.Record]":
    """One connection of its own, for listening; raises Unavailable."""
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            server_settings={**_SERVER_SETTINGS, "application_name": name},
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise unavailable(exc) from exc


async def driver(conn: AsyncConnection) -> "asyncpg.Connection[asyncpg.Record]":
    """The asyncpg connection under `conn`, inside `conn`'s transaction.

    SQLAlchemy begins lazily, so one statement goes first: without it the driver's own statements
    would commit one by one.
    """
    await conn.execute(text("SELECT 1"))
    raw = await conn.get_raw_connection()
    return raw.driver_connection


def unavailable(exc: BaseException) -> Unavailable | ResourceExhausted:
    """A database failure in our own words: what is full, or that it cannot be reached."""
    original = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or ""
    if _EXHAUSTED.match(state):
        return ResourceExhausted(
            "the database has no room or no connection left; free some, then try again",
            reason="DATABASE_EXHAUSTED",
            metadata={"sqlstate": state},
        )
    return Unavailable(
        "the database does not answer; try again in a moment",
        reason="DATABASE_UNAVAILABLE",
        metadata={"sqlstate": state},
    )


def translate(exc: Exception) -> FasedError | None:
    """Our error for a database failure that may pass, None for anything else."""
    if isinstance(exc, (DBAPIError, *transient.DRIVER_ERRORS)) and transient.is_transient(exc):
        return unavailable(exc)
    return None


def log_fields(exc: Exception) -> dict[str, object]:
    """What a log line says of a failure: its reason where it may pass, its trace where not."""
    known = exc if isinstance(exc, FasedError) else translate(exc)
    if known is None:
        return {"exc_info": exc}
    return {"reason": known.reason, "error": repr(exc)}


@asynccontextmanager
async def _pool(url: str, size: int, name: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**_SERVER_SETTINGS, "application_name": f"fased-{name}"},
            reset=_keep_session,
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise unavailable(exc) from exc
    try:
        yield pool
    finally:
        await pool.close()


async def _keep_session(conn: object) -> None:
    """No round trip to reset what no statement here ever changes."""
