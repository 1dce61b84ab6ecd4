"""The first walk under kill -9: every message is answered once, in order, whatever dies when."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.chats import Chat, open_chat
from tests.support.up import Up

SESSIONS = 30
MESSAGES = 300
KILLS = 3


@pytest.fixture
async def up(tmp_path: Path, up_environment: dict[str, str]) -> AsyncIterator[Up]:
    started = Up(
        tmp_path / "state",
        {
            **up_environment,
            "FASED_SCRIPTED_MODEL": str(_script(tmp_path)),
            "FASED_SCRIPTED_LOG": str(tmp_path / "calls.jsonl"),
        },
    )
    await started.start()
    yield started
    if started.process is not None:
        await started.stop()


async def test_every_message_is_answered_once_and_in_order_though_the_process_is_killed_thrice(
    up: Up, tmp_path: Path
) -> None:
    chats = [await open_chat(up, f"chat {number}") for number in range(SESSIONS)]
    posting = [asyncio.create_task(_post_all(chat, number)) for number, chat in enumerate(chats)]
    waits = random.Random(20261121)
    for _ in range(KILLS):
        await asyncio.sleep(waits.uniform(0.3, 2.0))
        await up.kill()
        await up.start()
        assert up.started_in_s < 5
    await asyncio.gather(*posting)
    for chat in chats:
        await chat.wait_for_answers(MESSAGES // SESSIONS)
    for number, chat in enumerate(chats):
        await _check_chat(up, chat, number)
    _check_calls(up, _calls(tmp_path))


async def _post_all(chat: Chat, number: int) -> None:
    for turn in range(MESSAGES // SESSIONS):
        await chat.post(f"post-{number}-{turn}", _text(number, turn))


async def _check_chat(up: Up, chat: Chat, number: int) -> None:
    events = await chat.events()
    posted = [event["text"] for event in events if event["kind"] == "posted"]
    wanted = [_text(number, turn) for turn in range(MESSAGES // SESSIONS)]
    assert posted == wanted
    said = [(event["postId"], event["text"]) for event in events if event["kind"] == "said"]
    assert said == [
        (f"post-{number}-{turn}", f"You said: {text}") for turn, text in enumerate(wanted)
    ]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    shown = json.loads(
        up.fased("sessions", "show", chat.session_key, "--limit", "100", "-o", "json").stdout
    )
    transcript = [(line["role"], line["text"]) for line in shown["transcript"]]
    assert transcript == [
        line for text in wanted for line in (("user", text), ("assistant", f"You said: {text}"))
    ]


def _check_calls(up: Up, calls: list[dict[str, Any]]) -> None:
    by_run = Counter(call["run"] for call in calls)
    assert len(by_run) == MESSAGES
    repeated = [run for run, count in by_run.items() if count > 1]
    # Only what a killed process was at, at most all its slots, may have been asked again.
    assert len(repeated) <= KILLS * 8
    for run in repeated:
        shown = json.loads(up.fased("task", "run-show", str(run), "-o", "json").stdout)
        [checkpoint] = [each for each in shown["checkpoints"] if each["step"] == "act"]
        kept_at = datetime.fromisoformat(checkpoint["createTime"])
        for call in calls:
            if call["run"] == run:
                assert datetime.fromisoformat(call["time"]) < kept_at


def _calls(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def _script(tmp_path: Path) -> Path:
    path = tmp_path / "script.json"
    rule = {"match": "", "answer": "You said: {text}", "word_delay_ms": 10}
    path.write_text(json.dumps({"rules": [rule]}))
    return path


def _text(number: int, turn: int) -> str:
    return f"message {turn} of chat {number}"
