"""Measures the run queue: drain, ordered drain (fifo), pickup over gRPC, firing (periodic).

`python -m benchmarks.queue <drain|fifo|pickup|periodic> <n> <dsn>` takes an empty database and
prints one JSON line whose keys are those of a benchmark that runs other queues beside this one. It
asserts nothing about time; what it counts is counted in the database.
"""

import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

import uvloop
from google.protobuf.duration_pb2 import Duration

from fased.api.scheduler.v1 import queue_service_pb2, queue_service_pb2_grpc, run_pb2
from fased.bus.pglog import open_pglog
from fased.core import tasks as core_tasks
from fased.core.names import AgentId, Namespace, SessionId, SessionKey, TaskId
from fased.core.queue import Completion, EnqueueItem, LeasedRun
from fased.core.runs import (
    ExecutionMode,
    NewRun,
    Outcome,
    RunBody,
    RunClass,
    RunResult,
    Trigger,
    session_lane,
)
from fased.process import Host, settle_collector
from fased.rpc.client import open_client
from fased.rpc.server import new_server
from fased.store import database, migrate, notify, tasks
from fased.store.queue import claim, enqueue, finish, partitions
from services.scheduler import hints
from services.scheduler.announce import announce
from services.scheduler.loops import Loops
from services.scheduler.queue import QueueServicer
from services.scheduler.settings import SchedulerSettings

NAMESPACE = Namespace("default")
ENQUEUE_BATCH = 1000
# One connection more than cores: while one waits for its commit, the others work.
DRAIN_CONNECTIONS, DRAIN_BATCH = 3, 500
# Half of the lanes, so that both connections have work while each lane runs one.
FIFO_LANES, FIFO_CONNECTIONS, FIFO_BATCH = 200, 2, 100
# Of a batch so many runs are under way side by side.
FIFO_AT_ONCE = 24
WARM_UP_RUNS = 20
LEASE = timedelta(seconds=60)
_DUE = "SELECT count(*) FROM scheduler.task_due WHERE next_at <= $1"
_NOTHING = RunResult()
REPLICAS = 2

Figures = dict[str, float]
Work = Callable[[list[LeasedRun]], Awaitable[None]]


def main() -> None:
    """Prints the figures; leaves with 3 for a workload that is not here."""
    workload, n, dsn = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if workload not in _WORKLOADS:
        print(f"no {workload} workload", file=sys.stderr)
        sys.exit(3)
    measure, settings = _WORKLOADS[workload]
    figures = uvloop.run(_on_empty_database(measure, n, dsn))
    head = {
        "peer": "fased",
        "workload": workload,
        "version": _version(),
        "settings": f"{settings}, Python {platform.python_version()}, uvloop",
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(head | figures), flush=True)


async def _on_empty_database(
    measure: Callable[[int, str], Awaitable[Figures]], n: int, dsn: str
) -> Figures:
    await migrate.upgrade(dsn)
    conn = await database.connect(dsn)
    await partitions.make_partitions(conn)
    await conn.close()
    return await measure(n, dsn)


async def drain(n: int, dsn: str) -> Figures:
    """No-op runs in lanes of their own."""
    executed = 0

    async def noop(run: LeasedRun) -> None:
        nonlocal executed
        executed += 1

    async def work(runs: list[LeasedRun]) -> None:
        for run in runs:
            await noop(run)

    figures = await _drain(dsn, n, lambda i: _run(str(i)), DRAIN_CONNECTIONS, DRAIN_BATCH, work)
    return figures | {"executed": executed}


async def fifo(n: int, dsn: str) -> Figures:
    """Runs over 200 lanes, put in round-robin; each lane must run alone and in order."""
    last = dict.fromkeys(map(str, range(FIFO_LANES)), -1)
    running: set[str] = set()
    executed = violations = 0

    async def check(run: LeasedRun) -> None:
        nonlocal executed, violations
        key, number = str(run.body.session_id), int(run.body.prompt)
        violations += key in running or number != last[key] + 1
        running.add(key)
        last[key] = number
        executed += 1
        await asyncio.sleep(0)
        running.discard(key)

    async def work(runs: list[LeasedRun]) -> None:
        waiting = iter(runs)

        async def one_by_one() -> None:
            for run in waiting:
                await check(run)

        await asyncio.gather(*(one_by_one() for _ in range(FIFO_AT_ONCE)))

    def make(i: int) -> NewRun:
        return _run(str(i % FIFO_LANES), prompt=str(i // FIFO_LANES))

    figures = await _drain(dsn, n, make, FIFO_CONNECTIONS, FIFO_BATCH, work)
    return figures | {"executed": executed, "order_violations": violations}


async def pickup(n: int, dsn: str) -> Figures:
    """One run at a time, from its commit until a worker behind gRPC starts it."""
    samples: list[tuple[float, float, float]] = []
    async with _queue_service(dsn) as (host, stub):
        begun: asyncio.Queue[float] = asyncio.Queue()
        worker = asyncio.create_task(_worker(stub, begun))
        for i in range(n + WARM_UP_RUNS):
            await asyncio.sleep(random.uniform(0.02, 0.04))
            called = time.perf_counter()
            async with host.database.queue.acquire() as conn:
                await enqueue.enqueue(conn, [_item(_run(str(i)))])
            committed = time.perf_counter()
            hints.runs_changed(host.hints)
            samples.append((called, committed, await begun.get()))
        await _settled(host.database.queue, n + WARM_UP_RUNS)
        worker.cancel()
        done = await _done_in_db(host.database.queue)
    kept = samples[WARM_UP_RUNS:]
    from_commit = [(start - committed) * 1e3 for _, committed, start in kept]
    from_call = [(start - called) * 1e3 for called, _, start in kept]
    return {
        "n": len(kept),
        "done_in_db": done - WARM_UP_RUNS,
        "p50_ms": _percentile(from_commit, 50),
        "p99_ms": _percentile(from_commit, 99),
        "from_call_p50_ms": _percentile(from_call, 50),
        "from_call_p99_ms": _percentile(from_call, 99),
    }


async def periodic(n: int, dsn: str) -> Figures:
    """Tasks due in one second, fired by two schedulers' loops."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5 + n // 1000)
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(_host(dsn)) for _ in range(REPLICAS)]
        async with hosts[0].database.queue.acquire() as conn, conn.transaction():
            for i in range(n):
                await tasks.insert(conn, _task(i, due_at), "")
        loops = [Loops(host, SchedulerSettings()) for host in hosts]
        firing = [asyncio.create_task(each.fire()) for each in loops]
        pool = hosts[0].database.queue
        while await pool.fetchval(_DUE, due_at):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.1)
        for host in hosts:
            host.stop.set()
        await asyncio.gather(*firing)
        rows = await pool.fetch(
            "SELECT task_id, extract(epoch FROM created_at - $1)::float8 AS lag FROM scheduler.run",
            due_at,
        )
    lags = [row["lag"] for row in rows]
    fired = len({row["task_id"] for row in rows})
    return {
        "n": n,
        "done_in_db": fired,
        "doubled": len(rows) - fired,
        "lag_p50_s": _percentile(lags, 50),
        "lag_p99_s": _percentile(lags, 99),
        "lag_max_s": max(lags),
    }


async def _drain(
    dsn: str, n: int, make: Callable[[int], NewRun], connections: int, batch: int, work: Work
) -> Figures:
    """Enqueue all, then work them off; the clock of each phase apart."""
    async with AsyncExitStack() as stack:
        conns = []
        for _ in range(connections + 1):
            conns.append(conn := await database.connect(dsn))
            stack.push_async_callback(conn.close)
        admin, *workers = conns
        begun, cpu_begun = time.perf_counter(), time.process_time()
        for low in range(0, n, ENQUEUE_BATCH):
            numbers = range(low, min(low + ENQUEUE_BATCH, n))
            await enqueue.enqueue(admin, [_item(make(i)) for i in numbers])
        enqueue_s, enqueue_cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        await admin.execute("CHECKPOINT")
        await admin.execute("ANALYZE")
        settle_collector()

        begun, cpu_begun = time.perf_counter(), time.process_time()
        moved = asyncio.Event()
        left = [n]
        await asyncio.gather(*(_work_off(conn, batch, work, left, moved) for conn in workers))
        await _settled(admin, n)
        drain_s, drain_cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        done = await _done_in_db(admin)
    return {
        "n": n,
        "done_in_db": done,
        "enqueue_s": enqueue_s,
        "enqueue_per_s": n / enqueue_s,
        "enqueue_cpu_us_per_run": enqueue_cpu_s / n * 1e6,
        "drain_s": drain_s,
        "drain_per_s": n / drain_s,
        "drain_cpu_us_per_run": drain_cpu_s / n * 1e6,
    }


async def _work_off(
    conn: Any, batch: int, work: Work, left: list[int], moved: asyncio.Event
) -> None:
    """One connection of the worker process: claims, works, completes, until `left` is none."""
    worker_id = uuid.uuid4()
    runs: list[LeasedRun] = []
    while left[0]:
        moved.clear()
        runs = runs or await claim.claim(conn, worker_id, batch, 0, LEASE, [])
        if not runs:
            await notify.wait(moved, 0.05)
            continue
        await work(runs)
        done = [Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, _NOTHING) for run in runs]
        left[0] -= len(runs)
        _, runs = await finish.complete_and_go_on(conn, done, announce, worker_id)
        moved.set()


async def _worker(stub: Any, begun: "asyncio.Queue[float]") -> None:
    """Leases, notes the time of each start, completes."""
    request = queue_service_pb2.LeaseRunsRequest(
        worker_id=str(uuid.uuid4()), max_runs=10, wait=Duration(seconds=20),
        lease_for=Duration(seconds=60),
    )  # fmt: skip
    while True:
        response = await stub.LeaseRuns(request, timeout=30)
        for _ in response.runs:
            begun.put_nowait(time.perf_counter())
        await stub.CompleteRuns(
            queue_service_pb2.CompleteRunsRequest(completions=map(_completion, response.runs))
        )


def _completion(run: run_pb2.LeasedRun) -> queue_service_pb2.Completion:
    return queue_service_pb2.Completion(
        run_id=run.run_id, epoch=run.epoch, outcome=Outcome.SUCCEEDED
    )


@asynccontextmanager
async def _host(dsn: str) -> AsyncIterator[Host]:
    """What a scheduler of its own process would stand on."""
    async with (
        database.open_database(dsn) as opened,
        notify.open_hints(dsn) as sent,
        open_pglog(dsn, sent) as bus,
    ):
        yield Host(opened, bus, sent, _no_client, asyncio.Event())


def _no_client(name: str) -> Any:
    raise LookupError(f"no service {name} here")


@asynccontextmanager
async def _queue_service(dsn: str) -> AsyncIterator[tuple[Host, Any]]:
    """The queue's own service on a gRPC server at a Unix socket, and a stub for it."""
    token = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="fased-") as folder:
        async with _host(dsn) as host:
            server, _ = new_server(token, database.translate)
            queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueServicer(host), server)
            server.add_insecure_port(f"unix:{folder}/s")
            await server.start()
            channel, client = open_client(f"unix:{folder}/s", token)
            try:
                yield host, queue_service_pb2_grpc.QueueServiceStub(channel)
            finally:
                host.stop.set()
                await client.close()
                await server.stop(0)


async def _settled(conn: Any, n: int) -> None:
    """Wait until the database shows `n` ended runs."""
    while await _done_in_db(conn) < n:  # noqa: ASYNC110 (nobody tells)
        await asyncio.sleep(0.005)


async def _done_in_db(conn: Any) -> int:
    """Ended runs, once none lives; 0 before that."""
    if await conn.fetchval("SELECT EXISTS (SELECT 1 FROM scheduler.run)"):
        return 0
    done: int = await conn.fetchval(
        "SELECT count(*) FROM scheduler.run_history WHERE outcome = 'succeeded'"
    )
    return done


def _run(key: str, prompt: str = "") -> NewRun:
    session_key = SessionKey(f"agent:main:bench:direct:{key}")
    body = RunBody(
        agent_id=AgentId("main"),
        session_key=session_key,
        session_id=SessionId(key),
        mode=ExecutionMode.AGENT_TURN,
        trigger=Trigger.MESSAGE,
        prompt=prompt,
    )
    return NewRun(NAMESPACE, session_lane(session_key), RunClass.MESSAGE, body)


def _item(run: NewRun) -> EnqueueItem:
    return EnqueueItem(run.namespace, f"bench/{run.body.session_id}/{run.body.prompt}", (run,))


def _task(number: int, due_at: datetime) -> core_tasks.Task:
    return core_tasks.Task(
        namespace=NAMESPACE,
        id=TaskId(str(uuid.uuid4())),
        name=f"tick {number}",
        agent_id=AgentId("main"),
        session_key=SessionKey(f"agent:main:bench:direct:{number}"),
        prompt="tick",
        trigger=core_tasks.TriggerSpec(core_tasks.TriggerKind.EVERY, "1d", anchor_at=due_at),
        mode=ExecutionMode.NO_MODEL,
        created_at=datetime.now(UTC),
        next_at=due_at,
    )


def _version() -> str:
    found = any(each.name == "fased" for each in metadata.distributions(name="fased"))
    return metadata.version("fased") if found else "source"


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


_WORKLOADS: dict[str, tuple[Callable[[int, str], Awaitable[Figures]], str]] = {
    "drain": (drain, f"{DRAIN_CONNECTIONS} connections, batch {DRAIN_BATCH}"),
    "fifo": (fifo, f"{FIFO_CONNECTIONS} connections, batch {FIFO_BATCH}, {FIFO_AT_ONCE} at once"),
    "pickup": (pickup, "enqueue in the service's process, worker over gRPC (Unix socket)"),
    "periodic": (periodic, f"{REPLICAS} schedulers' fire loops in one process"),
}

if __name__ == "__main__":
    main()
