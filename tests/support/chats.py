"""A person on the chat page, by its HTTP API: posts until accepted, reads what came."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2 as httpx

from tests.support.shapes import Door

T = TypeVar("T")

NAMESPACE = "/api/v1/namespaces/default"


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation of a running Fased."""

    up: Door
    conversation: str
    session_key: str

    @property
    def path(self) -> str:
        """Where it lies in the API."""
        return f"{NAMESPACE}/conversations/{self.conversation}"

    async def states(self) -> dict[str, str]:
        """Where each post stands, by its id."""
        return {
            event["postId"]: event["postState"]
            for event in await self.events()
            if event["kind"] in ("posted", "state")
        }

    async def ask(self, message_id: str, text: str, timeout_s: float = 60) -> str:
        """Post, and give the answer."""

        def is_answered(answers: dict[str, list[str]]) -> bool:
            return message_id in answers

        await self.post(message_id, text)
        [answer] = (await self.until(self.answers, is_answered, timeout_s))[message_id]
        return answer

    async def post(self, message_id: str, text: str) -> None:
        """Post as a browser does: the same key until the answer is 2xx, whatever breaks."""
        while True:
            try:
                response = await self.attempt(message_id, text)
                if response.status_code < 300:
                    return
                assert response.status_code in (429, 500, 503, 504), response.text
            except (httpx.TransportError, FileNotFoundError):
                pass  # it is being restarted
            await asyncio.sleep(0.05)

    async def attempt(self, message_id: str, text: str) -> httpx.Response:
        """Post once; whatever it is answered with."""
        async with self.up.http() as client:
            return await client.post(
                f"{self.path}/messages",
                json={"text": text},
                headers={"Idempotency-Key": message_id},
            )

    async def events(self) -> list[dict[str, Any]]:
        """All stored events, oldest first; asks again while it is told to come back."""
        found: list[dict[str, Any]] = []
        token = ""
        async with self.up.http() as client:
            while True:
                answer = await client.get(
                    f"{self.path}/events", params={"pageSize": 1000, "pageToken": token}
                )
                if answer.status_code == 503:
                    await asyncio.sleep(0.05)
                    continue
                page = answer.json()
                found = page["events"] + found
                token = page["nextPageToken"]
                if not token:
                    return found

    async def said(self) -> list[str]:
        """What Fased said, oldest first."""
        return [event["text"] for event in await self.events() if event["kind"] == "said"]

    async def until(
        self, read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], timeout_s: float = 60
    ) -> T:
        """What `read` gives, once it holds."""
        async with asyncio.timeout(timeout_s):
            while not holds(found := await read()):  # noqa: ASYNC110 (it is in another process)
                await asyncio.sleep(0.1)
        return found

    async def answers(self) -> dict[str, list[str]]:
        """Texts that Fased said, by the post they answer, in order."""
        said: dict[str, list[str]] = {}
        for event in await self.events():
            if event["kind"] == "said" and event["postId"]:
                said.setdefault(event["postId"], []).append(event["text"])
        return said

    async def wait_for_answers(self, count: int, timeout_s: float = 60) -> None:
        """Wait until that many posts have an answer."""
        async with asyncio.timeout(timeout_s):
            while len(await self.answers()) < count:  # noqa: ASYNC110 (it is in another process)
                await asyncio.sleep(0.1)


async def open_chat(up: Door, title: str = "", agent_id: str = "") -> Chat:
    """A conversation in the main session, or in a new one with this title."""
    async with up.http() as client:
        key = ""
        if title:
            made = await client.post(
                f"{NAMESPACE}/sessions", json={"title": title, "agentId": agent_id}
            )
            assert made.status_code < 300, made.text
            key = made.json()["session"]["sessionKey"]
        opened = await client.post(
            f"{NAMESPACE}/conversations", json={"sessionKey": key, "agentId": agent_id}
        )
        assert opened.status_code < 300, opened.text
    conversation = opened.json()["conversation"]
    return Chat(up, conversation["name"].rpartition("/")[2], conversation["sessionKey"])
