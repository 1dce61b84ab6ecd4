"""Telegram's messages on their way in, by poll and by webhook: durable first, and never twice."""

import json
import signal

import httpx2
import pytest

from fased.core.messages import Peer, PeerKind, Thread, ThreadKind
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

UPDATE = {
    "update_id": 900,
    "message": {
        "message_id": 1,
        "date": 1,
        "chat": {"id": 5, "type": "private", "first_name": "Ada"},
        "from": {"id": 5, "is_bot": False, "first_name": "Ada"},
        "text": "hello",
    },
}


async def test_a_polled_message_reaches_the_bus_and_is_then_confirmed(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account("alerts")
        update_id = bot.user_says(5, "hello", sender_name="Ada")
        (event,) = await telegram.inbound(1)
        assert event.event_id == f"default:telegram:alerts:{update_id}"
        assert (event.peer, event.text) == (Peer(PeerKind.DIRECT, "5"), "hello")
        assert (event.account_id, event.sender.display_name) == ("alerts", "Ada")
        status = await telegram.until_status("alerts", connected=True)
        assert status.identity.username == "fased_bot"

        async def is_confirmed() -> bool:
            return not bot.pending

        await eventually(is_confirmed)


async def test_a_topic_a_group_and_a_reply_say_where_they_are(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_chat(-100, "supergroup", name="Team", is_forum=True)
    topic = bot.add_topic(-100, "Releases")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        bot.user_says(-100, "@fased_bot look", thread_id=topic)
        bot.user_says(5, "first")
        bot.user_says(5, "second", reply_to_id=1)
        in_topic, first, second = sorted(
            await telegram.inbound(3), key=lambda event: event.event_id
        )
        assert in_topic.peer == Peer(PeerKind.GROUP, "-100")
        assert in_topic.thread == Thread(ThreadKind.TOPIC, str(topic))
        assert in_topic.mentions_me
        assert first.reply_to is None
        assert second.reply_to is not None
        assert second.reply_to.body == "first"


async def test_a_poll_that_fails_is_made_again_and_loses_nothing(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    for kind in ("error", "gateway", "drop", "flood"):
        bot.add_fault(kind, method="getUpdates")
    bot.user_says(5, "through the storm")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        (event,) = await telegram.inbound(1)
        assert event.text == "through the storm"
        await telegram.until_status(connected=True, last_error="")


async def test_a_bot_with_a_webhook_of_old_can_be_polled(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        url = {"url": "http://127.0.0.1:9/nowhere"}
        await http.post(f"{api.base_url}/bot{TOKEN}/setWebhook", json=url)
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        bot.user_says(5, "hello")
        (event,) = await telegram.inbound(1)
        assert event.text == "hello"


async def test_two_replicas_never_poll_at_once_and_the_other_goes_on_where_one_stopped(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as staying:
        await staying.add_account()
        async with channels(database_url, api, bot):
            await staying.until_status(connected=True)
            for number in range(20):
                bot.user_says(5 + number % 4, f"message {number}")
            await staying.inbound(20)
        bot.user_says(5, "after the handover")
        events = await staying.inbound(21)
    assert len({event.event_id for event in events}) == 21
    assert bot.conflicts == 0


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_goes_on_where_a_lost_replica_was_without_loss_or_conflict(
    database_url: str, api: TelegramApi, bot: Bot, ending: signal.Signals
) -> None:
    async with channels_process(database_url, TOKEN) as process:
        async with channels(database_url, api, bot) as telegram:
            await telegram.add_account()
        bot.user_says(5, "before")

        async def is_confirmed() -> bool:
            return not bot.pending and bot.poll is not None

        await eventually(is_confirmed)
        process.send_signal(ending)
        async with channels(database_url, api, bot) as telegram:
            bot.user_says(5, "after")
            await eventually(is_confirmed)
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
            bot.user_says(5, "at last")
            texts = await telegram.inbound_texts_once(3)
    assert texts == ["before", "after", "at last"]
    assert bot.conflicts == 0


async def test_updates_by_webhook_are_answered_once_they_are_durable(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_webhook_account()
        for number in range(50):
            bot.user_says(5 + number, f"message {number}")
        events = await telegram.inbound(50)
        assert {event.text for event in events} == {f"message {n}" for n in range(50)}
        assert {attempt.status for attempt in bot.attempts} == {200}
        status = await telegram.until_status(connected=True)
        assert status.identity.id == "7000001"


async def post(telegram: Channels, body: bytes, secret: str, account: str = "default") -> int:
    """The status of a call to the webhook."""
    url = f"http://127.0.0.1:{telegram.webhook_port}/telegram/default/{account}"
    headers = {"X-Telegram-Bot-Api-Secret-Token": secret}
    async with httpx2.AsyncClient(trust_env=False) as http:
        response = await http.post(url, content=body, headers=headers)
    assert response.content == b""
    return response.status_code


async def test_a_call_without_the_secret_a_malformed_and_an_oversize_one_leave_no_row(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_webhook_account()
        assert bot.webhook is not None
        secret, good = bot.webhook.secret_token, json.dumps(UPDATE).encode()
        assert TOKEN not in secret
        before = await telegram.texts()
        assert await post(telegram, good, "wrong") == 401
        assert await post(telegram, good, "") == 401
        assert await post(telegram, good, secret, account="other") == 401
        assert await post(telegram, b"x" * (1024 * 1024 + 1), "wrong") == 401
        assert await post(telegram, b"x" * (1024 * 1024 + 1), secret) == 413
        odd = json.dumps({**UPDATE, "message": {"text": 5}}).encode()
        nul = json.dumps({**UPDATE, "message": {**UPDATE["message"], "text": "\0"}}).encode()  # type: ignore[dict-item]
        for malformed in (b"", b"{", b"[]", b"[" * 100_000, b"{}", b"\xff\xfe", odd, nul):
            assert await post(telegram, malformed, secret) == 400
        rows = [text for text in await telegram.texts() if text not in before]
        assert not [text for text in rows if "hello" in text or "xxx" in text]
        async with telegram.running.host.database.queue.acquire() as conn:
            assert await conn.fetchval("SELECT count(*) FROM channels.outbox") == 0
        assert await post(telegram, good, secret) == 200
        (event,) = await telegram.inbound(1)
        assert event.text == "hello"


async def test_a_group_that_becomes_a_supergroup_is_noted_and_answered_there(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    bot.add_chat(-7, "group", name="Team")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        bot.migrate(-7, -1007)

        async def is_noted() -> bool:
            async with telegram.running.host.database.queue.acquire() as conn:
                found = await conn.fetch("SELECT old_id, new_id FROM channels.migrated_chat")
            return [tuple(row) for row in found] == [("-7", "-1007")]

        assert await eventually(is_noted)
        bot.user_says(-1007, "still here")
        (event,) = await telegram.inbound(1)
        # To bindings, sessions, lists and history it is the group that it was.
        assert (event.text, event.peer) == ("still here", Peer(PeerKind.GROUP, "-7"))
        assert event.parent_peer == Peer(PeerKind.GROUP, "-1007")
        answer = result(-7, "I know", kind=PeerKind.GROUP)
        await telegram.publish(answer)
        await telegram.ended(answer)
    assert texts_of(bot, -1007) == ["I know"]
