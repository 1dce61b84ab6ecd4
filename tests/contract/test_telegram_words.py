"""What the proved Bot API server says, as our own core reads it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fased.core.messages import Thread, ThreadKind
from fased.core.telegram import Arrived, parse_identity, parse_update
from fased.core.telegram_answers import AnswerKind, classify
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_state import Bot

ANN = 42
FORUM = -100123


@pytest.fixture
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as api:
        yield api


async def call(api: TelegramApi, bot: Bot, method: str, **parameters: Any) -> Any:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{api.base_url}/bot{bot.token}/{method}", json=parameters)
        return answer.json()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("blocked", "BOT_BLOCKED"),
        ("deactivated", "USER_DEACTIVATED"),
        ("kicked", "BOT_KICKED"),
        ("muted", "WRITE_FORBIDDEN"),
    ],
)
async def test_what_the_server_refuses_is_classified_by_its_reason(
    api: TelegramApi, answers: str, reason: str
) -> None:
    bot = api.add_bot()
    bot.add_chat(ANN, "private").answers = answers
    answer = await call(api, bot, "sendMessage", chat_id=ANN, text="x")
    assert classify(answer["error_code"], answer).reason == reason


async def test_html_that_the_server_refuses_is_classified_as_formatting(api: TelegramApi) -> None:
    bot = api.add_bot()
    bot.user_says(ANN, "hi")
    sent = await call(api, bot, "sendMessage", chat_id=ANN, text="<x>", parse_mode="HTML")
    assert classify(400, sent).kind is AnswerKind.FORMATTING


async def test_what_people_write_is_parsed_as_our_own_updates_are(api: TelegramApi) -> None:
    bot = api.add_bot()
    bot.add_chat(FORUM, "supergroup", is_forum=True)
    topic_id = bot.add_topic(FORUM, "Alerts")
    bot.user_says(FORUM, "/status@fased_bot", thread_id=topic_id, sender_name="Ann")
    identity = parse_identity((await call(api, bot, "getMe"))["result"])
    (update,) = (await call(api, bot, "getUpdates"))["result"]
    arrived = parse_update(update, identity)
    assert isinstance(arrived, Arrived)
    assert (arrived.text, arrived.mentions_bot, arrived.reply_to) == ("/status", True, None)
    assert arrived.thread == Thread(ThreadKind.TOPIC, str(topic_id))
