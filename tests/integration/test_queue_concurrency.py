"""Everything at once on many connections: it ends, nothing is lost, and nothing deadlocks."""

import asyncio
import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fased.core.errors import FailedPrecondition, FasedError
from fased.core.names import RunId
from fased.core.queue import Completion, LeasedRun
from fased.core.runs import Outcome, RunClass, RunResult
from fased.store.queue import cancel, delay, finish, park, recover, sweep
from tests.support.queues import (
    NAMESPACE,
    announce,
    connection,
    connections,
    events,
    held,
    new_run,
    outcomes,
    put,
    states,
    take,
)

PRODUCERS, WORKERS = 3, 5
BATCHES, BATCH = 20, 6
LANES = [f"l{n}" for n in range(12)]
# So short that busy workers lose leases now and then.
LEASE = timedelta(milliseconds=200)


class Storm:
    """Producers, workers that fail in every way, and people who interfere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.random = random.Random(7)
        self.made: list[RunId] = []
        self.is_over = False

    async def produce(self) -> None:
        conn = await connection(self.url)
        for _ in range(BATCHES):
            runs = [
                new_run(self.random.choice(LANES), self.random.choice(list(RunClass)))
                for _ in range(BATCH)
            ]
            self.made += await put(conn, *runs)
        await conn.close()

    async def work(self) -> None:
        conn = await connection(self.url)
        now = await conn.fetchval("SELECT public.fased_now()")
        while not self.is_over:
            worker = uuid4()
            runs = list(await take(conn, worker, 4, lease=LEASE))
            while runs:
                runs += await self.treat(conn, worker, runs.pop(), now)
        await conn.close()

    async def treat(self, conn: Any, worker: UUID, run: Any, now: datetime) -> list[LeasedRun]:
        """End a run in some way; answers with those that the worker got for it."""
        way = self.random.random()
        if way < 0.1:
            await finish.release(conn, [held(run)], announce)
        elif way < 0.2 and run.attempts < 2:
            await delay.reschedule(conn, held(run), now, "NETWORK", announce)
        elif way < 0.3 and run.wake_seq < 2:
            await park.park(conn, held(run), run.wake_seq, now, announce)
        elif way < 0.4:
            await self.bear(conn, run)
        else:
            done = [Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, RunResult())]
            if way < 0.7:
                await finish.complete(conn, done, announce)
            else:
                _, leased = await finish.complete_and_go_on(conn, done, announce, worker)
                return leased
        return []

    async def bear(self, conn: Any, run: Any) -> None:
        with suppress(FailedPrecondition):
            self.made += await put(conn, new_run(f"child:{uuid4()}"), parent=held(run))
        done = Completion(run.run_id, run.epoch, Outcome.FAILED, RunResult())
        await finish.complete(conn, [done], announce)

    async def interfere(self) -> None:
        conn = await connection(self.url)
        while not self.is_over:
            run_id = self.random.choice(self.made or [RunId(1)])
            try:
                if self.random.random() < 0.5:
                    await cancel.cancel(conn, NAMESPACE, run_id, announce)
                else:
                    await park.wake(conn, NAMESPACE, run_id)
            except FasedError:
                continue
        await conn.close()

    async def keep(self) -> None:
        conn = await connection(self.url)
        while not self.is_over:
            await recover.recover(conn, announce)
            await delay.return_due(conn)
            await park.wake_expired(conn)
            await sweep.prune_lanes(conn, timedelta(0))
            assert await sweep.repair_headless(conn) == 0
        await conn.close()

    async def watch(self) -> None:
        """Ends the storm when all is drained."""
        conn = await connection(self.url)
        while not self.is_over:
            all_made = len(self.made) >= PRODUCERS * BATCHES * BATCH
            self.is_over = all_made and not await states(conn)
            await conn.execute("SELECT 1")
        await conn.close()


async def test_a_storm_of_everything_at_once_ends_drained(database_url: str) -> None:
    storm = Storm(database_url)
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(PRODUCERS):
            group.create_task(storm.produce())
        for _ in range(WORKERS):
            group.create_task(storm.work())
        for interferer in (storm.interfere, storm.keep, storm.keep, storm.watch):
            group.create_task(interferer())

    async with connections(database_url, 1) as [conn]:
        ended = await outcomes(conn)
        assert set(ended) == set(storm.made)
        assert await states(conn) == {}
        assert len(await events(conn)) == len(ended)
        deadlocks = await conn.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        assert deadlocks == 0
