"""The HTTP API under random requests: whatever is asked, it answers, and never with a failure."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.gateway import api, conversations
from tests.support.chats import Chat, open_chat
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]

# A machine that is busy with other things may be slow; a hang is longer than this.
ANSWER_S = 120.0

FIELDS = (
    *("text", "messageId", "replyToId", "senderName", "title", "agentId", "sessionKey"),
    *("requestId", "token"),
)
PARAMETERS = ("pageSize", "pageToken", "agentId", "sessionKey", "taskId", "after", "access_token")
HEADERS = ("Idempotency-Key", "Last-Event-ID", "Origin", "Host", "Cookie", "Content-Type")
PATHS = tuple(route.path for route in (*api.ROUTES, *conversations.ROUTES))

words = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "main", "default", "agent:main:main", "a/b", "..", "%00", "0", "-1"]),
    st.integers().map(str),
)
scalars = st.one_of(words, st.none(), st.booleans(), st.integers(), st.floats())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
bodies = st.one_of(
    st.none(),
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=5).map(json.dumps).map(str.encode),
    values.map(json.dumps).map(str.encode),
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80).map(
    str.strip
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[Up]:
    async with running_up(FASED_SCRIPTED_MODEL="echo") as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat(up: Up) -> Chat:
    opened = await open_chat(up)
    assert await opened.ask("first", "hello", ANSWER_S) == "You said: hello"
    return opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(up: Up) -> AsyncIterator[httpx.AsyncClient]:
    async with up.http() as opened:
        opened.timeout = httpx.Timeout(ANSWER_S)
        yield opened


@given(
    verb=st.sampled_from(["GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    path=st.sampled_from(PATHS),
    ids=st.dictionaries(st.sampled_from(["namespace", "run", "conversation"]), words),
    query=st.dictionaries(st.sampled_from(PARAMETERS), words, max_size=3),
    headers=st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=2),
    body=bodies,
)
@example("POST", PATHS[0], {}, {}, {}, b'{"token": "\\ud800"}')
@example("GET", PATHS[-1], {}, {"after": "9" * 30}, {"Last-Event-ID": "9" * 18}, None)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_request_is_answered_and_none_fails(
    up: Up,
    chat: Chat,
    client: httpx.AsyncClient,
    verb: str,
    path: str,
    ids: dict[str, str],
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes | None,
) -> None:
    known = {"namespace": "default", "run": "1", "conversation": chat.conversation}
    chosen = {name: quote(value, safe="") or "x" for name, value in {**known, **ids}.items()}
    request = client.build_request(
        verb, path.format(**chosen), params=query, headers=headers, content=body
    )
    async with asyncio.timeout(ANSWER_S):
        while not await is_answered(client, request, verb):
            pass


async def is_answered(client: httpx.AsyncClient, request: httpx.Request, verb: str) -> bool:
    """Send it and check the answer; False where it says to come back."""
    answer = await client.send(request, stream=True)
    try:
        # A stream that was opened has no end to wait for.
        if "event-stream" in answer.headers.get("content-type", ""):
            return True
        content = await answer.aread()
        if answer.status_code in (503, 504):
            return False
        check(verb, answer, content)
        return True
    finally:
        await answer.aclose()


def check(verb: str, answer: httpx.Response, content: bytes) -> None:
    assert answer.status_code < 500, content
    assert b"Traceback" not in content
    if answer.status_code >= 400 and verb != "HEAD":
        error: dict[str, Any] = json.loads(content)["error"]
        assert error["message"]
        assert error["reason"].isupper()


async def test_after_all_that_it_still_answers_and_its_log_shows_no_failure(
    up: Up, chat: Chat
) -> None:
    assert await chat.ask("last", "still there?", ANSWER_S) == "You said: still there?"
    assert "Traceback" not in up.output()
    assert "crashed" not in up.output()
