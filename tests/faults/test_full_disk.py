"""A full disk under PostgreSQL: each post gets one clear error, nothing is half written, and what
was refused is accepted and answered once when there is room again.
"""

import base64
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.support.chats import Chat, open_chat
from tests.support.postgres import temporary_folder
from tests.support.up import Up, running_up

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone mounts a small disk"),
]

DISK_BYTES = 192 * 2**20
REFUSED = {"DATABASE_EXHAUSTED", "DATABASE_UNAVAILABLE"}
POSTS_MAX = 500


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A small disk of its own, gone after the module whatever happens."""
    with temporary_folder() as base:
        path = base / "disk"
        path.mkdir(mode=0o755)
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(path)]
        subprocess.run(words, check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(disk: Path) -> AsyncIterator[Up]:
    environment = {"FASED_SCRIPTED_MODEL": "echo", "FASED_POSTGRES_SYSTEM_DIR": str(disk)}
    async with running_up(**environment) as started:
        yield started
        assert "Traceback" not in started.output()


def fill(disk: Path) -> Path:
    """Leave no byte free; gives the file that holds them."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def text_of(number: int) -> str:
    """A long text that does not compress, so that it needs room soon."""
    return base64.b64encode(random.Random(number).randbytes(23_000)).decode()


async def refusal(chat: Chat) -> tuple[int, httpx.Response]:
    """Post until the disk has no room for one: its number, and how it was refused."""
    for number in range(POSTS_MAX):
        answer = await chat.attempt(f"m-{number}", text_of(number))
        if answer.status_code != 201:
            return number, answer
    raise AssertionError("the disk never filled up")


async def posted(chat: Chat) -> list[str]:
    return [event["messageId"] for event in await chat.events() if event["kind"] == "posted"]


async def test_a_post_without_room_is_refused_whole_and_accepted_once_when_there_is_room(
    up: Up, disk: Path
) -> None:
    chat = await open_chat(up, "full")
    texts = {"before": "hello"}
    assert await chat.ask("before", texts["before"]) == "You said: hello"
    ballast = fill(disk)
    try:
        number, answer = await refusal(chat)
        error = answer.json()["error"]
        assert (answer.status_code, error["reason"] in REFUSED) == (503, True)
        assert answer.headers["retry-after"]
        assert "\n" not in error["message"]
        texts |= {f"m-{each}": text_of(each) for each in range(number)}
        assert await posted(chat) == list(texts)
        # What finds room is accepted, and answered at the latest when there is room for that.
        if (await chat.attempt("small", "still there?")).status_code == 201:
            texts["small"] = "still there?"
    finally:
        ballast.unlink()
    texts[f"m-{number}"] = text_of(number)
    await chat.post(f"m-{number}", texts[f"m-{number}"])
    answers = await chat.until(chat.answers, lambda found: len(found) >= len(texts))
    # A long answer comes in several messages.
    said = {post_id: "".join(parts) for post_id, parts in answers.items()}
    assert said == {post_id: f"You said: {text}" for post_id, text in texts.items()}
    assert await posted(chat) == list(texts)


async def test_what_was_said_before_is_there_and_it_stops_and_starts_as_ever(up: Up) -> None:
    chat = await open_chat(up, "full")
    before = await chat.events()
    assert await up.stop() == 0
    await up.start()
    assert (await chat.events())[: len(before)] == before
    assert await chat.ask("after", "well?") == "You said: well?"
