"""Measures the whole message path: from a platform's call to the answer that the platform has.

`python -m benchmarks.message_path one|many [--door telegram|webchat|outbox] [--messages N]
[--sessions N]` starts Fased with the scripted model that echoes at once, posts the messages over
the sessions as fast as they are taken, and prints one JSON line. `one` is `fased up`; `many` is the
six services as processes on Kafka and PostgreSQL 15, router, scheduler, executor and channels
twice. It asserts nothing about time.

The doors: `telegram` is a Bot API server in this program's process, which calls the webhook and
takes what is sent; `webchat` posts to the HTTP API; `outbox` writes what a channel would have
stored, so that no part of HTTP is in the figure. CPU is counted of Fased's processes from the first
post until the last delivery is noted at its run, and PostgreSQL's and Kafka's are told apart.
`idle_cpu_ms_per_s` is what those processes use when nothing is said: on a machine that others load
the walk takes longer, and more of that is in the figure.
`serial` are messages one at a time, each after the answer to the one before.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import asyncpg
import psutil

from benchmarks import processes
from benchmarks.doors import DOORS, TOKEN, TOKEN_NAME, Door
from fased.telemetry import logging
from tests.support.shapes import (
    CLUSTER,
    ONE_PROCESS,
    ManyProcesses,
    OneProcess,
    Shape,
    running_shape,
)

SHAPES = {"one": ONE_PROCESS, "many": CLUSTER}
RUN_CONCURRENCY = 32
ENVIRONMENT = {
    "FASED_SCRIPTED_MODEL": "echo",
    "FASED_RUN_CONCURRENCY": str(RUN_CONCURRENCY),
    TOKEN_NAME: TOKEN,
}
# A session for each chat: in one for all of them, each message would wait for the one before.
DM_SCOPE = "per-channel-peer"
SERIAL = 50
IDLE_S = 5.0
TIMEOUT_S = 300.0
POLL_S = 0.02
_NOTED = "SELECT count(*) FROM scheduler.run_delivery WHERE state = 'sent'"


@dataclass(frozen=True, slots=True)
class Meter:
    """The clocks at one moment."""

    at_s: float
    ours: Mapping[str, processes.Used]
    postgres_s: float
    kafka_s: float
    driver_s: float


def main() -> None:
    """Prints the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--door", choices=sorted(DOORS), default="telegram")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=100)
    arguments = parser.parse_args()
    logging.configure("benchmark", level="WARNING")
    print(json.dumps(asyncio.run(_measure(arguments))), flush=True)


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        shape = await stack.enter_async_context(
            running_shape(SHAPES[arguments.shape], dm_scope=DM_SCOPE, **ENVIRONMENT)
        )
        door = await DOORS[arguments.door](shape, arguments.sessions, stack)
        conn = await asyncpg.connect(shape.dsn)
        stack.push_async_callback(conn.close)
        walk = _Walk(door, arguments.sessions, conn)
        await walk.take([f"warm {n}" for n in range(2 * arguments.sessions)])

        pids = _pids(shape)
        idle_s = await _idle_cpu_s(pids)
        began = await _meter(conn, pids)
        accepted_s = await walk.take([f"message {n}" for n in range(arguments.messages)])
        ended = await _meter(conn, pids)
        burst = await walk.seconds("message")
        for n in range(SERIAL):
            await walk.take([f"serial {n}"])
        figures = {
            "figure": "message_path",
            "shape": arguments.shape,
            "door": arguments.door,
            **_figures(arguments.messages, began, ended),
            "idle_cpu_ms_per_s": round(idle_s * 1e3, 1),
            "accepted_s": round(accepted_s, 3),
            **_milliseconds("burst", burst),
            **_milliseconds("serial", await walk.seconds("serial")),
            "doubled": walk.doubled,
        }
        return figures | _settings(arguments, await conn.fetchval("SHOW server_version"))


class _Walk:
    """Messages on their way, and the times of those that came back."""

    def __init__(
        self, door: Door, sessions: int, conn: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        self.doubled = 0
        self._door = door
        self._sessions = sessions
        self._conn = conn
        self._said_at: dict[str, float] = {}

    async def take(self, texts: Sequence[str]) -> float:
        """Say them, each session's in order, and wait until the last step of all walks is done.

        Gives the seconds until all were accepted.
        """
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for session in range(min(self._sessions, len(texts))):
                group.create_task(self._say(session, texts[session :: self._sessions]))
        accepted_s = time.perf_counter() - began_s
        async with asyncio.timeout(TIMEOUT_S):
            # Nobody tells: it happens in other processes.
            while await self._conn.fetchval(_NOTED) < len(self._said_at):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        return accepted_s

    async def seconds(self, word: str) -> list[float]:
        """How long each of the messages took that begin with a word."""
        answered = await self._door.answered()
        at = dict(answered)
        self.doubled += len(answered) - len(at)
        return [at[text] - said for text, said in self._said_at.items() if text.startswith(word)]

    async def _say(self, session: int, texts: Sequence[str]) -> None:
        for text in texts:
            self._said_at[text] = time.time()
            await self._door.say(session, text)


def _pids(shape: Shape) -> dict[str, int]:
    """Fased's own processes, by name."""
    if isinstance(shape, OneProcess):
        return {"fased up": shape.up.gateway()["pid"]}
    assert isinstance(shape, ManyProcesses)
    members = shape.cluster.members
    return {name: each.process.pid for name, each in members.items() if each.process is not None}


async def _meter(conn: "asyncpg.Connection[asyncpg.Record]", pids: Mapping[str, int]) -> Meter:
    postgres = psutil.Process(await conn.fetchval("SELECT pg_backend_pid()")).ppid()
    brokers = [each.pid for each in psutil.Process().children() if "java" in each.name()]
    return Meter(
        time.perf_counter(),
        processes.used(pids),
        processes.family_cpu_s(postgres),
        sum(map(processes.family_cpu_s, brokers)),
        time.process_time(),
    )


async def _idle_cpu_s(pids: Mapping[str, int]) -> float:
    """What the processes use in a second in which nobody says anything."""
    before = processes.used(pids)
    await asyncio.sleep(IDLE_S)
    after = processes.used(pids)
    return sum(after[name].cpu_s - before[name].cpu_s for name in pids) / IDLE_S


def _figures(messages: int, began: Meter, ended: Meter) -> dict[str, Any]:
    cpu_s = {name: each.cpu_s - began.ours[name].cpu_s for name, each in ended.ours.items()}
    return {
        "messages_per_s": round(messages / (ended.at_s - began.at_s), 1),
        "cpu_ms_per_message": _each(sum(cpu_s.values()), messages),
        "postgres_cpu_ms_per_message": _each(ended.postgres_s - began.postgres_s, messages),
        "kafka_cpu_ms_per_message": _each(ended.kafka_s - began.kafka_s, messages),
        "driver_cpu_ms_per_message": _each(ended.driver_s - began.driver_s, messages),
        "by_process": {
            name: {
                "cpu_ms_per_message": _each(each, messages),
                "rss_mib": round(ended.ours[name].rss_bytes / 2**20),
                "rss_before_mib": round(began.ours[name].rss_bytes / 2**20),
            }
            for name, each in cpu_s.items()
        },
    }


def _each(cpu_s: float, messages: int) -> float:
    return round(cpu_s / messages * 1e3, 2)


def _milliseconds(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        f"{name}_p50_ms": round(statistics.median(ordered) * 1e3, 1),
        f"{name}_p95_ms": round(ordered[len(ordered) * 95 // 100] * 1e3, 1),
    }


def _settings(arguments: argparse.Namespace, postgres: str) -> dict[str, Any]:
    return {
        "messages": arguments.messages,
        "sessions": arguments.sessions,
        "model": "scripted, echoes at once",
        "run_concurrency": RUN_CONCURRENCY,
        "python": platform.python_version(),
        "postgres": postgres.split(" ", 1)[0],
        "fased": metadata.version("fased"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    main()
