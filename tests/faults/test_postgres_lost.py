"""PostgreSQL dies under a running `fased up`: it comes back by itself, and no message is lost or
answered twice.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.support.chats import Chat, open_chat
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

CHATS = 5
MESSAGES = 8
# What a post may be answered with while the database is away, and what says so.
REFUSALS = {
    (503, "DATABASE_UNAVAILABLE"),
    (503, "DATABASE_EXHAUSTED"),
    (504, "DEADLINE_EXCEEDED"),
}
# How long a machine that is busy with other things may take.
SETTLED_S = 240.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[Up]:
    async with running_up(FASED_SCRIPTED_MODEL="echo") as started:
        yield started
        crashed = [line for line in started.output().splitlines() if "Traceback" in line]
        assert crashed == []


async def post(chat: Chat, message_id: str, refused: Counter[tuple[int, str]]) -> None:
    """Post until it is accepted; every refusal is counted by its status and reason."""
    while True:
        answer = await chat.attempt(message_id, f"text of {message_id}")
        if answer.status_code == 201:
            return
        refused[answer.status_code, answer.json()["error"]["reason"]] += 1
        await asyncio.sleep(0.05)


async def post_all(
    chat: Chat, name: str, refused: Counter[tuple[int, str]], accepted: asyncio.Semaphore
) -> None:
    for number in range(MESSAGES):
        await post(chat, f"{name}-{number}", refused)
        accepted.release()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT], ids=["killed", "immediate"])
async def test_a_lost_database_comes_back_and_every_accepted_message_is_answered_once(
    up: Up, how: signal.Signals
) -> None:
    pid = up.gateway()["pid"]
    chats = [await open_chat(up, f"{how.name} {number}") for number in range(CHATS)]
    refused: Counter[tuple[int, str]] = Counter()
    accepted = asyncio.Semaphore(0)
    posting = [
        asyncio.create_task(post_all(chat, f"m{number}", refused, accepted))
        for number, chat in enumerate(chats)
    ]
    for _ in range(CHATS * 2):
        await accepted.acquire()
    up.kill_postgres(how)
    await asyncio.gather(*posting)
    for number, chat in enumerate(chats):
        await chat.wait_for_answers(MESSAGES, SETTLED_S)
        said = [event["text"] for event in await chat.events() if event["kind"] == "said"]
        assert said == [f"You said: text of m{number}-{each}" for each in range(MESSAGES)]
    assert refused.keys() <= REFUSALS
    assert up.gateway()["pid"] == pid


async def test_while_the_database_is_away_health_says_so_and_pages_are_still_served(
    up: Up,
) -> None:
    chat = await open_chat(up, "away")
    up.kill_postgres()
    async with up.http() as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/")).status_code == 200
        answer: httpx.Response = await client.get(f"{chat.path}/events")
        assert answer.status_code in (200, 503, 504)
    assert await chat.ask("after", "back?", SETTLED_S) == "You said: back?"


async def test_a_task_goes_on_after_the_database_came_back(up: Up) -> None:
    chat = await open_chat(up, "ticking")
    await chat.ask("make", "/task new every 1s --mode no-model Tick: tick", SETTLED_S)

    def ticks(said: list[str]) -> int:
        return said.count("tick")

    await chat.until(chat.said, lambda said: ticks(said) >= 1, SETTLED_S)
    up.kill_postgres()
    await chat.ask("after", "back?", SETTLED_S)
    before = ticks(await chat.said())
    await chat.until(chat.said, lambda said: ticks(said) >= before + 2, SETTLED_S)
    assert up.process is not None
    assert up.process.returncode is None
