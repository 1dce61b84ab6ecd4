"""The second walk, a task made in a chat: it fires and is delivered, whatever becomes of the
process.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.support.chats import Chat, open_chat
from tests.support.up import Up, running_up

pytestmark = pytest.mark.asyncio(loop_scope="module")

PERIOD = timedelta(seconds=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[Up]:
    async with running_up() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ticking(up: Up) -> Chat:
    """A chat in which a task delivers `tick` every second; no model is set up anywhere."""
    chat = await open_chat(up, "ticking")
    await chat.post("make", "/task new every 1s --mode no-model Tick: tick")
    await chat.wait_for_answers(1)
    assert (await chat.said())[0].startswith("Created **Tick**")
    return chat


async def ticks(chat: Chat, count: int) -> list[str]:
    """What was said, once there are this many deliveries of the task among it."""

    def has_enough(said: list[str]) -> bool:
        return said.count("tick") >= count

    return await chat.until(chat.said, has_enough)


def runs_of(up: Up) -> list[dict[str, Any]]:
    listed = up.fased("task", "runs", "Tick", "--limit", "1000", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    runs: list[dict[str, Any]] = json.loads(listed.stdout)["runs"]
    return runs


def slots_of(runs: list[dict[str, Any]]) -> list[datetime]:
    """The slots that were carried out, oldest first."""
    slots = (run["body"]["slotTime"] for run in runs if run["state"] == "succeeded")
    return sorted(map(datetime.fromisoformat, slots))


def have_all_ended(runs: list[dict[str, Any]]) -> bool:
    return {run["state"] for run in runs} <= {"succeeded", "skipped", "missed"}


def check_slots(slots: list[datetime]) -> None:
    assert len(set(slots)) == len(slots)
    assert all((later - slots[0]) % PERIOD == timedelta(0) for later in slots)


async def test_a_task_made_in_the_chat_is_delivered_there_again_and_again(
    up: Up, ticking: Chat
) -> None:
    await ticks(ticking, 3)
    slots = slots_of(runs_of(up))
    assert len(slots) >= 3
    check_slots(slots)


async def test_a_killed_process_comes_back_with_its_history_and_goes_on(
    up: Up, ticking: Chat
) -> None:
    before = await ticking.events()
    await up.kill()
    await up.start()
    assert up.started_in_s < 5
    after = await ticking.events()
    assert after[: len(before)] == before
    await ticks(ticking, [event["text"] for event in after].count("tick") + 2)
    check_slots(slots_of(runs_of(up)))


async def test_ctrl_c_ends_it_well_and_it_comes_back_with_its_history(
    up: Up, ticking: Chat
) -> None:
    before = await ticking.events()
    assert await up.stop() == 0
    await up.start()
    assert up.started_in_s < 5
    after = await ticking.events()
    assert after[: len(before)] == before
    await ticks(ticking, [event["text"] for event in after].count("tick") + 2)
    check_slots(slots_of(runs_of(up)))


async def test_every_slot_was_delivered_at_most_once_and_nothing_crashed(
    up: Up, ticking: Chat
) -> None:
    await ticking.post("pause", "/task pause Tick")
    await ticking.wait_for_answers(2)
    runs = await ticking.until(lambda: asyncio.to_thread(runs_of, up), have_all_ended)
    slots = slots_of(runs)
    assert (await ticks(ticking, len(slots))).count("tick") == len(slots)
    assert "Traceback" not in up.output()
