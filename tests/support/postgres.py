"""A real PostgreSQL for tests: one server a run, one fresh database a test, private ones to crash.

`FASED_TEST_POSTGRES` (a DSN that may create databases) points the tests at a server that is there;
else the embedded binaries run in a temporary folder, by the same code as `fased up`.
"""

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from cli import postgres, postgres_home, statefolder
from fased.store import migrate

T = TypeVar("T")

# The databases of a test run are thrown away: no write of theirs need survive the machine.
_THROWAWAY = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
_numbers = itertools.count(1)


class PrivatePostgres:
    """A server of a test's own, to stop in hard ways; survives nothing but the test module."""

    def __init__(self, server: postgres.Server) -> None:
        self.server = server
        self.dsn = server.dsn

    async def restart(self) -> None:
        """Start it again after any stop; returns when it takes connections."""
        await self.server.start()

    async def stop_immediate(self) -> None:
        """As `pg_ctl stop -m immediate`: no checkpoint, recovery at the next start."""
        await self.server.stop(signal.SIGQUIT)

    async def stop_fast(self) -> None:
        """As `pg_ctl stop -m fast`: open transactions are rolled back."""
        await self.server.stop()

    async def kill(self) -> None:
        """Kill -9 its first process; returns when that is gone (its children soon follow)."""
        await self.server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The server of this run: a DSN that may create databases."""
    given = os.environ.get("FASED_TEST_POSTGRES")
    if given:
        yield given
        return
    with temporary_server(_THROWAWAY) as server:
        yield server.dsn


@pytest.fixture(scope="session")
def migrated_template(postgres_dsn: str) -> Iterator[str]:
    """The name of a database with our schemas and no rows, to make others from."""
    name = f"fased_template_{os.getpid()}"
    statement(postgres_dsn, f"CREATE DATABASE {name}")
    try:
        blocking(migrate.upgrade(with_database(postgres_dsn, name)))
        yield name
    finally:
        statement(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_dsn: str, migrated_template: str) -> Iterator[str]:
    """A DSN of a fresh, migrated database, dropped after the test whoever is connected."""
    name = f"fased_test_{os.getpid()}_{next(_numbers)}"
    statement(
        postgres_dsn, f"CREATE DATABASE {name} TEMPLATE {migrated_template} STRATEGY FILE_COPY"
    )
    try:
        yield with_database(postgres_dsn, name)
    finally:
        statement(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def private_postgres() -> Iterator[PrivatePostgres]:
    """A server for one test module, its database `fased` migrated and empty, writes durable."""
    with temporary_server() as server:
        blocking(migrate.upgrade(server.dsn))
        yield PrivatePostgres(server)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path that another user may enter, as a server of root's must."""
    base = Path(tempfile.mkdtemp(prefix="fased-test-", dir="/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


@contextmanager
def temporary_server(overrides: dict[str, str] | None = None) -> Iterator[postgres.Server]:
    """A started server with a data directory of its own; both are gone after the block."""
    with temporary_folder() as base, statefolder.locked(base / "state") as folder:
        server = postgres.Server(postgres_home.place(folder, base / "system"), overrides)
        try:
            blocking(server.start())
            yield server
        finally:
            blocking(server.stop())


def remove_database(state_dir: Path) -> None:
    """Stop what a killed `fased up` left running on a state folder, and remove its data.

    Root's data lie outside the state folder, where no temporary folder's end takes them along.
    """

    async def stop(folder: statefolder.StateFolder) -> Path:
        async with postgres.running(folder) as server:
            return server.home.path

    with statefolder.locked(state_dir) as folder:
        shutil.rmtree(blocking(stop(folder)))
        (folder / postgres_home.POINTER).unlink(missing_ok=True)


def with_database(dsn: str, name: str) -> str:
    """The same server and role, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def statement(dsn: str, sql: str) -> None:
    """Run one statement outside a transaction."""

    async def run() -> None:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    blocking(run())


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a synchronous fixture, on a loop that no test shares."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
