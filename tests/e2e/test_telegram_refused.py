"""What a bot is not meant to take, in both shapes: one clear answer or state each, nothing kept of
it and nothing lost, and no secret anywhere that a person or a machine may read.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.support.calls import eventually
from tests.support.shapes import SHAPES, Shape, running_shape
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_people import (
    HOLD,
    QUICK,
    WEBHOOK,
    People,
    open_people,
    set_dm_policy,
    token_name,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TOKEN = "7000021:AAcanary-telegram-token-000000000000000"
MODEL_KEY = "sk-canary-model-key-0123456789"
MARK = "marked-words"
STRANGER = 7_999
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
TOO_LARGE = 1024 * 1024 + 1
FLOODS = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SHAPES)
async def shape(request: pytest.FixtureRequest, api: TelegramApi) -> AsyncIterator[Shape]:
    api.add_bot(TOKEN)
    async with running_shape(
        request.param,
        dm_scope="per-account-channel-peer",
        FASED_SCRIPTED_MODEL="echo",
        FASED_MODEL_API_KEY=MODEL_KEY,
        **QUICK,
        **{token_name(TOKEN): TOKEN},
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shape: Shape, api: TelegramApi) -> People:
    return await open_people(shape, api, TOKEN, on_unknown=HOLD, mode=WEBHOOK, chats=5)


@pytest.mark.parametrize("secret", ["", "wrong", "wrong" * 500], ids=["none", "wrong", "long"])
async def test_a_call_without_the_secret_is_answered_401_and_leaves_no_row(
    shape: Shape, people: People, secret: str
) -> None:
    headers = {SECRET_HEADER: secret} if secret else {}
    assert await call(people, update(MARK), headers) == (401, b"")
    assert await rows_with(shape, MARK) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{" + MARK.encode(), 400),
        (b"[" * 100_000 + MARK.encode(), 400),
        (json.dumps({"update_id": 1, "message": {"text": MARK}}).encode(), 400),
        (MARK.encode() * (1 + TOO_LARGE // len(MARK)), 413),
    ],
    ids=["not JSON", "deep", "no message", "oversize"],
)
async def test_a_call_that_cannot_be_read_is_answered_once_and_leaves_no_row(
    shape: Shape, people: People, body: bytes, status: int
) -> None:
    assert people.bot.webhook is not None
    headers = {SECRET_HEADER: people.bot.webhook.secret_token}
    assert await call(people, body, headers) == (status, b"")
    assert await rows_with(shape, MARK) == []


async def test_a_stranger_makes_one_request_and_no_session_transcript_or_run(
    shape: Shape, people: People
) -> None:
    await set_dm_policy(shape, people.account_id, "pairing")
    for number in range(5):
        people.bot.user_says(STRANGER, f"{MARK} of a stranger {number}")

    async def is_told() -> bool:
        return any(sent.chat_id == STRANGER for sent in people.bot.sent)

    await eventually(is_told)
    await eventually(lambda: is_quiet(shape))
    assert sum(sent.chat_id == STRANGER for sent in people.bot.sent) == 1
    assert [line.partition(" ")[0] for line in await rows_with(shape, str(STRANGER))] == [
        "channels.delivery",
        "router.pairing",
    ]
    assert await rows_with(shape, MARK) == []
    await set_dm_policy(shape, people.account_id, "open")


async def test_a_revoked_token_is_a_state_and_what_waits_is_sent_when_it_is_mended(
    shape: Shape, people: People
) -> None:
    people.bot.is_revoked = True
    await people.write(1, pause_s=0)

    async def is_said() -> bool:
        shown = await asyncio.to_thread(shape.fased, "channels", "status", "-o", "json")
        return "token" in shown.stdout.lower() and '"connected": false' in shown.stdout

    await eventually(is_said)
    people.bot.is_revoked = False
    assert (await people.check())["messages"] == len(people.chats)


async def test_a_storm_of_429_delays_answers_and_loses_none(people: People) -> None:
    people.bot.faults.clear()
    people.bot.add_fault("flood", method="sendMessage", times=FLOODS, retry_after_s=1)
    await people.write(3, pause_s=0)
    counts = await people.check()
    assert (counts["unknown"], counts["doubles"]) == (0, 0)
    refused = [each for each in people.bot.calls if each.status == 429]
    assert len(refused) == FLOODS


async def test_no_secret_is_in_a_row_a_log_a_metric_or_an_error(
    shape: Shape, people: People
) -> None:
    assert people.bot.webhook is not None
    secrets = [TOKEN, MODEL_KEY, people.bot.webhook.secret_token, *shape.secrets()]
    shown = [
        await asyncio.to_thread(shape.fased, *words)
        for words in (
            ("channels", "list", "-o", "json"),
            ("channels", "status", "--probe", "-o", "json"),
            ("channels", "add", "telegram", "--account", "x", "--token-env", TOKEN),
        )
    ]
    assert shown[2].returncode != 0
    readable = shape.output() + await shape.metrics()
    readable += "".join(each.stdout + each.stderr for each in shown)
    for secret in secrets:
        assert await rows_with(shape, secret) == []
        assert secret not in readable


async def call(people: People, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Call the webhook as somebody does who is not Telegram, or not well."""
    assert people.bot.webhook is not None
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(people.bot.webhook.url, content=body, headers=headers)
    return answer.status_code, answer.content


def update(text: str) -> bytes:
    person = {"id": STRANGER, "is_bot": False, "first_name": "Eve"}
    chat = {"id": STRANGER, "type": "private"}
    message = {"message_id": 1, "from": person, "chat": chat, "date": 1, "text": text}
    return json.dumps({"update_id": 1, "message": message}).encode()


async def is_quiet(shape: Shape) -> bool:
    """Whether nothing is on its way between services."""
    conn = await asyncpg.connect(shape.dsn)
    try:
        return not await conn.fetchval(
            """SELECT EXISTS (SELECT FROM channels.outbox) OR EXISTS (SELECT FROM router.outbox)
                   OR EXISTS (SELECT FROM channels.delivery_lane)"""
        )
    finally:
        await conn.close()


async def rows_with(shape: Shape, words: str) -> list[str]:
    """Every row of every table that holds these words, as `table row`; but for the log of the
    one-process shape's bus, which stands for a broker.
    """
    found = []
    conn = await asyncpg.connect(shape.dsn)
    try:
        tables = await conn.fetch(
            """SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
                WHERE table_type = 'BASE TABLE' AND table_schema IN
                  ('channels', 'router', 'scheduler', 'executor', 'policy') ORDER BY 1"""
        )
        for (table,) in tables:
            rows = await conn.fetch(
                # Bytes are shown as hexadecimal digits.
                f"""SELECT t::text FROM {table} t
                     WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0""",
                words,
                words.encode().hex(),
            )
            found += [f"{table} {row[0]}" for row in rows]
    finally:
        await conn.close()
    return found
