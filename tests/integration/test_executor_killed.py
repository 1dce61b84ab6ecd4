"""A worker's process is killed at each step of a run: the run still ends once, and a model is
never asked again for an answer that was checkpointed.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.turns import NO_OLLAMA, House, house, make_agent, message, uses

_CHECKPOINTED = "SELECT 1 FROM scheduler.checkpoint WHERE run_id = $1"
_APPENDED = "SELECT 1 FROM executor.transcript WHERE run_id = $1"


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest.fixture
async def home(database_url: str) -> AsyncIterator[House]:
    async with house(database_url, None) as opened:
        await make_agent(opened)
        yield opened


@asynccontextmanager
async def worker(
    home: House, provider: ScriptedProvider, folder: Path, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **NO_OLLAMA,
        **uses(provider),
        "FASED_DATABASE_URL": home.up.host.database.url,
        "FASED_SERVICE_TOKEN": home.up.service_token,
        "FASED_SCHEDULER_ADDRESS": home.up.listen,
        "FASED_LISTEN": f"unix:{folder}/{name}",
        "FASED_LEASE_S": "2",
        "FASED_HEARTBEAT_S": "0.5",
        "FASED_GRACE_S": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.executor_process", env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def locked(home: House, table: str) -> AsyncIterator[None]:
    """Nobody else writes to the table inside the block."""
    async with home.up.host.database.queue.acquire() as conn, conn.transaction():
        await conn.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield


async def test_a_run_whose_worker_is_killed_in_the_model_call_is_carried_out_by_another(
    home: House, provider: ScriptedProvider, tmp_path: Path
) -> None:
    provider.rules = [Rule(times=1, hold=threading.Event())]
    run_id = await home.enqueue(message("hello"))
    async with worker(home, provider, tmp_path, "a") as first:
        assert await asyncio.to_thread(provider.called.wait, 20)
        first.kill()
        await first.wait()
    async with worker(home, provider, tmp_path, "b"):
        ended = await home.ended(run_id)
    assert (ended["outcome"], ended["crashes"]) == ("succeeded", 1)
    assert provider.count("hello") == 2


@pytest.mark.parametrize(
    ("table", "reached"),
    [("executor.transcript", _CHECKPOINTED), ("scheduler.run_history", _APPENDED)],
    ids=["between checkpoint and transcript", "between transcript and complete"],
)
async def test_a_run_whose_worker_is_killed_after_the_checkpoint_asks_no_model_again(
    home: House, provider: ScriptedProvider, tmp_path: Path, table: str, reached: str
) -> None:
    async with worker(home, provider, tmp_path, "a") as first, locked(home, table):
        run_id = await home.enqueue(message("hello"))
        await home.row(reached, run_id)
        first.kill()
        await first.wait()
    async with worker(home, provider, tmp_path, "b"):
        ended = await home.ended(run_id)
    said = await home.row(
        "SELECT array_agg(text ORDER BY sequence) AS texts FROM executor.transcript"
    )
    assert (ended["outcome"], ended["result"]["text"]) == ("succeeded", "You said: hello")
    assert provider.count("hello") == 1
    assert said["texts"] == ["hello", "You said: hello"]
