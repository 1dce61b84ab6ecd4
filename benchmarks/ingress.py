"""Measures ingress: from a platform's webhook call to the 2xx that says it is durable.

`python -m benchmarks.ingress [--updates N] [--connections N] [--rounds N] [--shape alone|many]`
prints one JSON line and asserts nothing about time. `alone` is the channels service as a process on
PostgreSQL 15, with its relay at work; `many` are all six services on Kafka besides, which answer
what comes in meanwhile on the same cores.

All updates are there at once, over as many connections as Telegram opens (100 at most), which stand
before the clock runs; a connection carries one call after the other. A call's time is from writing
it to the last byte of its answer, seen by a client in a process of its own (`burst.py`), whose CPU
time is told apart. A 2xx is given after the commit (fsync on).
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil

from benchmarks import processes
from fased.api.channels.v1 import account_pb2, channels_service_pb2, channels_service_pb2_grpc
from fased.core.access import Role
from fased.rpc.client import open_client
from fased.store import migrate
from fased.telemetry import logging
from tests.support.calls import acting, eventually
from tests.support.member import Member, bare_environment
from tests.support.postgres import temporary_folder
from tests.support.postgres15 import temporary_cluster_postgres
from tests.support.shapes import CLUSTER, ManyProcesses, running_shape
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_state import Bot

CHATS = 100
WARM_UP = 300
TOKEN = "1000001:a-token-of-the-benchmark"
TOKEN_NAME = "BENCHMARK_TELEGRAM_TOKEN"
SERVICE_TOKEN = "a-service-token-of-the-benchmark"
_PARENT = "namespaces/default"


@dataclass(frozen=True, slots=True)
class Place:
    """What is measured: the process that takes the calls, its database, and where both are."""

    pid: int
    webhook_url: str
    dsn: str
    grpc: str
    token: str
    is_service: bool


def main() -> None:
    """Prints the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=("alone", "many"), default="alone")
    arguments = parser.parse_args()
    logging.configure("benchmark", level="WARNING")
    print(json.dumps(asyncio.run(_measure(arguments))), flush=True)


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(_PLACES[arguments.shape]())
        api = await stack.enter_async_context(telegram_api())
        bot = api.add_bot(TOKEN)
        await _add_account(place, api, bot)
        conn = await asyncpg.connect(place.dsn)
        stack.push_async_callback(conn.close)
        await _burst(bot, arguments.connections, 0, WARM_UP)
        rounds = []
        for number in range(arguments.rounds):
            first = WARM_UP + number * arguments.updates
            rounds.append(
                await _round(place, bot, conn, arguments.connections, first, arguments.updates)
            )
            await asyncio.sleep(1)
        return {
            "figure": "ingress",
            "shape": arguments.shape,
            **_medians(rounds),
            "statuses": dict(sum((Counter(each["statuses"]) for each in rounds), Counter())),
            "updates": arguments.updates,
            "connections": arguments.connections,
            "rounds": arguments.rounds,
            "chats": CHATS,
            "load_average": [round(load, 2) for load in os.getloadavg()],
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "uvicorn": metadata.version("uvicorn"),
            "asyncpg": metadata.version("asyncpg"),
            "postgresql": await conn.fetchval("SHOW server_version"),
        }


async def _round(
    place: Place,
    bot: Bot,
    conn: "asyncpg.Connection[asyncpg.Record]",
    connections: int,
    first: int,
    count: int,
) -> dict[str, Any]:
    postmaster = psutil.Process(await conn.fetchval("SELECT pg_backend_pid()")).ppid()
    before, before_db_s = (
        processes.used({"it": place.pid})["it"],
        processes.family_cpu_s(postmaster),
    )
    answer = await _burst(bot, connections, first, count)
    after, after_db_s = processes.used({"it": place.pid})["it"], processes.family_cpu_s(postmaster)
    return answer | {
        "cpu_ms": (after.cpu_s - before.cpu_s) / count * 1000,
        "postgresql_ms": (after_db_s - before_db_s) / count * 1000,
        "client_ms": answer["cpu_s"] / count * 1000,
    }


async def _burst(bot: Bot, connections: int, first: int, count: int) -> dict[str, Any]:
    assert bot.webhook is not None
    address = urlsplit(bot.webhook.url)
    asked = {
        "host": address.hostname,
        "port": address.port,
        "connections": connections,
        "requests": [
            _request(address.path, bot.webhook.secret_token, number)
            for number in range(first, first + count)
        ],
    }
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.burst"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await client.communicate(json.dumps(asked).encode())
    assert client.returncode == 0
    answer: dict[str, Any] = json.loads(said)
    return answer


def _request(path: str, secret: str, number: int) -> str:
    chat = 1 + number % CHATS
    person = {"id": chat, "is_bot": False, "first_name": "Ada", "language_code": "en"}
    message = {
        "message_id": 10 + number,
        "from": person,
        "chat": {"id": chat, "first_name": "Ada", "type": "private"},
        "date": 1_790_000_000,
        "text": f"message {number} of somebody who asks what the weather is like today",
    }
    body = json.dumps({"update_id": 500_000_000 + number, "message": message})
    head = (
        f"POST {path} HTTP/1.1",
        "Host: bots.example",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Telegram-Bot-Api-Secret-Token: {secret}",
        "Connection: keep-alive",
    )
    return "\r\n".join(head) + "\r\n\r\n" + body


def _medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for each in rounds:
        times = sorted(each["seconds"])
        cuts = statistics.quantiles(times, n=100)
        for name, value in (
            ("p50_ms", cuts[49] * 1000),
            ("p95_ms", cuts[94] * 1000),
            ("p99_ms", cuts[98] * 1000),
            ("slowest_ms", times[-1] * 1000),
            ("updates_per_s", len(times) / each["took_s"]),
            ("cpu_ms_an_update", each["cpu_ms"]),
            ("postgresql_cpu_ms_an_update", each["postgresql_ms"]),
            ("client_cpu_ms_an_update", each["client_ms"]),
        ):
            found.setdefault(name, []).append(value)
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


async def _add_account(place: Place, api: TelegramApi, bot: Bot) -> None:
    account = account_pb2.Account(
        channel="telegram",
        account_id="default",
        credential=f"env:{TOKEN_NAME}",
        mode=account_pb2.RECEIVE_MODE_WEBHOOK,
        webhook_url=place.webhook_url,
        api_base=api.base_url,
    )
    channel, client = open_client(place.grpc, place.token)
    more = acting(role=Role.ADMIN) if place.is_service else {}
    await channels_service_pb2_grpc.AccountServiceStub(channel).CreateAccount(
        channels_service_pb2.CreateAccountRequest(parent=_PARENT, account=account), **more
    )
    await client.close()

    async def is_known() -> bool:
        return bot.webhook is not None

    await eventually(is_known)


@asynccontextmanager
async def _alone() -> AsyncIterator[Place]:
    with temporary_folder() as folder, temporary_cluster_postgres() as postgres:
        await migrate.upgrade(postgres.dsn)
        member = Member("channels", folder / "channels.log")
        await member.start(
            {
                **bare_environment(),
                "FASED_DATABASE_URL": postgres.dsn,
                "FASED_SERVICE_TOKEN": SERVICE_TOKEN,
                TOKEN_NAME: TOKEN,
            }
        )
        await member.until_serving()
        url = f"http://127.0.0.1:{member.webhook_port}"
        assert member.process is not None
        try:
            yield Place(member.process.pid, url, postgres.dsn, member.address, SERVICE_TOKEN, True)
        finally:
            member.process.terminate()
            await member.ended()


@asynccontextmanager
async def _many() -> AsyncIterator[Place]:
    async with running_shape(CLUSTER, FASED_SCRIPTED_MODEL="echo", **{TOKEN_NAME: TOKEN}) as shape:
        assert isinstance(shape, ManyProcesses)
        process = shape.cluster.members["channels-0"].process
        assert process is not None
        gateway = shape.gateway()
        yield Place(process.pid, shape.webhook_url, shape.dsn, gateway.grpc, gateway.token, False)


_PLACES = {"alone": _alone, "many": _many}

if __name__ == "__main__":
    main()
