"""A cluster whose parts fail while people write: nothing is lost, doubled or stuck."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.chats import open_chat
from tests.support.cluster import REPLICAS, Cluster, running_cluster
from tests.support.load import ANSWER, Load, open_load, under_load

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

CHATS = 10
# Longer than a member of a consumer group may be silent (`kafka_access.Timing.session_s`).
PAST_SESSION_S = 12.0
# Longer than a lease stands in a test's cluster.
PAST_LEASE_S = 8.0
KAFKA_AWAY_S = 8.0
SLOW_ANSWER_S = 2.0
PERIOD = timedelta(seconds=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    rules = [
        {"match": "slowly", "answer": "At last", "delay_ms": 1000 * SLOW_ANSWER_S},
        {"answer": ANSWER, "word_delay_ms": 60},
    ]
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules}))
    async with running_cluster(
        FASED_SCRIPTED_MODEL=str(script),
        FASED_SCRIPTED_LOG=str(folder / "calls.jsonl"),
        FASED_DRAIN_S="0.5",
    ) as running:
        yield running


@asynccontextmanager
async def people_writing(cluster: Cluster, title: str) -> AsyncIterator[Load]:
    """While the block runs people write; after it all is answered, once and in order, and read."""
    load = await open_load(cluster, title, chats=CHATS)
    async with under_load(load, pause_s=0.5):
        yield load
    await cluster.until_no_lag()


@pytest.mark.parametrize("service", ["router", "channels"])
async def test_consumers_frozen_past_their_session_and_thawed_lose_and_double_nothing(
    cluster: Cluster, service: str
) -> None:
    frozen = f"{service}-0"
    async with people_writing(cluster, frozen):
        cluster.freeze(frozen)
        await asyncio.sleep(PAST_SESSION_S)
        cluster.thaw(frozen)


async def test_postgresql_restarted_at_once_loses_and_doubles_nothing(cluster: Cluster) -> None:
    async with people_writing(cluster, "postgres"):
        await cluster.postgres.stop_immediate()
        await cluster.postgres.restart()


async def test_kafka_stopped_for_seconds_loses_and_doubles_nothing(cluster: Cluster) -> None:
    async with people_writing(cluster, "kafka"):
        await cluster.kafka.stop_immediate()
        await asyncio.sleep(KAFKA_AWAY_S)
        await cluster.kafka.restart()


async def test_an_executor_frozen_past_its_lease_is_refused_when_it_comes_back(
    cluster: Cluster, folder: Path
) -> None:
    chat = await open_chat(cluster, "late")
    await cluster.stop("executor-1")
    asked_before = len(calls(folder))
    await chat.post("ask", "answer slowly")

    async def asked() -> int:
        return len(calls(folder)) - asked_before

    await chat.until(asked, bool)
    cluster.freeze("executor-0")
    await cluster.start("executor-1")
    await chat.wait_for_answers(1)
    cluster.thaw("executor-0")

    async def ends() -> list[str]:
        return [end for name in cluster.names_of("executor") for end in ends_of(cluster, name, run)]

    [said] = [event for event in await chat.events() if event["kind"] == "said"]
    run = int(said["runId"])
    await chat.until(ends, lambda ends: len(ends) == 2)
    [refused] = ends_of(cluster, "executor-0", run)
    assert refused in ("stale", "lost")
    assert ends_of(cluster, "executor-1", run) == ["succeeded"]
    await cluster.until_no_lag()
    assert await chat.said() == ["At last"]
    shown = json.loads(cluster.fased("task", "run-show", str(run), "-o", "json").stdout)
    assert shown["state"] == "succeeded"


async def test_a_scheduler_frozen_for_periods_and_thawed_fires_no_slot_twice(
    cluster: Cluster,
) -> None:
    chat = await open_chat(cluster, "frozen scheduler")
    await chat.post("make", "/task new every 1s --mode no-model Tick: tick")

    async def ticks() -> int:
        return (await chat.said()).count("tick")

    await chat.until(ticks, lambda count: count >= 2)
    cluster.freeze("scheduler-0")
    await asyncio.sleep(PAST_LEASE_S)
    cluster.thaw("scheduler-0")
    before = await ticks()
    await chat.until(ticks, lambda count: count >= before + 2)
    await chat.post("pause", "/task pause Tick")
    await chat.wait_for_answers(2)
    runs = await chat.until(lambda: asyncio.to_thread(runs_of, cluster, "Tick"), have_all_ended)
    slots = [run["body"]["slotTime"] for run in runs if run["state"] == "succeeded"]
    assert len(set(slots)) == len(slots)
    first = datetime.fromisoformat(slots[0])
    assert all((datetime.fromisoformat(slot) - first) % PERIOD == timedelta(0) for slot in slots)
    await cluster.until_no_lag()
    assert await ticks() == len(slots)


@pytest.mark.parametrize("service", list(REPLICAS))
async def test_sigterm_under_load_ends_well_and_loses_nothing(
    cluster: Cluster, folder: Path, service: str
) -> None:
    asked_before = len(calls(folder))
    async with people_writing(cluster, f"drained {service}") as load:
        for name in cluster.names_of(service):
            assert await cluster.stop(name) == [0]
            await cluster.start(name)
    # What was under way ended in the grace: nothing was asked a second time.
    asked = Counter(call["run"] for call in calls(folder)[asked_before:])
    assert len(asked) == load.messages
    assert set(asked.values()) == {1}


async def test_nothing_crashed_on_the_way(cluster: Cluster) -> None:
    assert "call_crashed" not in cluster.output()
    assert "loop_failed" not in cluster.output()
    assert "bus_record_dead_lettered" not in cluster.output()


def calls(folder: Path) -> list[dict[str, Any]]:
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ends_of(cluster: Cluster, name: str, run: int) -> list[str]:
    """What became of a run, as one executor tells it."""
    lines = (json.loads(line) for line in cluster.output(name).splitlines() if line[:1] == "{")
    return [line["end"] for line in lines if line["event"] == "run_ended" and line["run"] == run]


def runs_of(cluster: Cluster, task: str) -> list[dict[str, Any]]:
    listed = cluster.fased("task", "runs", task, "--limit", "1000", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    runs: list[dict[str, Any]] = json.loads(listed.stdout)["runs"]
    return runs


def have_all_ended(runs: list[dict[str, Any]]) -> bool:
    return {run["state"] for run in runs} <= {"succeeded", "skipped", "missed"}
