"""Watching a conversation: nothing stored is missed, order holds, partial answers are extra."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import conversation_pb2
from fased.api.types.v1 import message_pb2
from fased.core.errors import InvalidArgument, NotFound
from services.channels.service import open_service as open_channels
from tests.support.calls import DEADLINE_S
from tests.support.services import running
from tests.support.webchat import WebChat, answer, open_webchat, progress_of

PARTIAL = conversation_pb2.CONVERSATION_EVENT_KIND_PARTIAL
STATE = conversation_pb2.CONVERSATION_EVENT_KIND_STATE


def watch(
    webchat: WebChat, conversation: conversation_pb2.Conversation, after: int = 0
) -> AsyncIterator[Any]:
    request = pb.WatchConversationRequest(name=conversation.name, after_sequence=after)
    stream: AsyncIterator[Any] = webchat.chat.WatchConversation(request, timeout=DEADLINE_S)
    return stream


async def take(stream: AsyncIterator[Any], count: int) -> list[Any]:
    return [(await anext(stream)).event for _ in range(count)]


async def test_a_watch_gives_what_is_stored_and_then_what_comes(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "one")
        await webchat.post(conversation, "m-2", "two")
        stream = watch(webchat, conversation, after=1)
        assert [event.text for event in await take(stream, 1)] == ["two"]
        await webchat.post(conversation, "m-3", "three")
        await webchat.publish(answer(conversation, "four", message_id="m-3"))
        events = await take(stream, 3)
        assert [event.sequence for event in events] == [3, 4, 5]
        assert [event.text for event in events[:2]] == ["three", "four"]


async def test_watchers_miss_nothing_while_many_post(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        streams = [watch(webchat, conversation) for _ in range(3)]
        reading = [asyncio.create_task(take(stream, 40)) for stream in streams]
        await asyncio.gather(
            *(webchat.post(conversation, f"m-{number}", "x") for number in range(40))
        )
        for events in await asyncio.gather(*reading):
            assert [event.sequence for event in events] == list(range(1, 41))


async def test_a_long_history_is_given_whole(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.publish(*(answer(conversation, f"text {number}") for number in range(450)))
        await webchat.until(conversation, 450)
        events = await take(watch(webchat, conversation), 450)
        assert [event.text for event in events] == [f"text {number}" for number in range(450)]


async def test_a_started_run_is_shown_once_and_partial_text_is_not_stored(
    database_url: str,
) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        stream = watch(webchat, conversation, after=1)
        said = answer(conversation, "hi there", message_id="m-1", run_id=7)
        started = progress_of(said, message_pb2.PROGRESS_KIND_STARTED)
        await webchat.report(started)
        await webchat.report(started)
        (thinking,) = await take(stream, 1)
        assert (thinking.sequence, thinking.kind, thinking.post_id) == (2, STATE, "m-1")
        assert thinking.post_state == conversation_pb2.POST_STATE_THINKING
        await webchat.report(progress_of(said, message_pb2.PROGRESS_KIND_PARTIAL, "hi"))
        (partial,) = await take(stream, 1)
        assert (partial.sequence, partial.kind, partial.text) == (0, PARTIAL, "hi")
        assert (partial.post_id, partial.run_id) == ("m-1", 7)
        await webchat.publish(said)
        events = await take(stream, 2)
        assert [event.sequence for event in events] == [3, 4]
        assert len(await webchat.events(conversation)) == 4


async def test_progress_of_another_namespace_is_not_shown(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        stream = watch(webchat, conversation)
        await take(stream, 1)
        said = answer(conversation, "hi", message_id="m-1", run_id=7)
        foreign = progress_of(said, message_pb2.PROGRESS_KIND_PARTIAL, "not yours")
        foreign.namespace = "other"
        await webchat.report(foreign)
        await webchat.report(progress_of(said, message_pb2.PROGRESS_KIND_PARTIAL, "yours"))
        assert [event.text for event in await take(stream, 1)] == ["yours"]


async def test_a_watcher_of_another_replica_sees_it_too(database_url: str) -> None:
    async with (
        open_webchat(database_url) as webchat,
        running(database_url, lambda *_: (open_channels,)) as twin,
    ):
        conversation = await webchat.open()
        request = pb.WatchConversationRequest(name=conversation.name)
        watching = type(webchat.chat)(twin.channel).WatchConversation(request, timeout=DEADLINE_S)
        await webchat.post(conversation, "m-1", "hello")
        assert [event.text for event in await take(watching, 1)] == ["hello"]


async def test_a_watch_ends_when_the_service_stops(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        stream = watch(webchat, conversation)
        await take(stream, 1)
        webchat.running.host.stop.set()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_watch_needs_a_conversation_and_a_sequence_it_has(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        with pytest.raises(InvalidArgument) as refused:
            await take(watch(webchat, conversation, after=5), 1)
        assert refused.value.reason == "INVALID_SEQUENCE"
        name = conversation.name.replace("default", "other")
        with pytest.raises(NotFound):
            await take(watch(webchat, conversation_pb2.Conversation(name=name)), 1)
