"""People who write in many chats at once, and what must have come of it.

Decides what is posted and what counts as answered once and in order; the model is scripted to
answer `You said: {text}`.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.chats import Chat, open_chat
from tests.support.shapes import Door, Shape

ANSWER = "You said: {text}"


@dataclass(slots=True)
class Load:
    """Chats, and how many messages were posted in each so far."""

    chats: Sequence[Chat]
    posted: list[int]

    @property
    def messages(self) -> int:
        """All that were posted."""
        return sum(self.posted)

    async def post_while(self, going_on: asyncio.Event, at_least: int, pause_s: float) -> None:
        """Post in every chat while the event is set, and `at_least` so many in each."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self.chats)):
                group.create_task(self._post_in(number, going_on, at_least, pause_s))

    async def until_answered(self, timeout_s: float = 120) -> None:
        """Wait until every message has an answer."""
        try:
            async with asyncio.timeout(timeout_s):
                for chat, count in zip(self.chats, self.posted, strict=True):
                    await chat.wait_for_answers(count, timeout_s)
        except TimeoutError:
            counts = [len(await chat.answers()) for chat in self.chats]
            raise AssertionError(f"posted {self.posted}, answered {counts}") from None

    async def check(self) -> None:
        """Every message is there and was answered once, in order, and nothing else was said."""
        for number, chat in enumerate(self.chats):
            events = await chat.events()
            wanted = self.texts(number)
            posted = [event["text"] for event in events if event["kind"] == "posted"]
            assert posted == wanted, f"posted in chat {number}: {posted}"
            said = [(event["postId"], event["text"]) for event in events if event["kind"] == "said"]
            answers = [
                (_post_id(number, turn), ANSWER.format(text=text))
                for turn, text in enumerate(wanted)
            ]
            assert said == answers, f"said in chat {number}: {said}"
            assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))

    def check_transcript(self, shape: Shape, number: int) -> None:
        """The session of a chat shows the same, as the command tells it."""
        words = ("sessions", "show", self.chats[number].session_key, "--limit", "1000")
        shown = json.loads(shape.fased(*words, "-o", "json").stdout)
        assert [(line["role"], line["text"]) for line in shown["transcript"]] == [
            line
            for text in self.texts(number)
            for line in (("user", text), ("assistant", ANSWER.format(text=text)))
        ]

    def texts(self, number: int) -> list[str]:
        """What is posted in a chat, in order."""
        return [_text(number, turn) for turn in range(self.posted[number])]

    async def _post_in(
        self, number: int, going_on: asyncio.Event, at_least: int, pause_s: float
    ) -> None:
        # Each chat at its own pace, or all would be idle at the same moments.
        chance = random.Random(number)
        while going_on.is_set() or self.posted[number] < at_least:
            turn = self.posted[number]
            await self.chats[number].post(_post_id(number, turn), _text(number, turn))
            self.posted[number] += 1
            await asyncio.sleep(chance.uniform(0, 2 * pause_s))


async def open_load(door: Door, title: str, *, chats: int) -> Load:
    """New chats whose sessions are named after `title`."""
    opened = [await open_chat(door, f"{title} {number}") for number in range(chats)]
    return Load(opened, [0] * chats)


@asynccontextmanager
async def under_load(load: Load, *, at_least: int = 1, pause_s: float) -> AsyncIterator[None]:
    """Post while the block runs, which begins with the first answer; a chat pauses so long
    after each message, on average. After the block, everything is taken, answered and checked.
    """
    going_on = asyncio.Event()
    going_on.set()
    posting = asyncio.create_task(load.post_while(going_on, at_least, pause_s))
    try:
        await load.chats[0].wait_for_answers(1)
        yield
        going_on.clear()
        await posting
    finally:
        posting.cancel()
    await load.until_answered()
    await load.check()


def _text(number: int, turn: int) -> str:
    return f"message {turn} of chat {number}"


def _post_id(number: int, turn: int) -> str:
    return f"post-{number}-{turn}"
