"""The gate in groups over the real bus, gRPC and PostgreSQL: who is meant, what was said."""

from collections.abc import AsyncIterator

import pytest

from fased.core.messages import ReplyTo, Thread, ThreadKind
from tests.support.gates import GROUP, member, open_group, pending, set_gate, texts, work
from tests.support.router import Router, routing


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta"), is_open=False) as up:
        yield up


async def test_a_group_is_off_unless_it_is_listed(router: Router) -> None:
    ada = member(router)
    events = [ada.event("hello", mentions_me=True), ada.event("/whoami")]
    await router.publish(*events)
    await router.settled()
    await set_gate(router, groups=[GROUP])
    await router.publish(ada.event("still not listed", mentions_me=True), ada.event("/whoami"))
    await router.settled()
    assert await pending(router) == []
    assert set((await work(router)).values()) == {0}
    assert await router.rows("SELECT 1 FROM router.group_history") == []
    await set_gate(router, group_allow_from=["ada"])
    await ada.write("now", mentions_me=True)
    other = member(router, "eve").event("me too", mentions_me=True)
    await router.publish(other)
    await router.settled()
    assert await texts(router) == ["now"]


async def test_a_group_is_answered_when_the_bot_is_meant(router: Router) -> None:
    await open_group(router)
    ada = member(router)
    for text, fields in (
        ("mention", {"mentions_me": True}),
        ("reply", {"reply_to": ReplyTo("7", "before", is_me=True)}),
        ("thread", {"thread_is_mine": True, "thread": Thread(ThreadKind.THREAD, "t")}),
    ):
        await ada.write(text, **fields)
    assert "You are ada" in await ada.command("/whoami")
    unmeant = [ada.event("chatter"), ada.event("other", reply_to=ReplyTo("8", "x"))]
    await router.publish(*unmeant)
    await router.settled()
    assert await texts(router) == ["mention", "reply", "thread"]
    await set_gate(router, require_mention=False)
    await ada.write("anything")


async def test_what_was_said_before_is_given_to_the_next_run_once(router: Router) -> None:
    await open_group(router)
    ada, bob = member(router), member(router, "bob")
    chatter = [ada.event("shall we\neat?"), bob.event("pizza"), bob.event("/whoami")]
    question = ada.event("what did bob say?", mentions_me=True)
    after, next_question = bob.event("or pasta"), bob.event("decide", mentions_me=True)
    await router.publish(*chatter, question, after, next_question)
    await router.settled()
    first, second = await router.runs()
    assert list(first.body.context_lines) == ["Ada: shall we eat?", "Bob: pizza"]
    assert list(second.body.context_lines) == ["Bob: or pasta"]
    assert [each.text for each in first.body.inputs] == ["what did bob say?"]


async def test_redelivered_chatter_is_neither_kept_nor_given_twice(router: Router) -> None:
    await open_group(router)
    ada = member(router)
    batch = [ada.event("one"), ada.event("two"), ada.event("ask", mentions_me=True)]
    await router.publish(*batch)
    await router.settled()
    await router.publish(*batch)
    await router.settled()
    last = await ada.write("again", mentions_me=True)
    first, _ = await router.runs()
    assert list(first.body.context_lines) == ["Ada: one", "Ada: two"]
    assert list(last.body.context_lines) == []
    [rows] = await router.rows("SELECT count(*) AS n FROM router.group_history")
    assert rows["n"] == 2


async def test_a_run_that_could_not_be_made_gets_the_same_lines_when_its_event_comes_again(
    router: Router,
) -> None:
    await open_group(router)
    ada = member(router)
    await router.publish(ada.event("before"))
    question = ada.event("ask", mentions_me=True)
    run = await router.run_of(question)
    # As after a crash between the lines and the run: the lines are given, the run is not there.
    await router.rows("DELETE FROM scheduler.enqueue_key")
    await router.publish(question)
    await router.settled()
    again = (await router.runs())[-1]
    assert again.run_id != run.run_id
    assert list(again.body.context_lines) == list(run.body.context_lines) == ["Ada: before"]


async def test_a_groups_history_is_its_last_twenty_lines_and_a_topics_own(router: Router) -> None:
    await open_group(router)
    ada = member(router)
    topic = Thread(ThreadKind.TOPIC, "5")
    chatter = [ada.event(str(number)) for number in range(30)]
    redelivered = chatter[:5]
    await router.publish(*chatter, ada.event("elsewhere", thread=topic), *redelivered)
    await router.settled()
    run = await ada.write("ask", mentions_me=True)
    assert list(run.body.context_lines) == [f"Ada: {number}" for number in range(10, 30)]
    in_topic = await ada.write("ask", mentions_me=True, thread=topic)
    assert list(in_topic.body.context_lines) == ["Ada: elsewhere"]
