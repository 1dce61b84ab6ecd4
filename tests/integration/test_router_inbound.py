"""Inbound events over the real bus, gRPC and PostgreSQL: the run and the session they get."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from fased.api.router.v1 import binding_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.scheduler.v1 import run_pb2
from fased.core.messages import PeerKind, ReplyTo, Thread, ThreadKind
from tests.support.router import MONDAY, Router, routing, writer

DEFAULT = "namespaces/default"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta")) as up:
        yield up


async def set_policy(router: Router, policy: binding_pb2.SessionPolicy) -> None:
    """Let a file name the session policy."""
    await router.routes.ApplyRouting(
        pb.ApplyRoutingRequest(parent=DEFAULT, managed_by="file:/f", session=policy)
    )


async def test_a_message_becomes_a_run_of_its_agent_and_session(router: Router) -> None:
    ada = writer(router)
    event = ada.event("What is new?", reply_to=ReplyTo("7", "yesterday's", "bob"))
    run = await router.run_of(event)
    [session] = await router.rows("SELECT * FROM router.session")
    body = run.body
    assert (body.agent_id, body.session_key) == ("main", "agent:main:main")
    assert body.session_id == str(session["session_id"])
    assert (run.run_class, run.lane) == (run_pb2.RUN_CLASS_MESSAGE, "session:agent:main:main")
    assert (body.mode, body.trigger, body.model) == ("agent-turn", "message", "")
    assert body.correlation_id == event.event_id
    [said] = body.inputs
    assert (said.event_id, said.text, said.reply_to.body) == (
        event.event_id, "What is new?", "yesterday's",
    )  # fmt: skip
    assert (body.target.channel, body.target.peer.id) == ("telegram", "ada")
    assert body.target.reply_to_id == event.native_id


async def test_a_redelivered_event_makes_nothing_twice(router: Router) -> None:
    ada = writer(router)
    message, command = ada.event("hello"), ada.event("/session new Plans")
    await router.publish(message, command)
    await router.replied(command)
    await router.publish(message, command, message, command)
    await router.reply_to(after := ada.event("/whoami"))
    assert [run.body.inputs[0].event_id for run in await router.runs()] == [message.event_id]
    assert [len(router.said[each.event_id]) for each in (command, after)] == [1, 1]
    keys = await router.rows("SELECT session_key FROM router.session ORDER BY 1")
    assert [row["session_key"] for row in keys] == [
        "agent:main:main", "agent:main:main:chat:plans",
    ]  # fmt: skip


async def test_a_batch_of_message_command_message_keeps_its_order(router: Router) -> None:
    ada = writer(router)
    before, command, after = ada.event("one"), ada.event("/session new Next"), ada.event("two")
    await router.publish(before, command, after)
    await router.settled()
    keys = {run.body.inputs[0].text: run.body.session_key for run in await router.runs()}
    assert keys == {"one": "agent:main:main", "two": "agent:main:main:chat:next"}


async def test_messages_of_a_chat_are_queued_in_the_order_they_were_written(
    router: Router,
) -> None:
    events = [writer(router).event(str(number)) for number in range(50)]
    await router.publish(*events)
    await router.settled()
    rows = await router.rows(
        "SELECT body->'inputs'->0->>'text' AS text FROM scheduler.run ORDER BY seq"
    )
    assert [row["text"] for row in rows] == [str(number) for number in range(50)]


async def test_chats_whose_ids_differ_in_case_have_sessions_of_their_own(router: Router) -> None:
    upper, lower = (writer(router, each, kind=PeerKind.GROUP) for each in ("AbC", "abc"))
    first, second = await upper.write(), await lower.write()
    assert first.body.session_key == "agent:main:telegram:group:abc"
    assert second.body.session_key.startswith("agent:main:telegram:group:abc~")
    assert first.body.session_id != second.body.session_id
    assert (await upper.write()).body.session_id == first.body.session_id
    assert (await lower.write()).body.session_id == second.body.session_id


async def test_chats_that_differ_in_case_are_told_apart_in_one_batch_too(router: Router) -> None:
    events = [
        writer(router, each, kind=PeerKind.GROUP).event(each) for each in ("AbC", "abc", "ABC")
    ]
    await router.publish(*events)
    await router.settled()
    keys = {run.body.session_key for run in await router.runs()}
    assert len(keys) == 3


async def test_a_session_picked_by_its_key_is_that_one_whatever_its_chat_spells(
    router: Router,
) -> None:
    group = await writer(router, "AbC", kind=PeerKind.GROUP).write()
    page = writer(router, "page", channel="webchat", attached=("main", group.body.session_key))
    assert (await page.write()).body.session_id == group.body.session_id


async def test_a_stale_session_starts_afresh_with_the_next_message(router: Router) -> None:
    await set_policy(
        router,
        binding_pb2.SessionPolicy(
            resets=[binding_pb2.ResetRule(kind="direct", idle=Duration(seconds=3600))]
        ),
    )
    ada = writer(router)
    first = await ada.write(received_at=MONDAY)
    soon = await ada.write(received_at=MONDAY + timedelta(minutes=59))
    late = await ada.write(received_at=MONDAY + timedelta(minutes=59 + 60))
    assert soon.body.session_id == first.body.session_id
    assert late.body.session_id != first.body.session_id
    assert late.body.session_key == first.body.session_key


async def test_each_message_of_a_backlog_is_judged_by_the_one_before_it(router: Router) -> None:
    await set_policy(
        router,
        binding_pb2.SessionPolicy(
            resets=[binding_pb2.ResetRule(kind="direct", idle=Duration(seconds=3600))]
        ),
    )
    ada = writer(router)
    hours = (0.0, 0.5, 2.0, 2.5, 4.0)
    events = [ada.event(str(hour), received_at=MONDAY + timedelta(hours=hour)) for hour in hours]
    await router.publish(*events)
    await router.settled()
    made = {run.body.inputs[0].text: run.body.session_id for run in await router.runs()}
    ids = [made[str(hour)] for hour in hours]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 3


async def test_a_group_keeps_its_session_where_only_direct_chats_are_reset(
    router: Router,
) -> None:
    await set_policy(
        router,
        binding_pb2.SessionPolicy(
            resets=[binding_pb2.ResetRule(kind="direct", daily_hour=4, timezone="Europe/Berlin")]
        ),
    )
    for kind, is_kept in ((PeerKind.GROUP, True), (PeerKind.DIRECT, False)):
        chat = writer(router, "1", kind=kind)
        first = await chat.write(received_at=MONDAY)
        second = await chat.write(received_at=MONDAY + timedelta(days=1))
        assert (first.body.session_id == second.body.session_id) is is_kept


async def test_a_thread_has_a_session_of_its_own(router: Router) -> None:
    room = writer(router, "c1", kind=PeerKind.CHANNEL)
    in_room = await room.write()
    in_thread = await room.write(thread=Thread(ThreadKind.THREAD, "t1"))
    assert in_room.body.session_key == "agent:main:telegram:channel:c1"
    assert in_thread.body.session_key == "agent:main:telegram:channel:c1:thread:t1"
    assert in_thread.body.target.thread.id == "t1"


async def test_a_binding_sends_a_chat_to_its_agent(router: Router) -> None:
    await router.add_agent("coding")
    ada = writer(router)
    assert (await ada.write()).body.agent_id == "main"
    await router.routes.CreateBinding(
        pb.CreateBindingRequest(
            parent=DEFAULT,
            binding=binding_pb2.Binding(
                agent_id="coding", match=binding_pb2.Match(channel="telegram")
            ),
        )
    )
    assert (await ada.write()).body.agent_id == "coding"
    assert (await writer(router, account_id="other").write()).body.agent_id == "main"


async def test_the_agent_picked_on_a_page_answers_there(router: Router) -> None:
    await router.add_agent("coding")
    page = writer(router, "page", channel="webchat", attached=("coding", ""))
    assert (await page.write()).body.session_key == "agent:coding:main"


async def test_equal_chats_of_two_namespaces_share_nothing(router: Router) -> None:
    here, there = writer(router), writer(router, namespace="beta")
    mine, theirs = await here.write("mine"), await there.write("theirs")
    assert mine.body.session_key == theirs.body.session_key
    assert mine.body.session_id != theirs.body.session_id
    await there.command("/session new Secret")
    await there.command("/model openai/theirs")
    assert "Secret" not in await here.command("/session list")
    assert (await here.write()).body.session_id == mine.body.session_id
    assert (await here.write()).body.model == ""
    assert [run.body.inputs[0].text for run in await router.runs("beta")] == ["theirs"]


async def test_an_event_that_cannot_be_read_does_not_hold_up_its_chat(router: Router) -> None:
    ada = writer(router)
    broken = replace(ada.event("hello"), event_id="x" * 2000)
    await router.publish(broken)
    assert (await ada.write("after")).body.inputs[0].text == "after"
