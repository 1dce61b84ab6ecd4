"""Short words for tests of the run queue on a real database. Decides defaults only."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fased.core.events import OUTBOX_SHARDS, OutboxEvent, outbox_shard
from fased.core.names import AgentId, Namespace, RunId, SessionId, SessionKey, TaskId
from fased.core.queue import (
    Checkpoint,
    Completion,
    CompletionResult,
    EnqueueItem,
    FinishedStep,
    HeldRun,
    LeasedRun,
)
from fased.core.runs import (
    EndedRun,
    ExecutionMode,
    NewRun,
    Outcome,
    RunBody,
    RunClass,
    RunResult,
    Trigger,
)
from fased.store import database, outbox
from fased.store.queue import checkpoints, claim, enqueue, finish, rows

NAMESPACE = Namespace("default")
LEASE = timedelta(seconds=15)
HOUR = timedelta(hours=1)


def announce(ended: Sequence[EndedRun]) -> list[OutboxEvent]:
    """One event for each end, keyed by the run."""
    return [_event(run) for run in ended]


def _event(run: EndedRun) -> OutboxEvent:
    value = f"{run.outcome}:{run.result.text}".encode()
    return OutboxEvent("ends", f"{run.namespace}/{run.run_id}", f"end-{run.run_id}", value)


async def events(conn: Any) -> list[OutboxEvent]:
    """What waits in the scheduler's outbox."""
    rows = await outbox.take(conn, "scheduler", range(OUTBOX_SHARDS), 10_000)
    for row in rows:
        assert {outbox_shard(event.key) for event in row.events} == {row.shard}
    return [event for row in rows for event in row.events]


async def connection(url: str) -> Any:
    """A connection with the settings of production."""
    return await database.connect(url)


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[Any]]:
    """Several connections, closed after the block."""
    opened = [await connection(url) for _ in range(count)]
    try:
        yield opened
    finally:
        await asyncio.gather(*(conn.close() for conn in opened))


async def turn_clock(conns: list[Any], by: timedelta) -> None:
    """Set the time of connections ahead of the server's."""
    for conn in conns:
        await conn.execute(
            "SELECT set_config('fased.clock_offset', $1, false)", f"{by.total_seconds()} seconds"
        )


def new_run(
    lane: str = "a",
    run_class: RunClass = RunClass.MESSAGE,
    *,
    namespace: str = NAMESPACE,
    session_key: str = "agent:main:main",
    prompt: str = "",
    run_for: timedelta = timedelta(minutes=10),
    task_id: UUID | None = None,
    run_at: datetime | None = None,
) -> NewRun:
    """A run with a small body."""
    body = RunBody(
        agent_id=AgentId("main"),
        session_key=SessionKey(session_key),
        session_id=SessionId("s1"),
        mode=ExecutionMode.NO_MODEL,
        trigger=Trigger.MESSAGE,
        prompt=prompt,
    )
    task = None if task_id is None else TaskId(str(task_id))
    return NewRun(Namespace(namespace), lane, run_class, body, run_for, task, run_at)


def item(*runs: NewRun, key: str = "", parent: HeldRun | None = None) -> EnqueueItem:
    """An item with a key of its own unless one is given."""
    return EnqueueItem(runs[0].namespace, key or str(uuid4()), runs, parent)


async def put(conn: Any, *runs: NewRun, parent: HeldRun | None = None) -> list[RunId]:
    """Enqueue runs, each under a key of its own; answers with their numbers."""
    made = await enqueue.enqueue(conn, [item(run, parent=parent) for run in runs])
    return [run_id for one in made for run_id in one.run_ids]


async def take(
    conn: Any, worker: UUID, max_runs: int = 1, message_only: int = 0, lease: timedelta = LEASE
) -> list[LeasedRun]:
    """Claim runs."""
    return await claim.claim(conn, worker, max_runs, message_only, lease, [])


def held(run: LeasedRun) -> HeldRun:
    """A leased run as its worker names it."""
    return HeldRun(run.run_id, run.epoch)


async def finish_run(
    conn: Any, run: LeasedRun, outcome: Outcome = Outcome.SUCCEEDED, text: str = "done"
) -> CompletionResult:
    """Complete one run."""
    completion = Completion(run.run_id, run.epoch, outcome, RunResult(text=text), deliver=True)
    [result] = await finish.complete(conn, [completion], announce)
    return result


async def put_checkpoint(
    conn: Any, run_id: RunId, epoch: int, step: str, value_json: str
) -> Checkpoint | None:
    """Store what one step left; what stands, None when the run is no longer held so."""
    [stored] = await checkpoints.put(conn, [FinishedStep(run_id, epoch, step, value_json)])
    return stored


async def states(conn: Any) -> dict[int, int]:
    """The live runs' states by number."""
    return {
        row["id"]: row["state"]
        for row in await conn.fetch(f"SELECT id, {rows.LIVE_STATE} AS state FROM scheduler.run")
    }


async def outcomes(conn: Any) -> dict[int, str]:
    """The ended runs' outcomes by number."""
    rows = await conn.fetch("SELECT id, outcome FROM scheduler.run_history")
    return {row["id"]: row["outcome"] for row in rows}
