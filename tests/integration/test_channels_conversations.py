"""WebChat over gRPC on a real database and bus: opening, posting, and what the bus carries."""

import asyncio
import uuid

import pytest

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import conversation_pb2
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from tests.support.calls import acting
from tests.support.webchat import answer, open_webchat

POSTED = conversation_pb2.CONVERSATION_EVENT_KIND_POSTED
SAID = conversation_pb2.CONVERSATION_EVENT_KIND_SAID


async def test_opening_twice_gives_the_same_conversation(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        first = await webchat.open()
        assert (first.agent_id, first.session_key) == ("main", "agent:main:main")
        assert await webchat.open(agent_id="main") == first
        assert await webchat.open(session_key="agent:main:main") == first


async def test_the_default_agent_is_the_one_marked(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        await webchat.add_agent("ops", is_default=True)
        assert (await webchat.open()).agent_id == "ops"


async def test_an_agent_that_is_not_there_opens_nothing(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        with pytest.raises(NotFound):
            await webchat.open(agent_id="nobody")
        with pytest.raises(FailedPrecondition) as refused:
            await webchat.open(namespace="empty")
        assert refused.value.reason == "NO_AGENT"


async def test_a_session_of_another_agent_is_refused(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        await webchat.add_agent("ops")
        with pytest.raises(InvalidArgument) as refused:
            await webchat.open(agent_id="ops", session_key="agent:main:main")
        assert refused.value.metadata == {"field": "session_key"}


async def test_a_post_reaches_the_bus_as_an_inbound_event(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        posted = await webchat.post(
            conversation, "m-1", "hello", sender=message_pb2.Sender(display_name="Ada")
        )
        assert (posted.sequence, posted.kind) == (1, POSTED)
        assert posted.post_state == conversation_pb2.POST_STATE_QUEUED
        (record,) = await webchat.published(topics.INBOUND, 1)
    event = message_pb2.InboundEvent.FromString(record.value)
    conversation_id = conversation.name.rpartition("/")[2]
    assert record.key == f"default/webchat/default/direct/{conversation_id}"
    assert record.headers["ce-id"] == event.event_id
    assert event.event_id == f"default:webchat:default:{conversation_id}/m-1"
    assert (event.text, event.native_id) == ("hello", "m-1")
    assert (event.sender.id, event.sender.display_name) == ("ada", "Ada")
    assert event.peer.id == conversation_id
    assert event.attached.session_key == "agent:main:main"
    assert event.receive_time == posted.create_time


async def test_a_repeated_post_is_stored_and_published_once(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        first = await webchat.post(conversation, "m-1", "hello")
        repeats = await asyncio.gather(
            *(webchat.post(conversation, "m-1", "hello") for _ in range(5))
        )
        assert repeats == [first] * 5
        await webchat.post(conversation, "m-2", "bye")
        records = await webchat.published(topics.INBOUND, 2)
        texts = [message_pb2.InboundEvent.FromString(each.value).text for each in records]
        assert texts == ["hello", "bye"]
        assert [event.sequence for event in await webchat.events(conversation)] == [1, 2]


async def test_a_message_id_with_another_text_is_refused(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        with pytest.raises(AlreadyExists) as refused:
            await webchat.post(conversation, "m-1", "other")
        assert refused.value.reason == "MESSAGE_ID_USED"
        assert len(await webchat.events(conversation)) == 1


async def test_sequences_of_concurrent_posts_have_no_gap(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        posts = [webchat.post(conversation, f"m-{n}", f"text {n}") for n in range(30)]
        sequences = [event.sequence for event in await asyncio.gather(*posts)]
        assert sorted(sequences) == list(range(1, 31))
        assert (await webchat.open()).last_sequence == 30


async def test_a_bad_post_leaves_nothing(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        for message_id, text, field in (("", "x", "message_id"), ("a", "", "text")):
            with pytest.raises(InvalidArgument) as refused:
                await webchat.post(conversation, message_id, text)
            assert refused.value.metadata == {"field": field}
        with pytest.raises(InvalidArgument) as refused:
            await webchat.post(conversation, "m-1", "and?", reply_to_id="nothing")
        assert refused.value.metadata == {"field": "reply_to_id"}
        assert await webchat.events(conversation) == []
        async with webchat.running.host.database.queue.acquire() as conn:
            assert await conn.fetchval("SELECT count(*) FROM channels.outbox") == 0
            assert await conn.fetchval("SELECT count(*) FROM channels.post") == 0


async def test_a_reply_carries_what_it_quotes(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "what is up?")
        said = answer(conversation, "the **sky**", message_id="m-1")
        await webchat.publish(said)
        await webchat.until(conversation, 3)
        posted = await webchat.post(conversation, "m-2", "why?", reply_to_id=said.id)
        assert posted.reply_to_id == said.id
        await webchat.post(conversation, "m-3", "hm", reply_to_id="m-1")
        records = await webchat.published(topics.INBOUND, 3)
    quotes = [message_pb2.InboundEvent.FromString(each.value).reply_to for each in records]
    assert (quotes[1].id, quotes[1].body, quotes[1].sender) == (said.id, "the **sky**", "main")
    assert (quotes[2].id, quotes[2].body, quotes[2].sender) == ("m-1", "what is up?", "ada")


async def test_history_pages_go_back_to_the_beginning(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        for number in range(7):
            await webchat.post(conversation, f"m-{number}", f"text {number}")
        token, pages = "", list[list[int]]()
        while not pages or token:
            request = pb.ListEventsRequest(name=conversation.name, page_size=3, page_token=token)
            page = await webchat.chat.ListEvents(request)
            pages.append([event.sequence for event in page.events])
            token = page.next_page_token
        assert pages == [[5, 6, 7], [2, 3, 4], [1]]


async def test_a_conversation_of_another_namespace_is_not_there(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        await webchat.add_agent("main", namespace="other")
        ours, theirs = await webchat.open(), await webchat.open(namespace="other")
        assert ours.name.rpartition("/")[2] != theirs.name.rpartition("/")[2]
        await webchat.post(theirs, "m-1", "secret")
        crossed = ours.name.rpartition("/")[0] + "/" + theirs.name.rpartition("/")[2]
        with pytest.raises(NotFound):
            await webchat.chat.ListEvents(pb.ListEventsRequest(name=crossed))
        with pytest.raises(NotFound):
            await webchat.post(conversation_pb2.Conversation(name=crossed), "m-1", "hi")
        with pytest.raises(PermissionDenied):
            await webchat.chat.ListEvents(
                pb.ListEventsRequest(name=theirs.name), **acting("default")
            )
        assert await webchat.events(ours) == []


async def test_two_namespaces_may_use_the_same_ids(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        await webchat.add_agent("main", namespace="other")
        ours, theirs = await webchat.open(), await webchat.open(namespace="other")
        delivery_id = str(uuid.uuid4())
        for conversation in (ours, theirs):
            await webchat.post(conversation, "m-1", f"in {conversation.name}")
            said = answer(conversation, "here", message_id="m-1", delivery_id=delivery_id)
            await webchat.publish(said)
        for conversation in (ours, theirs):
            posted, said_event, _ = await webchat.until(conversation, 3)
            assert posted.text == f"in {conversation.name}"
            assert (said_event.kind, said_event.message_id) == (SAID, delivery_id)


async def test_an_id_that_is_no_uuid_is_no_conversation(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        name = "namespaces/default/conversations/nope"
        with pytest.raises(NotFound):
            await webchat.chat.ListEvents(pb.ListEventsRequest(name=name))
