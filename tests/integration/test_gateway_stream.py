"""A conversation over server-sent events: nothing missed, resumed by sequence, ended in time."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fased.api.channels.v1 import conversation_pb2
from fased.api.policy.v1 import policy_service_pb2
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Record
from tests.support.calls import DEADLINE_S
from tests.support.gateway import Gateway, open_gateway_on
from tests.support.webchat import answer, outbound_record, progress_of


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event; `comment` where it is none."""

    id: str = ""
    event: str = ""
    data: Mapping[str, Any] | None = None
    comment: str = ""


def parse(block: list[str]) -> Frame:
    """A block of lines as an event (WHATWG HTML §9.2)."""
    fields: dict[str, str] = {}
    for line in block:
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    data = json.loads(fields["data"]) if "data" in fields else None
    return Frame(fields.get("id", ""), fields.get("event", ""), data, fields.get("", ""))


@asynccontextmanager
async def listening(
    gateway: Gateway, path: str, **headers: str
) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of a stream, without the hint about reconnecting."""

    async def frames(lines: AsyncIterator[str]) -> AsyncGenerator[Frame, None]:
        block: list[str] = []
        async for line in lines:
            if line:
                block.append(line)
                continue
            if not block[0].startswith("retry:"):
                yield parse(block)
            block = []

    async with (
        asyncio.timeout(DEADLINE_S),
        gateway.http.stream("GET", path, headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async with aclosing(frames(response.aiter_lines())) as found:
            yield found


async def post(gateway: Gateway, conversation: str, message_id: str, text: str) -> None:
    taken = await gateway.http.post(
        f"{conversation}/messages", json={"text": text, "messageId": message_id}
    )
    assert taken.status_code == 201


def said_in(conversation: str, text: str, **fields: Any) -> Any:
    """A result for the conversation of a path."""
    name = conversation.removeprefix("/api/v1/")
    return answer(
        conversation_pb2.Conversation(name=name, agent_id="main", session_key="agent:main:main"),
        text,
        **fields,
    )


async def test_a_stream_gives_history_answers_and_partial_text(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        async with listening(gateway, f"{conversation}/stream") as frames:
            await post(gateway, conversation, "m-1", "one\nline two")
            first = await anext(frames)
            assert (first.id, first.event) == ("1", "posted")
            assert first.data is not None
            assert first.data["text"] == "one\nline two"
            said = said_in(conversation, "hi", message_id="m-1", run_id=7)
            partial = progress_of(said, message_pb2.PROGRESS_KIND_PARTIAL, "h")
            bus = gateway.running.host.bus
            await bus.publish(
                [Record(topics.RUN_PROGRESS, "default/7", partial.SerializeToString())]
            )
            shown = await anext(frames)
            assert (shown.id, shown.event) == ("", "partial")
            await bus.publish([outbound_record(said)])
            rest = [await anext(frames), await anext(frames)]
            assert [(each.id, each.event) for each in rest] == [("2", "said"), ("3", "state")]
            assert rest[1].data is not None
            assert rest[1].data["postState"] == "answered"


async def test_a_stream_resumes_after_the_last_sequence_seen(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        for number in range(1, 6):
            await post(gateway, conversation, f"m-{number}", f"text {number}")
        async with listening(gateway, f"{conversation}/stream?after=3") as frames:
            assert [(await anext(frames)).id for _ in range(2)] == ["4", "5"]
        again = listening(gateway, f"{conversation}/stream?after=1", **{"Last-Event-ID": "4"})
        async with again as frames:
            assert (await anext(frames)).id == "5"


async def test_a_quiet_stream_shows_that_it_lives(database_url: str) -> None:
    async with open_gateway_on(database_url, stream_heartbeat_s=0.05) as gateway:
        conversation = await gateway.open()
        async with listening(gateway, f"{conversation}/stream") as frames:
            assert (await anext(frames)).comment
            await post(gateway, conversation, "m-1", "still here")
            while not (frame := await anext(frames)).data:
                pass
            assert frame.data["text"] == "still here"


async def test_a_stream_ends_when_its_token_is_revoked(database_url: str) -> None:
    async with open_gateway_on(database_url, stream_heartbeat_s=0.05) as gateway:
        conversation = await gateway.open()
        async with listening(gateway, f"{conversation}/stream") as frames:
            await anext(frames)
            name = "namespaces/default/tokens/ada"
            await gateway.tokens.RevokeToken(policy_service_pb2.RevokeTokenRequest(name=name))
            assert all([frame.comment async for frame in frames])


async def test_a_stream_ends_when_the_process_stops(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        await post(gateway, conversation, "m-1", "hello")
        async with listening(gateway, f"{conversation}/stream") as frames:
            await anext(frames)
            gateway.running.host.stop.set()
            assert [frame async for frame in frames if frame.data] == []
