"""Brings a database's schemas up to date. Decides nothing about their shape (`migrations/`)."""

import asyncio
import sys
from importlib import resources

import asyncpg
import structlog

from fased.core.errors import FailedPrecondition
from fased.store import database

logger = structlog.get_logger(__name__)

_VERSIONS = "fased.store.migrations.versions"


def head_revision() -> str:
    """The newest revision this code knows: the number its file's name begins with."""
    names = (entry.name for entry in resources.files(_VERSIONS).iterdir())
    return max(name.split("_")[0] for name in names if name[:4].isdigit())


async def current_revision(url: str) -> str:
    """The revision the database is at; empty when it was never migrated."""
    conn = await database.connect(url, name="fased-migrate")
    try:
        revision = await conn.fetchval("SELECT version_num FROM public.alembic_version")
        return str(revision or "")
    except asyncpg.UndefinedTableError:
        return ""
    finally:
        await conn.close()


async def upgrade(url: str) -> bool:
    """Bring the database at `url` to the head revision; says whether anything was to do.

    Alembic runs in a process of its own: it is only needed here, and would stay in memory.
    Raises FailedPrecondition with Alembic's own last words.
    """
    if await current_revision(url) == head_revision():
        return False
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fased.store.migrations", url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, stderr = await process.communicate()
    if process.returncode:
        last_words = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        last_words = last_words or f"Alembic ended with {process.returncode}"
        logger.error("migration_failed", output=stderr.decode(errors="replace")[-4000:])
        raise FailedPrecondition(
            f"the database could not be migrated: {last_words[:300]}", reason="MIGRATION_FAILED"
        )
    return True
