"""Measures firing: tasks that are due in the same second, over two scheduler processes.

`python -m benchmarks.firing [--tasks N] [--rounds N]` prints one JSON line and asserts nothing
about time. Each round has a PostgreSQL 15 (fsync on) and two schedulers of its own. A run's lag is
from its slot to the commit that made it, which PostgreSQL notes (`track_commit_timestamp`); nobody
carries the runs out. What else reads or writes meanwhile is the schedulers' own work.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
from datetime import timedelta
from importlib import metadata
from typing import Any

import psutil

from benchmarks import processes
from fased.telemetry import logging
from tests.support.firing import SCHEDULERS, Schedulers, schedulers

SOON = timedelta(seconds=5)
PERIOD = timedelta(hours=1)


def main() -> None:
    """Prints the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.configure("benchmark", level="WARNING")
    print(json.dumps(asyncio.run(_measure(arguments))), flush=True)


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds = []
    for _ in range(arguments.rounds):
        async with schedulers() as both:
            rounds.append(await _round(both, arguments.tasks))
            version = await both.conn.fetchval("SHOW server_version")
    found = {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}
    return {
        "figure": "firing",
        **found,
        "tasks": arguments.tasks,
        "schedulers": SCHEDULERS,
        "rounds": arguments.rounds,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "asyncpg": metadata.version("asyncpg"),
        "postgresql": version,
    }


async def _round(both: Schedulers, tasks: int) -> dict[str, float]:
    postmaster = psutil.Process(await both.conn.fetchval("SELECT pg_backend_pid()")).ppid()
    pids = {str(each.webhook_port): each.process.pid for each in both.members if each.process}
    slot = await both.add_tasks(tasks, PERIOD, SOON)
    before, before_db_s = processes.used(pids), processes.family_cpu_s(postmaster)
    await both.until_dealt(slot)
    after, after_db_s = processes.used(pids), processes.family_cpu_s(postmaster)
    lags_s = await both.lags_s(slot)
    assert len(lags_s) == tasks
    cuts = statistics.quantiles(lags_s, n=100)
    ours_s = sum(after[name].cpu_s - before[name].cpu_s for name in pids)
    return {
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
        "last_ms": lags_s[-1] * 1000,
        "fired_per_s": tasks / lags_s[-1],
        "cpu_us_a_task": ours_s / tasks * 1e6,
        "postgresql_cpu_us_a_task": (after_db_s - before_db_s) / tasks * 1e6,
    }


if __name__ == "__main__":
    main()
