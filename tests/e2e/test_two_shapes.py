"""Both walks in both shapes, one process and a cluster: the same tests, and the same promises."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.chats import NAMESPACE, open_chat
from tests.support.load import ANSWER, open_load, under_load
from tests.support.shapes import SHAPES, Shape, running_shape

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SESSIONS = 30
MESSAGES = 300
KILLS = 3
PERIOD = timedelta(seconds=1)
STORY = "once upon a time there was a gateway"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SHAPES)
async def shape(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Shape]:
    rules = [
        {"match": "story", "answer": STORY, "word_delay_ms": 200},
        {"answer": ANSWER, "word_delay_ms": 10},
    ]
    script, calls = folder / "script.json", folder / "calls.jsonl"
    script.write_text(json.dumps({"rules": rules}))
    calls.write_text("")
    async with running_shape(
        request.param, FASED_SCRIPTED_MODEL=str(script), FASED_SCRIPTED_LOG=str(calls)
    ) as running:
        yield running


async def test_a_message_is_answered_once_and_its_run_shows_how(shape: Shape) -> None:
    chat = await open_chat(shape, "one")
    await chat.post("first", "hello")
    await chat.wait_for_answers(1)
    assert await chat.answers() == {"first": ["You said: hello"]}
    listed = shape.fased("sessions", "show", chat.session_key, "-o", "json")
    transcript = [line["text"] for line in json.loads(listed.stdout)["transcript"]]
    assert transcript == ["hello", "You said: hello"]


async def test_an_answer_grows_before_the_reader_s_eyes(shape: Shape) -> None:
    chat = await open_chat(shape, "stream")
    texts: list[str] = []
    async with (
        asyncio.timeout(60),
        shape.http() as client,
        client.stream("GET", f"{NAMESPACE}/conversations/{chat.conversation}/stream") as response,
    ):
        assert response.status_code == 200
        posting = asyncio.create_task(chat.post("tell", "tell me a story"))
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                if event["kind"] in ("partial", "said"):
                    texts.append(event["text"])
                if event["kind"] == "said":
                    break
        await posting
    assert texts[-1] == STORY
    assert len(texts) > 2
    assert all(STORY.startswith(text.rstrip()) for text in texts)


async def test_a_task_fires_and_each_slot_is_delivered_once(shape: Shape) -> None:
    chat = await open_chat(shape, "ticking")
    await chat.post("make", "/task new every 1s --mode no-model Tick: tick")

    def has_ticked(said: list[str]) -> bool:
        return said.count("tick") >= 3

    await chat.until(chat.said, has_ticked)
    await chat.post("pause", "/task pause Tick")
    await chat.wait_for_answers(2)
    runs = await chat.until(lambda: asyncio.to_thread(_runs, shape, "Tick"), _have_all_ended)
    slots = _slots(runs)
    assert len(set(slots)) == len(slots) >= 3
    assert all((slot - slots[0]) % PERIOD == timedelta(0) for slot in slots)
    said = await chat.until(chat.said, lambda said: said.count("tick") >= len(slots))
    assert said.count("tick") == len(slots)


async def test_every_message_is_answered_once_and_in_order_though_processes_are_killed_thrice(
    shape: Shape, folder: Path
) -> None:
    (folder / "calls.jsonl").write_text("")
    load = await open_load(shape, "chat", chats=SESSIONS)
    chance = random.Random(20261121)
    lost_at_most = 0
    async with under_load(load, at_least=MESSAGES // SESSIONS, pause_s=0.5):
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.3, 2.0))
            lost_at_most += await shape.kill_some(chance)
    for number in range(0, SESSIONS, 3):
        load.check_transcript(shape, number)
    _check_calls(shape, _calls(folder), load.messages, lost_at_most)
    assert "Traceback" not in shape.output()


def _check_calls(
    shape: Shape, calls: list[dict[str, Any]], messages: int, lost_at_most: int
) -> None:
    by_run = Counter(call["run"] for call in calls)
    assert len(by_run) == messages
    repeated = [run for run, count in by_run.items() if count > 1]
    # Only what a killed process was at, at most all its slots, may have been asked again.
    assert len(repeated) <= lost_at_most
    for run in repeated:
        shown = json.loads(shape.fased("task", "run-show", str(run), "-o", "json").stdout)
        [checkpoint] = [each for each in shown["checkpoints"] if each["step"] == "act"]
        kept_at = datetime.fromisoformat(checkpoint["createTime"])
        for call in calls:
            if call["run"] == run:
                assert datetime.fromisoformat(call["time"]) < kept_at


def _calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def _runs(shape: Shape, task: str) -> list[dict[str, Any]]:
    listed = shape.fased("task", "runs", task, "--limit", "1000", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    runs: list[dict[str, Any]] = json.loads(listed.stdout)["runs"]
    return runs


def _slots(runs: list[dict[str, Any]]) -> list[datetime]:
    """The slots that were carried out, oldest first."""
    slots = (run["body"]["slotTime"] for run in runs if run["state"] == "succeeded")
    return sorted(map(datetime.fromisoformat, slots))


def _have_all_ended(runs: list[dict[str, Any]]) -> bool:
    return {run["state"] for run in runs} <= {"succeeded", "skipped", "missed"}
