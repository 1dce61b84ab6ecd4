"""The strict Bot API server, proved by python-telegram-bot: what somebody else's client sees of it,
and what it does that no client sees.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.support import raw_http
from tests.support.calls import eventually
from tests.support.raw_http import Answer, Request
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_client.running import TelegramClient, client_python, telegram_client
from tests.support.telegram_state import Bot

ANN = 42
GROUP = -5
FORUM = -100123


@dataclass(frozen=True, slots=True)
class Proof:
    """The server, a bot of it, and the client that is that bot."""

    api: TelegramApi
    bot: Bot
    client: TelegramClient

    async def is_polled(self) -> bool:
        return self.bot.poll is not None


@pytest.fixture(scope="module")
def python_of_client() -> str:
    return client_python()


@pytest.fixture
async def proof(python_of_client: str) -> AsyncIterator[Proof]:
    async with telegram_api() as api:
        bot = api.add_bot()
        async with telegram_client(python_of_client, api.base_url, bot.token) as client:
            yield Proof(api, bot, client)


@pytest.fixture
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as api:
        yield api


@dataclass(slots=True)
class Hook:
    """A webhook: what it was sent, and what it answers, the last answer for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    busiest: int = 0
    _busy: int = 0

    async def respond(self, request: Request) -> Answer | None:
        self.requests.append(request)
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        await asyncio.sleep(0)
        self._busy -= 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def texts(self) -> list[str]:
        return [json.loads(request.body)["message"]["text"] for request in self.requests]


@asynccontextmanager
async def hooked(bot: Bot, api: TelegramApi, *statuses: int, **what: Any) -> AsyncIterator[Hook]:
    hook = Hook(answers=[Answer(status, b"") for status in statuses or (200,)])
    async with raw_http.serving(hook.respond) as port:
        hook.url = f"http://127.0.0.1:{port}/hook"
        await call(api, bot, "setWebhook", url=hook.url, **what)
        yield hook


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


async def call(api: TelegramApi, bot: Bot, method: str, **parameters: Any) -> Any:
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.post(f"{api.base_url}/bot{bot.token}/{method}", json=parameters)
        return answer.json()


async def delivered(bot: Bot) -> None:
    async def nothing_waits() -> bool:
        return not bot.pending

    await eventually(nothing_waits)


async def test_the_client_knows_its_bot(proof: Proof) -> None:
    me = await proof.client.call("get_me")
    assert (me["id"], me["username"], me["is_bot"]) == (proof.bot.id, "fased_bot", True)


async def test_updates_come_by_long_polling_and_are_confirmed_by_the_next_call(
    proof: Proof,
) -> None:
    first = proof.bot.user_says(ANN, "one", sender_name="Ann")
    polling = asyncio.create_task(proof.client.order(do="poll", updates=3))
    await eventually(proof.is_polled)
    proof.bot.user_says(ANN, "two")
    proof.bot.user_says(ANN, "three")
    updates = (await polling)["result"]
    assert [update["message"]["text"] for update in updates] == ["one", "two", "three"]
    assert [update["update_id"] for update in updates] == [first, first + 1, first + 2]
    assert updates[0]["message"]["from"]["first_name"] == "Ann"
    await delivered(proof.bot)
    assert proof.bot.conflicts == 0


async def test_an_offset_confirms_what_is_before_it_and_a_limit_leaves_the_rest(
    proof: Proof,
) -> None:
    ids = [proof.bot.user_says(ANN, str(number)) for number in range(4)]
    two = await proof.client.call("get_updates", limit=2, timeout=0)
    again = await proof.client.call("get_updates", offset=0, limit=2, timeout=0)
    assert two == again
    rest = await proof.client.call("get_updates", offset=ids[1] + 1, timeout=0)
    assert [update["update_id"] for update in rest] == ids[2:]
    (last,) = await proof.client.call("get_updates", offset=-1, timeout=0)
    assert last["update_id"] == ids[3]
    assert [update.update_id for update in proof.bot.pending] == [ids[3]]


async def test_kinds_of_update_that_are_not_asked_for_are_not_kept(proof: Proof) -> None:
    await proof.client.call("get_updates", timeout=0, allowed_updates=["message"])
    proof.bot.push("edited_message", ANN, {})
    kept = proof.bot.user_says(ANN, "hi")
    (update,) = await proof.client.call("get_updates", timeout=0)
    assert update["update_id"] == kept


async def test_of_two_who_poll_the_first_is_told_of_a_conflict(proof: Proof) -> None:
    first = asyncio.create_task(proof.client.refused("get_updates", timeout=20))
    await eventually(proof.is_polled)
    assert await call(proof.api, proof.bot, "getUpdates") == {"ok": True, "result": []}
    error = await first
    assert error["class"] == "Conflict"
    assert "terminated by other getUpdates request" in error["message"]
    assert proof.bot.conflicts == 1


async def test_a_poller_that_hung_up_is_in_nobodys_way(api: TelegramApi) -> None:
    bot = api.add_bot()
    with pytest.raises(httpx2.ReadTimeout):
        async with httpx2.AsyncClient(trust_env=False, timeout=0.2) as http:
            await http.get(f"{api.base_url}/bot{bot.token}/getUpdates?timeout=20")

    async def is_free() -> bool:
        return bot.poll is None

    await eventually(is_free)
    assert (await call(api, bot, "getUpdates"))["ok"]
    assert bot.conflicts == 0


async def test_a_bot_with_a_webhook_cannot_be_polled(proof: Proof) -> None:
    async with hooked(proof.bot, proof.api):
        error = await proof.client.refused("get_updates", timeout=0)
        assert error["class"] == "Conflict"
        assert "webhook is active" in error["message"]
        await proof.client.call("delete_webhook")
        assert await proof.client.call("get_updates", timeout=0) == []


async def test_the_clients_webhook_takes_updates_with_the_right_secret_only(proof: Proof) -> None:
    proof.bot.user_says(ANN, "before")
    listening = asyncio.create_task(
        proof.client.order(do="listen", updates=3, port=free_port(), secret="s3cret")
    )
    await delivered(proof.bot)
    assert proof.bot.webhook is not None
    proof.bot.webhook.secret_token = "wrong"
    proof.bot.user_says(ANN, "after")
    proof.bot.user_says(7, "elsewhere")

    async def was_refused() -> bool:
        return any(attempt.status == 403 for attempt in proof.bot.attempts)

    await eventually(was_refused)
    assert len(proof.bot.pending) == 2
    proof.bot.webhook.secret_token = "s3cret"
    texts = [update["message"]["text"] for update in (await listening)["result"]]
    assert texts[0] == "before"
    assert sorted(texts[1:]) == ["after", "elsewhere"]


async def test_a_webhook_is_told_again_until_it_takes_an_update_and_each_chat_in_order(
    api: TelegramApi,
) -> None:
    bot = api.add_bot()
    async with hooked(bot, api, 500, 503, 200, secret_token="abc") as hook:
        first = bot.user_says(ANN, "one")
        second = bot.user_says(ANN, "two")
        await delivered(bot)
        assert hook.texts() == ["one", "one", "one", "two"]
        assert hook.requests[0].headers["x-telegram-bot-api-secret-token"] == "abc"
        taken = [(attempt.update_id, attempt.status) for attempt in bot.attempts]
        assert taken == [(first, 500), (first, 503), (first, 200), (second, 200)]
        info = (await call(api, bot, "getWebhookInfo"))["result"]
        assert (info["url"], info["pending_update_count"]) == (hook.url, 0)
        assert "503" in info["last_error_message"]


async def test_a_webhook_that_is_down_gets_its_updates_when_it_is_up(api: TelegramApi) -> None:
    bot = api.add_bot()
    port = free_port()
    await call(api, bot, "setWebhook", url=f"http://127.0.0.1:{port}/hook")
    bot.user_says(ANN, "waits")

    async def was_tried() -> bool:
        return len(bot.attempts) > 2

    await eventually(was_tried)
    hook = Hook(answers=[Answer(200, b"")])
    async with raw_http.serving(hook.respond, port):
        await delivered(bot)
    assert hook.texts() == ["waits"]


async def test_no_more_calls_than_allowed_are_made_to_a_webhook_at_once(api: TelegramApi) -> None:
    bot = api.add_bot()
    for chat in range(1, 31):
        bot.user_says(chat, "hi")
    async with hooked(bot, api, max_connections=3) as hook:
        await delivered(bot)
        assert len(hook.requests) == 30
        assert 1 <= hook.busiest <= 3


async def test_pending_updates_are_dropped_when_asked(proof: Proof) -> None:
    proof.bot.user_says(ANN, "old")
    await proof.client.call("delete_webhook", drop_pending_updates=True)
    assert await proof.client.call("get_updates", timeout=0) == []


async def test_html_becomes_text_and_entities(proof: Proof) -> None:
    proof.bot.user_says(ANN, "hi")
    html = '🙂 <b>a &lt; <i>b</i></b> <pre><code class="language-py">x</code></pre>'
    message = await proof.client.call("send_message", chat_id=ANN, text=html, parse_mode="HTML")
    assert message["text"] == "🙂 a < b x"
    shown = [(e["type"], e["offset"], e["length"]) for e in message["entities"]]
    assert shown == [("bold", 3, 5), ("italic", 7, 1), ("pre", 9, 1)]
    assert message["entities"][2]["language"] == "py"
    (sent,) = proof.bot.sent
    assert (sent.chat_id, sent.text, sent.source) == (ANN, "🙂 a < b x", html)


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("<h1>x</h1>", 'Unsupported start tag "h1" at byte offset 0'),
        ("é<b>x", "Can't find end tag corresponding to start tag b"),
        ("é<b>x</i>", 'Unmatched end tag at byte offset 6, expected "</b>", found "</i>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("1 < 2", 'Unsupported start tag "" at byte offset 2'),
        ("<a href>x</a>", "Expected equal sign"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler"'),
        ("<b", "Unclosed start tag at byte offset 0"),
    ],
)
async def test_html_that_telegram_cannot_parse_is_refused(
    proof: Proof, html: str, said: str
) -> None:
    proof.bot.user_says(ANN, "hi")
    error = await proof.client.refused("send_message", chat_id=ANN, text=html, parse_mode="HTML")
    assert error["class"] == "BadRequest"
    assert error["message"].startswith("Can't parse entities: ")
    # This client changes the case of what it is told.
    assert said.lower() in error["message"].lower()
    assert proof.bot.sent == []


async def test_texts_have_a_greatest_length_that_is_counted_after_their_tags(
    proof: Proof,
) -> None:
    proof.bot.user_says(ANN, "hi")
    longest = "<b>" + "&amp;" * 4096 + "</b>"
    await proof.client.call("send_message", chat_id=ANN, text=longest, parse_mode="HTML")
    error = await proof.client.refused("send_message", chat_id=ANN, text="🙂" * 2049)
    assert (error["class"], error["message"]) == ("BadRequest", "Message is too long")
    error = await proof.client.refused(
        "send_message", chat_id=ANN, text="<b> </b>", parse_mode="HTML"
    )
    assert error["message"] == "Message text is empty"


async def test_replies_and_topics_show_where_a_message_belongs(proof: Proof) -> None:
    proof.bot.add_chat(FORUM, "supergroup", name="Ops", is_forum=True)
    topic_id = proof.bot.add_topic(FORUM, "Alerts")
    proof.bot.user_says(FORUM, "@fased_bot /status", thread_id=topic_id)
    (update,) = await proof.client.call("get_updates", timeout=0)
    asked = update["message"]
    assert (asked["message_thread_id"], asked["is_topic_message"]) == (topic_id, True)
    assert asked["reply_to_message"]["forum_topic_created"]["name"] == "Alerts"
    assert [entity["type"] for entity in asked["entities"]] == ["mention", "bot_command"]
    answer = await proof.client.call(
        "send_message",
        chat_id=FORUM,
        text="fine",
        message_thread_id=topic_id,
        reply_parameters={"message_id": asked["message_id"]},
    )
    assert answer["reply_to_message"]["text"] == "@fased_bot /status"
    assert answer["message_thread_id"] == topic_id
    assert (proof.bot.sent[0].thread_id, proof.bot.sent[0].reply_to_id) == (
        topic_id,
        asked["message_id"],
    )


async def test_a_topic_or_a_message_that_is_not_there_is_said(proof: Proof) -> None:
    proof.bot.add_chat(GROUP, "group")
    send = {"chat_id": GROUP, "text": "x"}
    error = await proof.client.refused("send_message", **send, message_thread_id=9)
    assert error["message"] == "Message thread not found"
    error = await proof.client.refused("send_message", **send, reply_parameters={"message_id": 99})
    assert error["message"] == "Message to be replied not found"
    reply = {"message_id": 99, "allow_sending_without_reply": True}
    message = await proof.client.call("send_message", **send, reply_parameters=reply)
    assert "reply_to_message" not in message


async def test_typing_is_shown_and_a_message_edited(proof: Proof) -> None:
    proof.bot.user_says(ANN, "hi")
    assert await proof.client.call("send_chat_action", chat_id=ANN, action="typing")
    error = await proof.client.refused("send_chat_action", chat_id=ANN, action="dancing")
    assert error["class"] == "BadRequest"
    sent = await proof.client.call("send_message", chat_id=ANN, text="one")
    edit = {"chat_id": ANN, "message_id": sent["message_id"], "text": "two"}
    assert (await proof.client.call("edit_message_text", **edit))["text"] == "two"
    error = await proof.client.refused("edit_message_text", **edit)
    assert error["message"].startswith("Message is not modified")
    assert proof.bot.sent[0].edits == ["two"]


@pytest.mark.parametrize(
    ("answers", "error_class", "said"),
    [
        ("blocked", "Forbidden", "Forbidden: bot was blocked by the user"),
        ("deactivated", "Forbidden", "Forbidden: user is deactivated"),
        ("kicked", "Forbidden", "Forbidden: bot was kicked from the supergroup chat"),
        ("muted", "BadRequest", "Not enough rights to send text messages to the chat"),
    ],
)
async def test_a_chat_that_may_not_be_written_to_says_why(
    proof: Proof, answers: str, error_class: str, said: str
) -> None:
    proof.bot.add_chat(ANN, "private").answers = answers
    error = await proof.client.refused("send_message", chat_id=ANN, text="x")
    assert (error["class"], error["message"]) == (error_class, said)


async def test_an_unknown_chat_and_a_revoked_token_are_refused(proof: Proof) -> None:
    error = await proof.client.refused("send_message", chat_id=404, text="x")
    assert (error["class"], error["message"]) == ("BadRequest", "Chat not found")
    proof.bot.is_revoked = True
    error = await proof.client.refused("send_message", chat_id=404, text="x")
    assert error["class"] == "InvalidToken"


async def test_a_group_that_became_a_supergroup_tells_its_new_id(proof: Proof) -> None:
    proof.bot.add_chat(GROUP, "group")
    proof.bot.migrate(GROUP, FORUM)
    error = await proof.client.refused("send_message", chat_id=GROUP, text="x")
    assert (error["class"], error["new_chat_id"]) == ("ChatMigrated", FORUM)
    left, joined = await proof.client.call("get_updates", timeout=0)
    assert left["message"]["migrate_to_chat_id"] == FORUM
    assert joined["message"]["migrate_from_chat_id"] == GROUP


async def test_a_storm_of_429_ends_when_it_was_said_to(proof: Proof) -> None:
    proof.bot.user_says(ANN, "hi")
    proof.bot.add_fault("flood", method="sendMessage", chat_id=ANN, times=2, retry_after_s=7)
    for _ in range(2):
        error = await proof.client.refused("send_message", chat_id=ANN, text="x")
        assert (error["class"], error["retry_after"]) == ("RetryAfter", 7)
    await proof.client.call("send_message", chat_id=ANN, text="x")
    assert [call.status for call in proof.bot.calls if call.method == "sendmessage"] == [
        429,
        429,
        200,
    ]


@pytest.mark.parametrize(
    ("kind", "error_class", "stored"),
    [
        ("drop", "NetworkError", 0),
        ("accept-drop", "NetworkError", 1),
        ("hang", "TimedOut", 0),
        ("accept-hang", "TimedOut", 1),
        ("error", "NetworkError", 0),
        ("gateway", "NetworkError", 0),
    ],
)
async def test_a_call_that_goes_wrong_is_carried_out_or_not_as_the_fault_says(
    proof: Proof, kind: str, error_class: str, stored: int
) -> None:
    proof.bot.user_says(ANN, "hi")
    proof.bot.add_fault(kind, method="sendMessage")
    error = await proof.client.refused("send_message", chat_id=ANN, text="x", read_timeout=0.3)
    assert error["class"] == error_class
    assert len(proof.bot.sent) == stored
    proof.bot.clear_faults()
    await proof.client.call("send_message", chat_id=ANN, text="y")
    assert [sent.text for sent in proof.bot.sent] == ["x", "y"][1 - stored :]


async def test_a_slow_call_is_answered_all_the_same(proof: Proof) -> None:
    proof.bot.user_says(ANN, "hi")
    proof.bot.add_fault("slow", delay_s=0.05)
    assert (await proof.client.call("send_message", chat_id=ANN, text="x"))["text"] == "x"


async def test_a_server_of_its_own_is_driven_over_http() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.telegram_api",
        stdout=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    assert process.stdout is not None
    try:
        base_url = (await process.stdout.readline()).decode().strip()
        async with httpx2.AsyncClient(trust_env=False, base_url=base_url) as http:

            async def control(name: str, **arguments: Any) -> Any:
                body = {"token": "5:abc"} | arguments
                return (await http.post(f"/control/{name}", json=body)).json()["result"]

            assert (await control("add_bot"))["id"] == 5
            await control("user_says", chat_id=ANN, text="hi", sender_name="Ann")
            state = await control("state")
            assert [update["message"]["text"] for update in state["pending"]] == ["hi"]
            await http.post("/bot5:abc/sendMessage", data={"chat_id": ANN, "text": "x"})
            assert [sent["text"] for sent in await control("sent")] == ["x"]
            await control("set_chat", chat_id=ANN, answers="blocked")
            answer = await http.get(f"/bot5:abc/sendMessage?chat_id={ANN}&text=x")
            assert answer.status_code == 403
            assert [call["status"] for call in await control("calls")] == [200, 403]
    finally:
        process.kill()
        await process.wait()
