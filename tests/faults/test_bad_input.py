"""Bad input at every entry a person has: one clear error that names the field, and nothing kept.

One `fased up` serves the module; after each test its log must hold no traceback.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.support.chats import NAMESPACE, Chat, open_chat
from tests.support.up import Up, running_up

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)
GOOD = {"text": "hello"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[Up]:
    async with running_up(FASED_SCRIPTED_MODEL="echo") as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def no_traceback(up: Up) -> AsyncIterator[None]:
    yield
    assert "Traceback" not in up.output()
    assert "crashed" not in up.output()


@pytest_asyncio.fixture(loop_scope="module")
async def chat(up: Up) -> Chat:
    return await open_chat(up, f"chat {next(_numbers)}")


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The one error of an answer, in the one shape that all have."""
    content = answer.json()
    assert set(content) == {"error"}
    error: dict[str, Any] = content["error"]
    assert set(error) == {"reason", "message", "metadata"}
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


@dataclass(frozen=True, slots=True)
class Bad:
    """A post that cannot be, and how it is refused."""

    name: str
    reason: str
    field: str
    body: Any = b'{"text": "hello"}'
    status: int = 400
    key: str = "key"

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


POSTS = (
    Bad("not JSON", "INVALID_JSON", "body", b"{text: hello"),
    Bad("no UTF-8", "INVALID_JSON", "body", b'{"text": "\xff"}'),
    Bad("empty body", "INVALID_JSON", "body", b""),
    Bad("deep", "INVALID_JSON", "body", b"[" * 200_000),
    Bad("a list", "INVALID_BODY", "body", [GOOD]),
    Bad("null", "INVALID_BODY", "body", None),
    Bad("text missing", "INVALID_BODY", "text", {}),
    Bad("text a number", "INVALID_BODY", "text", {"text": 5}),
    Bad("text a list", "INVALID_BODY", "text", {"text": ["hello"]}),
    Bad("unknown field", "INVALID_BODY", "colour", {**GOOD, "colour": "red"}),
    Bad("text empty", "INVALID_TEXT", "text", {"text": ""}),
    Bad("text blank", "INVALID_TEXT", "text", {"text": " \n\t"}),
    Bad("text too long", "INVALID_TEXT", "text", {"text": "x" * 33_000}),
    Bad("NUL", "INVALID_BODY", "text", {"text": "a\0b"}),
    Bad("half a pair", "INVALID_BODY", "text", b'{"text": "\\ud83d"}'),
    Bad("over 1 MiB", "BODY_TOO_LARGE", "body", {"text": "x" * 1_100_000}, 413),
    Bad("no key", "INVALID_MESSAGE_ID", "messageId", key=""),
    Bad("key too long", "INVALID_MESSAGE_ID", "messageId", key="k" * 65),
    Bad("key with a tab", "INVALID_MESSAGE_ID", "messageId", key="a\tb"),
    Bad("two keys", "INVALID_MESSAGE_ID", "messageId", {**GOOD, "messageId": "other"}),
    Bad("reply to nothing", "REPLY_TO_MISSING", "replyToId", {**GOOD, "replyToId": "none"}),
)


@pytest.mark.parametrize("bad", POSTS, ids=lambda bad: bad.name)
async def test_a_post_that_cannot_be_names_the_field_and_leaves_nothing(
    up: Up, chat: Chat, bad: Bad
) -> None:
    async with up.http() as client:
        headers = {"Idempotency-Key": bad.key} if bad.key else {}
        answer = await client.post(f"{chat.path}/messages", content=bad.content, headers=headers)
    error = error_of(answer)
    assert (answer.status_code, error["reason"]) == (bad.status, bad.reason)
    assert error["metadata"]["field"] == bad.field
    assert len(answer.content) < 1000
    assert await chat.events() == []


async def test_a_chunked_body_is_cut_at_the_same_size(up: Up, chat: Chat) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 65_536

    async with up.http() as client:
        answer = await client.post(f"{chat.path}/messages", content=chunks())
    assert (answer.status_code, error_of(answer)["reason"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(
    "conversation", ["00000000-0000-0000-0000-000000000000", "nope", "%2e%2e", "a%20b", "9" * 400]
)
async def test_a_conversation_that_is_not_there_is_said_to_be_missing(
    up: Up, conversation: str
) -> None:
    async with up.http() as client:
        path = f"{NAMESPACE}/conversations/{conversation}"
        posted = await client.post(f"{path}/messages", json=GOOD, headers={"Idempotency-Key": "k"})
        streamed = await client.get(f"{path}/stream")
    for answer in (posted, streamed):
        assert answer.status_code in (400, 404)
        assert error_of(answer)["reason"] in ("CONVERSATION_MISSING", "INVALID_NAME", "NOT_FOUND")


@pytest.mark.parametrize(
    ("command", "about"),
    [
        ("/task new cron 99 * * * * -- X: y", "'99' is not a minute"),
        ("/task new cron 0 0 30 2 * -- X: y", "never fires"),
        ("/task new cron 0 9 * * * --tz Mars/Olympus -- X: y", "'Mars/Olympus' is not a zone"),
        ("/task new every soon X: y", "no schedule"),
        ("/task new every 9999999999999h X: y", "no duration"),
        ("/task new at 2001-01-01 X: y", "has passed"),
        ("/task new every 5s", "no prompt"),
        ("/task new every 5s --mod no-model X: y", "unknown flag --mod: did you mean --mode"),
        ("/task new every 5s --mode fancy X: y", "--mode takes one of"),
        ("/task new every 5s --timeout soon X: y", "--timeout takes a duration"),
        ("/task run-show 99999999999999999999", "no run's number"),
        ("/task show nope", "no task nope"),
        ("/agent switch nobody", 'Unknown Agent "nobody"'),
        ("/session switch nope", 'Unknown session "nope"'),
    ],
)
async def test_a_command_that_cannot_be_is_answered_with_one_line_and_makes_nothing(
    up: Up, chat: Chat, command: str, about: str
) -> None:
    said = await chat.ask("command", command)
    assert about in said
    assert "\n" not in said
    assert "tasks" in await listed(up, "tasks")
    assert (await listed(up, "tasks"))["tasks"] == []


async def listed(up: Up, what: str) -> Any:
    async with up.http() as client:
        return (await client.get(f"{NAMESPACE}/{what}")).json()


ADD = ("task", "add", "broken", "--prompt", "p")


@pytest.mark.parametrize(
    ("words", "code", "about"),
    [
        (("task", "add", "x", "--nonsense"), 2, "No such option: --nonsense"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        ((*ADD, "--cron", "99 * * * *"), 1, "'99' is not a minute"),
        ((*ADD, "--cron", "0 9 * * *", "--tz", "Mars/Olympus"), 1, "field: tz"),
        ((*ADD, "--every", "soon"), 1, "field: every"),
        ((*ADD, "--at", "yesterday"), 1, "field: at"),
        ((*ADD, "--every", "1h", "--agent", "nobody"), 1, "no Agent nobody"),
        (("task", "add", "x", "--every", "1h", "--prompt", ""), 1, "field: prompt"),
        (("task", "run-show", "9" * 20), 1, "is not a number"),
        (("chat", "-m", "x" * 33_000), 1, "field: text"),
        (("chat", "-m", "hi", "--agent", "nobody"), 1, "no Agent nobody"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
async def test_a_command_line_that_cannot_be_is_refused_in_one_line(
    up: Up, words: tuple[str, ...], code: int, about: str
) -> None:
    ended = await asyncio.to_thread(up.fased, *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert about in ended.stderr
    errors = [line for line in ended.stderr.splitlines() if line.lower().startswith("error:")]
    assert len(errors) == 1
    assert code == 2 or ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
    assert (await listed(up, "tasks"))["tasks"] == []


async def test_a_name_that_was_rebound_to_this_address_is_refused_whatever_it_asks(
    up: Up, chat: Chat
) -> None:
    port = urlsplit(up.gateway()["http"]).port
    rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
    async with up.http() as client:
        for verb, path in (
            *(("GET", "/"), ("GET", "/static/chat.js"), ("GET", "/api/v1/me")),
            *(("GET", f"{chat.path}/stream"), ("POST", f"{chat.path}/messages")),
        ):
            answer = await client.request(verb, path, headers=rebound, json=GOOD)
            assert (answer.status_code, error_of(answer)["reason"]) == (421, "HOST_REFUSED")
    assert await chat.events() == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
async def test_a_page_of_another_origin_may_neither_write_nor_read_answers(
    up: Up, chat: Chat, origin: str
) -> None:
    headers = {"Origin": origin, "Idempotency-Key": "k"}
    async with up.http() as client:
        answer = await client.post(f"{chat.path}/messages", json=GOOD, headers=headers)
        assert (answer.status_code, error_of(answer)["reason"]) == (403, "ORIGIN_REFUSED")
        login = await client.post("/api/v1/login", json={"token": "x"}, headers=headers)
        assert login.status_code == 403
        read = await client.get(f"{chat.path}/events", headers=headers)
        preflight = await client.options(f"{chat.path}/messages", headers=headers)
    assert not preflight.is_success
    for each in (answer, login, read, preflight):
        assert not [name for name in each.headers if name.startswith("access-control-")]
    assert await chat.events() == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
    ],
    ids=["TLS", "negative length", "huge header", "half a body"],
)
async def test_bytes_that_are_no_request_end_that_connection_alone(
    up: Up, chat: Chat, garbage: bytes
) -> None:
    address = urlsplit(up.gateway()["http"])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    async with asyncio.timeout(20):
        try:
            writer.write(garbage)
            writer.write_eof()
            answer = await reader.read()
        except OSError:
            answer = b""  # hung up on before the last byte
    writer.close()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert await chat.ask("after", "still there?") == "You said: still there?"
