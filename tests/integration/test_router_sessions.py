"""SessionService over real gRPC and PostgreSQL: lists, named sessions, resets, keys."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.router.v1 import session_pb2
from fased.core import errors
from fased.core.messages import PeerKind
from tests.support.router import MONDAY, Router, routing, writer

A, B = "namespaces/default", "namespaces/beta"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta")) as up:
        yield up


async def create(
    router: Router, title: str = "Plans", parent: str = A, **fields: Any
) -> session_pb2.Session:
    """Make a named session."""
    request = pb.CreateSessionRequest(parent=parent, title=title, **fields)
    return (await router.sessions.CreateSession(request)).session  # type: ignore[no-any-return]


async def get(router: Router, key: str, parent: str = A) -> session_pb2.Session:
    """One session."""
    request = pb.GetSessionRequest(name=f"{parent}/sessions/{key}")
    return (await router.sessions.GetSession(request)).session  # type: ignore[no-any-return]


async def keys(router: Router, parent: str = A, **fields: Any) -> list[str]:
    """The keys listed."""
    listed = await router.sessions.ListSessions(pb.ListSessionsRequest(parent=parent, **fields))
    return [session.session_key for session in listed.sessions]


async def test_a_chats_session_shows_where_it_came_from(router: Router) -> None:
    run = await writer(router, "AbC", kind=PeerKind.GROUP).write(received_at=MONDAY)
    session = await get(router, "agent:main:telegram:group:ABC")
    assert session.session_id == run.body.session_id
    assert (session.agent_id, session.channel, session.peer_id) == ("main", "telegram", "AbC")
    assert session.last_message_time.ToDatetime() == MONDAY.replace(tzinfo=None)
    with pytest.raises(errors.NotFound) as caught:
        await get(router, "agent:main:nowhere")
    assert caught.value.reason == "SESSION_MISSING"


async def test_sessions_are_listed_page_by_page_the_last_used_first(router: Router) -> None:
    for number in range(5):
        chat = writer(router, str(number), kind=PeerKind.GROUP)
        # Two of them at the same instant: the key decides then.
        await chat.write(received_at=MONDAY + timedelta(minutes=number // 2))
    everything = await keys(router)
    assert [key[-1] for key in everything] == ["4", "3", "2", "1", "0"]
    pages, token = [], ""
    for _ in range(3):
        request = pb.ListSessionsRequest(parent=A, page_size=2, page_token=token)
        page = await router.sessions.ListSessions(request)
        pages += [session.session_key for session in page.sessions]
        token = page.next_page_token
    assert pages == everything
    assert token == ""
    page = await router.sessions.ListSessions(pb.ListSessionsRequest(parent=A, page_size=2))
    with pytest.raises(errors.InvalidArgument):
        await keys(router, B, page_token=page.next_page_token)


async def test_sessions_are_listed_by_agent(router: Router) -> None:
    await router.add_agent("coding")
    await create(router, agent_id="coding")
    await create(router, agent_id="main")
    assert set(await keys(router, agent_id="Coding")) == {
        "agent:coding:main", "agent:coding:main:chat:plans",
    }  # fmt: skip


async def test_a_named_session_stands_beside_the_main_one(router: Router) -> None:
    session = await create(router, "  Road   trip ")
    assert session.session_key == "agent:main:main:chat:road-trip"
    assert (session.title, session.base_key) == ("Road trip", "agent:main:main")
    assert (await writer(router).write()).body.session_key == "agent:main:main"


async def test_a_repeated_create_makes_one_session(router: Router) -> None:
    request_id = str(uuid.uuid4())
    made = await asyncio.gather(*(create(router, request_id=request_id) for _ in range(5)))
    assert len({session.session_key for session in made}) == 1
    again = await create(router)
    assert again.session_key == "agent:main:main:chat:plans-2"
    assert len(await keys(router)) == 3


async def test_sessions_made_at_once_get_slugs_of_their_own(router: Router) -> None:
    made = await asyncio.gather(*(create(router) for _ in range(5)))
    assert len({session.session_key for session in made}) == 5


async def test_a_key_that_is_taken_by_another_kind_of_session_is_passed_over(
    router: Router,
) -> None:
    request = pb.ResolveSessionRequest(name=f"{A}/sessions/agent:main:main:chat:plans")
    await router.sessions.ResolveSession(request)
    assert (await create(router)).session_key == "agent:main:main:chat:plans-2"


async def test_a_session_needs_a_title_and_a_known_agent(router: Router) -> None:
    for title in (" ", "x" * 49):
        with pytest.raises(errors.InvalidArgument) as caught:
            await create(router, title)
        assert caught.value.metadata == {"field": "title"}
    with pytest.raises(errors.NotFound):
        await create(router, agent_id="ghost")
    with pytest.raises(errors.InvalidArgument):
        await create(router, request_id="7")


async def test_a_reset_happens_once_a_request(router: Router) -> None:
    first = await create(router)
    request = pb.ResetSessionRequest(name=first.name, request_id=str(uuid.uuid4()))
    answers = await asyncio.gather(*(router.sessions.ResetSession(request) for _ in range(5)))
    [session_id] = {answer.session.session_id for answer in answers}
    assert session_id != first.session_id
    other = pb.ResetSessionRequest(name=first.name)
    assert (await router.sessions.ResetSession(other)).session.session_id != session_id
    with pytest.raises(errors.NotFound):
        await router.sessions.ResetSession(
            pb.ResetSessionRequest(name=f"{A}/sessions/agent:main:ghost")
        )


async def test_a_key_without_a_row_is_given_one_and_keeps_it(router: Router) -> None:
    request = pb.ResolveSessionRequest(name=f"{A}/sessions/agent:main:task:1", agent_id="main")
    resolved = await asyncio.gather(*(router.sessions.ResolveSession(request) for _ in range(5)))
    assert len({answer.session.session_id for answer in resolved}) == 1
    for key, agent_id in (("agent:main:x", "coding"), ("nonsense", "")):
        wrong = pb.ResolveSessionRequest(name=f"{A}/sessions/{key}", agent_id=agent_id)
        with pytest.raises(errors.InvalidArgument):
            await router.sessions.ResolveSession(wrong)


async def test_equal_keys_of_two_namespaces_are_two_sessions(router: Router) -> None:
    mine, theirs = await create(router), await create(router, parent=B)
    assert mine.session_key == theirs.session_key
    assert mine.session_id != theirs.session_id
    await router.sessions.ResetSession(pb.ResetSessionRequest(name=mine.name))
    assert (await get(router, theirs.session_key, B)).session_id == theirs.session_id
    request_id = str(uuid.uuid4())
    await create(router, "Other", request_id=request_id)
    assert (await create(router, "Third", B, request_id=request_id)).title == "Third"
