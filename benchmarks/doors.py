"""The doors by which messages come to the message path's benchmark, and how long each took.

Decides what a message's time is: from the moment somebody said it until the platform has its
answer. The texts differ, so that an answer tells its message.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Protocol

import asyncpg
import httpx2

from fased.api.channels.v1 import account_pb2, channels_service_pb2, channels_service_pb2_grpc
from fased.api.router.v1 import pairing_pb2, router_service_pb2, router_service_pb2_grpc
from fased.bus import topics
from fased.bus.coalesce import Coalescer
from fased.core.conversations import Conversation, inbound_event
from fased.core.events import OutboxEvent
from fased.core.messages import Sender, bus_key
from fased.core.names import DEFAULT_NAMESPACE, AgentId, SessionKey
from fased.rpc.client import open_client
from fased.store import notify, outbox
from fased.wire.messages import inbound_to_pb
from tests.support.chats import Chat, open_chat
from tests.support.shapes import Shape
from tests.support.telegram_api import telegram_api
from tests.support.telegram_state import Bot

TOKEN = "1000001:a-token-of-the-benchmark"
TOKEN_NAME = "BENCHMARK_TELEGRAM_TOKEN"
ANSWER = "You said: "
_PARENT = "namespaces/default"
_SAID = """
SELECT text, extract(epoch FROM created_at)::float8 AS at
  FROM channels.conversation_event WHERE kind = 'said'
"""


class Door(Protocol):
    """Where somebody says something."""

    async def say(self, session: int, text: str) -> None:
        """Say it in one of the sessions; returns when it is accepted, or on its way."""

    async def answered(self) -> list[tuple[str, float]]:
        """What was answered so far, with the time at which it was there."""


async def telegram(shape: Shape, sessions: int, stack: AsyncExitStack) -> Door:
    """A Bot API server that calls the webhook and takes what is sent; a private chat a session."""
    api = await stack.enter_async_context(telegram_api())
    bot = api.add_bot(TOKEN)
    account = account_pb2.Account(
        channel="telegram",
        account_id="default",
        credential=f"env:{TOKEN_NAME}",
        mode=account_pb2.RECEIVE_MODE_WEBHOOK,
        api_base=api.base_url,
        webhook_url=shape.webhook_url,
    )
    gate = pairing_pb2.Gate(
        name=f"{_PARENT}/gates/telegram:default", dm_policy="open", allow_from=["*"]
    )
    gateway = shape.gateway()
    channel, client = open_client(gateway.grpc, gateway.token)
    stack.push_async_callback(client.close)
    await router_service_pb2_grpc.GateServiceStub(channel).UpdateGate(
        router_service_pb2.UpdateGateRequest(gate=gate)
    )
    await channels_service_pb2_grpc.AccountServiceStub(channel).CreateAccount(
        channels_service_pb2.CreateAccountRequest(parent=_PARENT, account=account)
    )
    return _Telegram(bot)


class _Telegram:
    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def say(self, session: int, text: str) -> None:
        self._bot.user_says(1_000 + session, text)

    async def answered(self) -> list[tuple[str, float]]:
        return [(sent.text.removeprefix(ANSWER), sent.at) for sent in self._bot.sent]


async def webchat(shape: Shape, sessions: int, stack: AsyncExitStack) -> Door:
    """Posts to the HTTP API, over connections that are kept; a conversation a session."""
    client = await stack.enter_async_context(shape.http())
    chats = [await open_chat(shape, f"chat {number}") for number in range(sessions)]
    return _WebChat(chats, client, await _connected(shape, stack))


class _WebChat:
    def __init__(
        self,
        chats: Sequence[Chat],
        client: httpx2.AsyncClient,
        conn: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        self._chats = chats
        self._client = client
        self._conn = conn

    async def say(self, session: int, text: str) -> None:
        response = await self._client.post(
            f"{self._chats[session].path}/messages",
            json={"text": text},
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )
        response.raise_for_status()

    async def answered(self) -> list[tuple[str, float]]:
        return await _said(self._conn)


async def outbox_row(shape: Shape, sessions: int, stack: AsyncExitStack) -> Door:
    """Writes what a channel stores of a message it received; a conversation a session."""
    chats = [await open_chat(shape, f"chat {number}") for number in range(sessions)]
    hints = await stack.enter_async_context(notify.open_hints(shape.dsn))
    return _Outbox(chats, await _connected(shape, stack), hints)


class _Outbox:
    def __init__(
        self,
        chats: Sequence[Chat],
        conn: "asyncpg.Connection[asyncpg.Record]",
        hints: notify.Hints,
    ) -> None:
        self._chats = chats
        self._hints = hints
        self._conn = conn
        self._storing = Coalescer(self._store, max_calls=200)

    async def say(self, session: int, text: str) -> None:
        chat = self._chats[session]
        now = datetime.now(UTC)
        conversation = Conversation(
            namespace=DEFAULT_NAMESPACE,
            id=uuid.UUID(chat.conversation),
            agent_id=AgentId("main"),
            session_key=SessionKey(chat.session_key),
            last_sequence=0,
            created_at=now,
        )
        event = inbound_event(conversation, uuid.uuid4().hex, text, Sender("somebody"), now, None)
        key = bus_key(event.namespace, event.channel, event.account_id, event.peer)
        value = inbound_to_pb(event).SerializeToString()
        await self._storing.call(OutboxEvent(topics.INBOUND, key, event.event_id, value))

    async def answered(self) -> list[tuple[str, float]]:
        return await _said(self._conn)

    async def _store(self, events: Sequence[OutboxEvent]) -> Sequence[None]:
        await outbox.insert(self._conn, "channels", events)
        self._hints.send(outbox.hint_name("channels"))
        return [None] * len(events)


async def _connected(shape: Shape, stack: AsyncExitStack) -> "asyncpg.Connection[asyncpg.Record]":
    conn = await asyncpg.connect(shape.dsn)
    stack.push_async_callback(conn.close)
    return conn


async def _said(conn: "asyncpg.Connection[asyncpg.Record]") -> list[tuple[str, float]]:
    return [(row["text"].removeprefix(ANSWER), row["at"]) for row in await conn.fetch(_SAID)]


DOORS: Mapping[str, Callable[[Shape, int, AsyncExitStack], Awaitable[Door]]] = {
    "telegram": telegram,
    "webchat": webchat,
    "outbox": outbox_row,
}
