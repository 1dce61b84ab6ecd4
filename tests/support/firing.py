"""Tasks that are due at one moment, and schedulers as processes that fire them.

Decides how tasks are made many and what is read of their slots; nobody carries runs out, so that
a task's first run lives on and its later slots are skipped by rows of history.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from fased.core.names import AgentId, Namespace, SessionKey, TaskId
from fased.core.runs import ExecutionMode
from fased.core.tasks import Task, TriggerKind, TriggerSpec
from fased.store import migrate, tasks
from tests.support.member import Member, bare_environment
from tests.support.postgres import temporary_folder
from tests.support.postgres15 import Postgres, temporary_cluster_postgres

SCHEDULERS = 2
POLL_PERIOD_S = 0.05
# The others are as the first, by another id.
_MULTIPLY = """
WITH made AS (
  INSERT INTO scheduler.task (namespace, id, name, agent_id, session_key, spec, state, created_at)
  SELECT namespace, gen_random_uuid(), name || ' ' || n, agent_id, session_key, spec, state,
         created_at
    FROM scheduler.task t, generate_series(2, $2::int) n WHERE t.id = $1 RETURNING id)
INSERT INTO scheduler.task_due (task_id, gen, namespace, next_at)
SELECT made.id, d.gen, d.namespace, d.next_at FROM made, scheduler.task_due d WHERE d.task_id = $1
"""
_DEALT = """
WITH key AS (
  SELECT split_part(split_part(key, ':', 2), '@', 1)::uuid AS task_id, array_agg(key) AS keys
    FROM scheduler.enqueue_key GROUP BY 1),
run AS (SELECT task_id, count(*) AS runs FROM scheduler.run GROUP BY 1),
gap AS (SELECT task_id, sum(slot_count)::bigint AS passed FROM scheduler.run_history GROUP BY 1)
SELECT task_id, d.last_slot, key.keys, coalesce(run.runs, 0) AS runs,
       coalesce(gap.passed, 0) AS passed
  FROM scheduler.task_due d LEFT JOIN key USING (task_id) LEFT JOIN run USING (task_id)
  LEFT JOIN gap USING (task_id)
"""
_LAGS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - $1::timestamptz)::float8 AS lag_s
FROM scheduler.enqueue_key ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What became of one task's slots: those that fired, the live runs, how many were passed."""

    task_id: uuid.UUID
    last_slot: datetime
    fired: Sequence[str]
    runs: int
    passed: int


@dataclass(frozen=True, slots=True)
class Schedulers:
    """Replicas on one database."""

    members: Sequence[Member]
    postgres: Postgres
    conn: "asyncpg.Connection[asyncpg.Record]"

    async def add_tasks(self, count: int, period: timedelta, due_in: timedelta) -> datetime:
        """So many tasks, all of them due at the moment that this gives, and every period then."""
        now: datetime = await self.conn.fetchval("SELECT public.fased_now()")
        slot = (now + due_in).replace(microsecond=0)
        task = Task(
            namespace=Namespace("default"),
            id=TaskId(str(uuid.uuid4())),
            name="Tick",
            agent_id=AgentId("main"),
            session_key=SessionKey("agent:main:main"),
            prompt="tick",
            trigger=TriggerSpec(TriggerKind.EVERY, f"{period.total_seconds():.0f}s"),
            # No model: each task's lane is its own.
            mode=ExecutionMode.NO_MODEL,
            created_at=slot - period,
            next_at=slot,
        )
        async with self.conn.transaction():
            await tasks.insert(self.conn, task, "")
            await self.conn.execute(_MULTIPLY, uuid.UUID(task.id), count)
        await self.conn.execute("ANALYZE")
        return slot

    async def until_fired(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many runs are there."""

        async def fired() -> bool:
            return await self._count("SELECT count(*) FROM scheduler.enqueue_key") >= count

        await _until(fired, timeout_s)

    async def until_dealt(self, slot: datetime, timeout_s: float = 60) -> None:
        """Wait until the slots of all tasks up to this one were dealt with."""

        async def dealt() -> bool:
            late = "SELECT count(*) FROM scheduler.task_due WHERE last_slot < $1"
            return await self._count(late, slot) == 0

        await _until(dealt, timeout_s)

    async def dealt(self) -> list[Dealt]:
        """How the slots of all tasks were dealt with so far."""
        rows = await self.conn.fetch(_DEALT)
        return [
            Dealt(row["task_id"], row["last_slot"], row["keys"] or (), row["runs"], row["passed"])
            for row in rows
        ]

    async def lags_s(self, slot: datetime) -> list[float]:
        """How long after this slot each run was there for others to see, ascending."""
        return [row["lag_s"] for row in await self.conn.fetch(_LAGS, slot)]

    async def _count(self, query: str, *arguments: object) -> int:
        return int(await self.conn.fetchval(query, *arguments))


@asynccontextmanager
async def schedulers() -> AsyncIterator[Schedulers]:
    """Replicas that serve, on a server of their own; all gone after the block."""
    with temporary_folder() as folder, temporary_cluster_postgres() as postgres:
        await _note_commits(postgres)
        await migrate.upgrade(postgres.dsn)
        members = [
            Member("scheduler", folder / f"scheduler-{number}.log") for number in range(SCHEDULERS)
        ]
        conn = await asyncpg.connect(postgres.dsn)
        try:
            for member in members:
                await member.start(
                    {
                        **bare_environment(),
                        "FASED_DATABASE_URL": postgres.dsn,
                        "FASED_SERVICE_TOKEN": "a-service-token-of-tests",
                    }
                )
            for member in members:
                await member.until_serving()
            yield Schedulers(members, postgres, conn)
        finally:
            await conn.close()
            for member in members:
                await member.end()


async def _until(holds: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 (it is in other processes)
            await asyncio.sleep(POLL_PERIOD_S)


async def _note_commits(postgres: Postgres) -> None:
    conn = await asyncpg.connect(postgres.dsn)
    await conn.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    await conn.close()
    await postgres.stop_immediate()
    await postgres.restart()
