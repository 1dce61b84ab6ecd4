"""Deliveries on a real database and bus: once each, with receipts, and said to the run."""

import uuid

import pytest

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import conversation_pb2, delivery_pb2
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Record
from fased.core.errors import NotFound
from fased.core.messages import MessageKind
from tests.support.calls import eventually
from tests.support.webchat import WebChat, answer, open_webchat

SENT = delivery_pb2.DELIVERY_STATE_SENT
FAILED = delivery_pb2.DELIVERY_STATE_FAILED
ANSWERED = conversation_pb2.POST_STATE_ANSWERED


async def delivery_of(webchat: WebChat, delivery_id: str) -> delivery_pb2.Delivery:
    """A delivery, once it was taken in."""
    name = f"namespaces/default/deliveries/{delivery_id}"

    async def taken_in() -> delivery_pb2.Delivery | None:
        found: pb.GetDeliveryResponse
        try:
            found = await webchat.deliveries.GetDelivery(pb.GetDeliveryRequest(name=name))
        except NotFound:
            return None
        return found.delivery

    found: delivery_pb2.Delivery = await eventually(taken_in)
    return found


async def test_an_answer_is_said_once_and_its_post_answered(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        said = answer(conversation, "hi there", message_id="m-1", run_id=7)
        await webchat.publish(said, said)
        await webchat.publish(said)
        await webchat.publish(answer(conversation, "the end"))
        events = await webchat.until(conversation, 4)
        assert [event.text for event in events] == ["hello", "hi there", "", "the end"]
        assert [event.sequence for event in events] == [1, 2, 3, 4]
        spoken, state = events[1], events[2]
        assert (spoken.agent_id, spoken.post_id, spoken.run_id) == ("main", "m-1", 7)
        assert spoken.message_kind == message_pb2.MESSAGE_KIND_ANSWER
        assert (state.post_id, state.post_state) == ("m-1", ANSWERED)
        delivery = await delivery_of(webchat, said.id)
        assert delivery.state == SENT
        assert [chunk.receipt for chunk in delivery.chunks] == ["2"]


async def test_the_run_hears_of_its_delivery_once(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        said = answer(conversation, "tick", run_id=7)
        await webchat.publish(said, said, answer(conversation, "of no run"))
        await webchat.publish(answer(conversation, "tock", run_id=8))
        records = await webchat.published(topics.RUN_EVENTS, 2)
    events = sorted(
        (message_pb2.RunEvent.FromString(each.value) for each in records), key=lambda e: e.run_id
    )
    assert [(event.run_id, event.delivery_state) for event in events] == [(7, "sent"), (8, "sent")]
    assert events[0].delivery_id == said.id
    assert events[0].kind == message_pb2.RUN_EVENT_KIND_DELIVERY


async def test_a_failure_is_said_and_its_post_failed(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        await webchat.publish(
            answer(conversation, "no model", message_id="m-1", kind=MessageKind.FAILURE)
        )
        _, said, state = await webchat.until(conversation, 3)
        assert said.message_kind == message_pb2.MESSAGE_KIND_FAILURE
        assert state.post_state == conversation_pb2.POST_STATE_FAILED


async def test_a_message_for_an_unknown_channel_is_kept_as_failed(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        lost = answer(conversation, "x" * 9000, channel="pigeon", run_id=9)
        await webchat.publish(lost)
        delivery = await delivery_of(webchat, lost.id)
        assert (delivery.state, delivery.reason) == (FAILED, "UNKNOWN_CHANNEL")
        assert [chunk.state for chunk in delivery.chunks] == [FAILED] * 3
        (record,) = await webchat.published(topics.RUN_EVENTS, 1)
        event = message_pb2.RunEvent.FromString(record.value)
        assert (event.delivery_state, event.reason) == ("failed", "UNKNOWN_CHANNEL")


async def test_a_conversation_that_is_not_there_takes_nothing(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        await webchat.add_agent("main", namespace="other")
        theirs = await webchat.open(namespace="other")
        crossed = conversation_pb2.Conversation(
            name=theirs.name.replace("other", "default"), agent_id="main"
        )
        lost = answer(crossed, "not for them")
        await webchat.publish(lost)
        delivery = await delivery_of(webchat, lost.id)
        assert (delivery.state, delivery.reason) == (FAILED, "CHAT_NOT_FOUND")
        assert await webchat.events(theirs) == []


async def test_a_record_that_is_no_message_blocks_nobody(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        key = f"default/webchat/default/direct/{conversation.name.rpartition('/')[2]}"
        await webchat.running.host.bus.publish([Record(topics.OUTBOUND, key, b"\xff\xff")])
        await webchat.publish(answer(conversation, "after the poison"))
        (event,) = await webchat.until(conversation, 1)
        assert event.text == "after the poison"
        (letter,) = await webchat.published(topics.DEAD_LETTER, 1)
        assert letter.headers["fased-origin-topic"] == topics.OUTBOUND


async def test_deliveries_are_listed_latest_first_by_page_and_state(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        sent = [answer(conversation, f"text {number}") for number in range(3)]
        failed = answer(conversation, "lost", channel="pigeon")
        for message in (*sent, failed):
            await webchat.publish(message)
            await delivery_of(webchat, message.id)
        parent, token = "namespaces/default", ""
        listed: list[str] = []
        while not listed or token:
            page = await webchat.deliveries.ListDeliveries(
                pb.ListDeliveriesRequest(parent=parent, page_size=2, page_token=token)
            )
            listed += [each.name.rpartition("/")[2] for each in page.deliveries]
            token = page.next_page_token
        assert listed == [each.id for each in reversed((*sent, failed))]
        only = await webchat.deliveries.ListDeliveries(
            pb.ListDeliveriesRequest(parent=parent, state=FAILED)
        )
        assert [each.name.rpartition("/")[2] for each in only.deliveries] == [failed.id]
        elsewhere = await webchat.deliveries.ListDeliveries(
            pb.ListDeliveriesRequest(parent="namespaces/other")
        )
        assert not elsewhere.deliveries


async def test_a_delivery_of_another_namespace_is_not_there(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        conversation = await webchat.open()
        said = answer(conversation, "ours")
        await webchat.publish(said)
        await delivery_of(webchat, said.id)
        for delivery_id in (said.id, str(uuid.uuid4()), "nope"):
            name = f"namespaces/other/deliveries/{delivery_id}"
            with pytest.raises(NotFound):
                await webchat.deliveries.GetDelivery(pb.GetDeliveryRequest(name=name))


async def test_the_account_of_webchat_shows_its_last_traffic(database_url: str) -> None:
    async with open_webchat(database_url) as webchat:
        listing = pb.ListAccountsRequest(parent="namespaces/default")
        assert not (await webchat.accounts.ListAccounts(listing)).accounts
        conversation = await webchat.open()
        (account,) = (await webchat.accounts.ListAccounts(listing)).accounts
        assert account.name == "namespaces/default/accounts/webchat:default"
        assert account.enabled
        assert not account.HasField("last_inbound_time")
        posted = await webchat.post(conversation, "m-1", "hello")
        await webchat.publish(answer(conversation, "hi", message_id="m-1"))
        await webchat.until(conversation, 3)
        named = pb.GetAccountRequest(name=account.name)
        account = (await webchat.accounts.GetAccount(named)).account
        assert account.last_inbound_time == posted.create_time
        assert account.HasField("last_outbound_time")
        with pytest.raises(NotFound):
            await webchat.accounts.GetAccount(
                pb.GetAccountRequest(name="namespaces/other/accounts/webchat:default")
            )
