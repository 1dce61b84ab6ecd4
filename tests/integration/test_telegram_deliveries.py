"""Results on their way to Telegram: in order, once where that can be told, and never in silence."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from fased.api.channels.v1 import account_pb2, delivery_pb2
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.pglog import open_pglog
from fased.bus.port import Record
from fased.core import delivery
from fased.core.messages import OutboundMessage, PeerKind, Thread, ThreadKind
from fased.core.names import AccountId, ChannelId, Namespace
from fased.store.channels import deliveries, lanes
from fased.store.notify import open_hints
from fased.wire.messages import target_to_pb
from tests.support.calls import eventually
from tests.support.telegram_api import TelegramApi
from tests.support.telegram_channels import (
    TOKEN,
    Channels,
    channels,
    channels_process,
    result,
    texts_of,
)
from tests.support.telegram_state import Bot
from tests.support.webchat import outbound_record

SENT = delivery_pb2.DELIVERY_STATE_SENT
UNKNOWN = delivery_pb2.DELIVERY_STATE_UNKNOWN
FAILED = delivery_pb2.DELIVERY_STATE_FAILED
RESEND = account_pb2.UNKNOWN_POLICY_RESEND


@pytest.fixture
def bot(bot: Bot) -> Bot:
    """The bot, with three chats."""
    for chat_id in (5, 6, 7):
        bot.add_chat(chat_id, "private")
    return bot


async def publish_beside(database_url: str, *messages: OutboundMessage) -> None:
    """Put results on the bus of a database that another process serves."""
    async with open_hints(database_url) as hints, open_pglog(database_url, hints) as bus:
        await bus.publish([outbound_record(each) for each in messages])


async def lanes_left(telegram: Channels) -> list[bool]:
    """The chats that have something to send: whether somebody sends to each."""
    async with telegram.running.host.database.queue.acquire() as conn:
        rows = await conn.fetch("SELECT owner <> '' FROM channels.delivery_lane")
    return [row[0] for row in rows]


async def told(telegram: Channels, count: int) -> list[tuple[int, str, str]]:
    """Run, state and reason of the first delivery events."""
    records = await telegram.published(topics.RUN_EVENTS, count)
    events = [message_pb2.RunEvent.FromString(record.value) for record in records]
    return [(event.run_id, event.delivery_state, event.reason) for event in events]


async def test_an_answer_is_sent_as_html_with_its_receipt_and_its_run_is_told(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        answer = result(5, "**bold** & <plain>", run_id=3)
        await telegram.publish(answer)
        await telegram.publish(answer)
        delivery = await telegram.ended(answer)
        assert delivery.state == SENT
        assert [chunk.receipt for chunk in delivery.chunks] == ["1"]
        (sent,) = bot.sent
        assert (sent.text, sent.parse_mode) == ("bold & <plain>", "HTML")
        assert await told(telegram, 1) == [(3, "sent", "")]


async def test_a_long_answer_goes_in_chunks_the_first_of_which_replies_in_the_topic(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_chat(-100, "supergroup", is_forum=True)
    topic = bot.add_topic(-100, "Releases")
    bot.user_says(-100, "tell me", thread_id=topic)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        answer = result(
            -100,
            "word " * 2000,
            kind=PeerKind.GROUP,
            thread=Thread(ThreadKind.TOPIC, str(topic)),
            reply_to_id="2",
        )
        await telegram.publish(answer)
        delivery = await telegram.ended(answer)
        assert [chunk.state for chunk in delivery.chunks] == [SENT] * 3
        assert [sent.reply_to_id for sent in bot.sent] == [2, None, None]
        assert {sent.thread_id for sent in bot.sent} == {topic}
        assert "".join(sent.text for sent in bot.sent).count("word") == 2000


async def test_refused_formatting_is_sent_plain(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        answer = result(5, "*plain* enough")
        await telegram.publish(answer)
        await telegram.ended(answer)
        async with telegram.running.host.database.queue.acquire() as conn:
            await conn.execute(
                """CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN NEW.text := '<b>' || NEW.text; RETURN NEW; END $$;
                   CREATE TRIGGER spoil BEFORE INSERT ON channels.delivery_chunk
                     FOR EACH ROW EXECUTE FUNCTION spoil()"""
            )
        again = result(5, "**bold** [link](https://example.org)")
        await telegram.publish(again)
        assert (await telegram.ended(again)).state == SENT
        assert [sent.parse_mode for sent in bot.sent] == ["HTML", ""]
        assert bot.sent[1].text == "bold link (https://example.org)"


async def test_a_flood_is_waited_out_and_the_order_of_the_chat_is_kept(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_fault("flood", method="sendMessage", chat_id=5, times=2, retry_after_s=1)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        answers = [result(5, f"answer {number}") for number in range(5)]
        elsewhere = result(6, "meanwhile")
        await telegram.publish(*answers, elsewhere)
        for answer in (*answers, elsewhere):
            assert (await telegram.ended(answer)).state == SENT
    assert texts_of(bot, 5) == [f"answer {number}" for number in range(5)]
    refused = [call.at for call in bot.calls if call.status == 429]
    accepted = next(
        call.at
        for call in bot.calls
        if call.status == 200 and call.at > refused[-1] and call.parameters.get("chat_id") == "5"
    )
    assert accepted - refused[-1] >= 0.9


async def test_a_server_error_is_tried_again_until_the_message_expires(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_fault("error", method="sendMessage", chat_id=5, times=1)
    bot.add_fault("error", method="sendMessage", chat_id=6, times=0)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        mended = result(5, "in the end")
        late = result(6, "too late", expires_at=datetime.now(UTC) + timedelta(seconds=4), run_id=9)
        await telegram.publish(mended, late)
        assert (await telegram.ended(mended)).state == SENT
        delivery = await telegram.ended(late)
        assert (delivery.state, delivery.reason) == (FAILED, "EXPIRED")
        assert await told(telegram, 1) == [(9, "failed", "EXPIRED")]
        assert texts_of(bot, 6) == []


async def test_a_blocked_bot_ends_in_a_dead_letter_that_says_why(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.chats[5].answers = "blocked"
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        lost, other = result(5, "word " * 2000, run_id=4), result(6, "for another")
        await telegram.publish(lost, other)
        delivery = await telegram.ended(lost)
        assert (delivery.state, delivery.reason) == (FAILED, "BOT_BLOCKED")
        assert [chunk.state for chunk in delivery.chunks] == [FAILED] * 3
        (letter,) = await telegram.published(topics.DEAD_LETTER, 1)
        assert letter.headers["fased-error"] == "BOT_BLOCKED"
        assert message_pb2.OutboundMessage.FromString(letter.value).id == lost.id
        assert await told(telegram, 1) == [(4, "failed", "BOT_BLOCKED")]
        assert (await telegram.ended(other)).state == SENT
        assert len([call for call in bot.calls if call.method == "sendmessage"]) == 2


@pytest.mark.parametrize("fault", ["accept-drop", "accept-hang"])
async def test_a_send_that_may_have_arrived_is_held_as_unknown_and_the_chat_goes_on(
    database_url: str, api: TelegramApi, bot: Bot, fault: str
) -> None:
    bot.add_fault(fault, method="sendMessage", chat_id=5)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        doubtful, after = result(5, "did it arrive?", run_id=1), result(5, "and on")
        await telegram.publish(doubtful, after)
        assert (await telegram.ended(after)).state == SENT
        delivery = await telegram.ended(doubtful)
        assert (delivery.state, delivery.reason) == (UNKNOWN, "NO_ANSWER")
        assert [chunk.unknown_sends for chunk in delivery.chunks] == [1]
        assert await told(telegram, 1) == [(1, "unknown", "NO_ANSWER")]
    assert texts_of(bot, 5) == ["did it arrive?", "and on"]


async def test_with_resend_a_send_that_may_have_arrived_is_sent_again_before_the_next(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_fault("accept-drop", method="sendMessage", chat_id=5)
    bot.add_fault("drop", method="sendMessage", chat_id=6)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account(unknown_policy=RESEND)
        doubled, after, single = result(5, "twice"), result(5, "and on"), result(6, "once")
        await telegram.publish(doubled, after, single)
        for each in (doubled, after, single):
            assert (await telegram.ended(each)).state == SENT
        assert [chunk.unknown_sends for chunk in (await telegram.ended(doubled)).chunks] == [1]
    assert texts_of(bot, 5) == ["twice", "twice", "and on"]
    assert texts_of(bot, 6) == ["once"]


@pytest.mark.parametrize("policy", ["hold", "resend"])
async def test_a_process_killed_in_a_send_leaves_it_unknown_or_sends_it_again(
    database_url: str, api: TelegramApi, bot: Bot, policy: str
) -> None:
    bot.add_fault("accept-hang", method="sendMessage", chat_id=5)
    unknown_policy = RESEND if policy == "resend" else account_pb2.UNKNOWN_POLICY_HOLD
    begun, after = result(5, "begun " + "word " * 1000), result(5, "after it")

    async def is_accepted() -> bool:
        return bool(bot.sent)

    async with channels_process(database_url, TOKEN, send_timeout_s=4, send_lease_s=5) as process:
        async with channels(database_url, api, bot) as telegram:
            await telegram.add_account(unknown_policy=unknown_policy)
        await publish_beside(database_url, begun, after)
        await eventually(is_accepted)
        process.kill()
        await process.wait()
    bot.clear_faults()
    async with channels(database_url, api, bot) as telegram:
        assert (await telegram.ended(after)).state == SENT
        delivery = await telegram.ended(begun)
    sent = texts_of(bot, 5)
    assert sent[-1] == "after it"
    assert delivery.chunks[0].unknown_sends == 1
    if policy == "hold":
        assert (delivery.state, delivery.reason) == (UNKNOWN, "SENDER_LOST")
        assert len(sent) == len(set(sent)) == 3
    else:
        assert delivery.state == SENT
        assert (len(sent), len(set(sent))) == (4, 3)


async def test_two_replicas_share_the_chats_and_send_each_message_once_in_order(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    for chat_id in range(100, 120):
        bot.add_chat(chat_id, "private")
    async with channels(database_url, api, bot) as one, channels(database_url, api, bot):
        await one.add_account()
        answers = [
            result(chat_id, f"{chat_id}: {number}")
            for number in range(5)
            for chat_id in range(100, 120)
        ]
        await one.publish(*answers)
        for answer in answers:
            assert (await one.ended(answer)).state == SENT

        async def is_nothing_left() -> bool:
            return await lanes_left(one) == []

        await eventually(is_nothing_left)
    for chat_id in range(100, 120):
        assert texts_of(bot, chat_id) == [f"{chat_id}: {number}" for number in range(5)]


async def test_an_account_sends_to_no_more_chats_at_once_than_it_may(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    for chat_id in range(100, 130):
        bot.add_chat(chat_id, "private")
    bot.add_fault("hang", method="sendMessage", times=0)
    async with channels(database_url, api, bot, sends_per_account=2, send_lease_s=60) as telegram:
        await telegram.add_account()
        await telegram.publish(*(result(chat_id, "hi") for chat_id in range(100, 130)))

        async def are_begun() -> bool:
            return bot.faults[0].met == 2 and len(await lanes_left(telegram)) == 30

        await eventually(are_begun)
        assert sorted(await lanes_left(telegram)) == [False] * 28 + [True] * 2


async def test_a_migrated_group_is_written_to_under_its_new_id(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_chat(-7, "group")
    bot.chats[-7].migrated_to = -1007
    bot.add_chat(-1007, "supergroup")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        first, second = (result(-7, text, kind=PeerKind.GROUP) for text in ("one", "two"))
        await telegram.publish(first, second)
        assert (await telegram.ended(first)).state == SENT
        assert (await telegram.ended(second)).state == SENT
    assert texts_of(bot, -1007) == ["one", "two"]
    assert len([call for call in bot.calls if call.method == "sendmessage"]) == 3


async def test_a_result_for_an_account_that_is_not_there_is_refused(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        lost = result(5, "nobody here", account_id="ghost", run_id=2)
        await telegram.publish(lost)
        delivery = await telegram.ended(lost)
        assert (delivery.state, delivery.reason) == (FAILED, "ACCOUNT_MISSING")
        assert await told(telegram, 1) == [(2, "failed", "ACCOUNT_MISSING")]
        (dead,) = await telegram.published(topics.DEAD_LETTER, 1)
        assert dead.headers["fased-error"] == "ACCOUNT_MISSING"
        assert message_pb2.OutboundMessage.FromString(dead.value).text == "nobody here"


async def test_a_chat_that_was_empty_meanwhile_is_no_longer_that_of_who_held_it(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    place = (Namespace("default"), ChannelId("telegram"), AccountId("default"))
    minute = timedelta(minutes=1)
    async with channels(database_url, api, bot) as telegram:
        pool = telegram.running.host.database.queue
        held = []
        for text in ("one", "two"):
            # Nobody sends for an account that is not there.
            message = result(5, text)
            async with pool.acquire() as conn:
                outcome = delivery.to_send([(text, text)])
                await deliveries.insert(conn, message, UUID(message.id), outcome)
                [lane] = await lanes.claim(conn, place, text, 1, minute)
                held.append(lane)
                send = await lanes.begin(conn, lane, minute)
                assert send is not None
                await lanes.end(conn, lane, send, delivery.Step(delivery.DeliveryState.SENT))
                assert await lanes.begin(conn, lane, minute) is None
                assert not await lanes.leave(conn, lane)
        assert held[0].generation != held[1].generation


async def test_a_flood_in_several_chats_delays_all_of_the_account_and_loses_nothing(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_fault("flood", method="sendMessage", times=6, retry_after_s=1)
    for chat_id in (8, 9):
        bot.add_chat(chat_id, "private")
    async with channels(database_url, api, bot, sends_per_account=3) as telegram:
        await telegram.add_account()
        answers = [result(chat_id, "hi") for chat_id in (5, 6, 7, 8, 9)]
        await telegram.publish(*answers)
        for answer in answers:
            assert (await telegram.ended(answer)).state == SENT
    assert sorted(sent.chat_id for sent in bot.sent) == [5, 6, 7, 8, 9]


async def test_typing_is_shown_when_a_run_began(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        await telegram.until_status(connected=True)
        progress = message_pb2.RunProgress(
            namespace="default",
            run_id=1,
            kind=message_pb2.PROGRESS_KIND_STARTED,
            target=target_to_pb(result(5, "").target),
        )
        record = Record(topics.RUN_PROGRESS, "default/1", progress.SerializeToString())

        async def is_shown() -> bool:
            # What is tailed is heard from now on only: it is said until it is heard.
            await telegram.running.host.bus.publish([record])
            return any(call.method == "sendchataction" for call in bot.calls)

        await eventually(is_shown)
        (first, *_) = [call for call in bot.calls if call.method == "sendchataction"]
        assert dict(first.parameters) == {"chat_id": "5", "action": "typing"}


async def test_a_removed_account_fails_what_waits(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_fault("error", method="sendMessage", times=0)
    async with channels(database_url, api, bot) as telegram:
        account = await telegram.add_account()
        waiting = result(5, "waits", run_id=6)
        await telegram.publish(waiting)

        async def is_tried() -> bool:
            return any(call.method == "sendmessage" for call in bot.calls)

        await eventually(is_tried)
        await telegram.accounts.DeleteAccount(pb.DeleteAccountRequest(name=account.name))
        delivery = await telegram.ended(waiting)
        assert delivery.reason == "ACCOUNT_REMOVED"
        assert [run_id for run_id, _, _ in await told(telegram, 1)] == [6]
