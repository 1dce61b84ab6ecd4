"""The gate over the real bus, gRPC and PostgreSQL: strangers, approvals, policies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fased.api.router.v1 import pairing_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core import errors
from fased.core.messages import Peer, PeerKind, Sender
from fased.core.names import AccountId
from tests.support.calls import eventually
from tests.support.gates import (
    CODE,
    GROUP,
    approve,
    member,
    notices,
    open_group,
    pending,
    set_gate,
    stranger,
    texts,
    work,
)
from tests.support.gateway import open_gateway_on
from tests.support.router import MONDAY, Router, listening, routing, writer


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta"), is_open=False) as up:
        yield up


async def test_a_stranger_makes_one_request_and_nothing_else_however_often_the_event_comes(
    router: Router,
) -> None:
    event = stranger(router, "42").event("let me in")
    await router.publish(event, event)
    notice = await router.replied(event)
    await router.publish(event, event, event)
    await router.settled()
    [request] = await pending(router)
    assert (request.sender.id, request.sender.display_name) == ("42", "Name 42")
    assert (request.channel, request.account_id) == ("telegram", "default")
    valid = request.expire_time.ToDatetime() - request.create_time.ToDatetime()
    assert valid == timedelta(hours=1)
    assert CODE.findall(notice.text)[0] == request.code
    assert (notice.kind, notice.target.peer.id) == (message_pb2.MESSAGE_KIND_NOTICE, "42")
    assert notice.expire_time == request.expire_time
    assert len(notices(router, event)) == 1
    assert set((await work(router)).values()) == {0}


async def test_more_messages_of_who_waits_are_not_read_and_not_answered(router: Router) -> None:
    eve = stranger(router, "42")
    first, second, command = eve.event("one"), eve.event("two"), eve.event("/status")
    await router.publish(first, second, command)
    await router.settled()
    await router.replied(first)
    assert notices(router, second, command) == []
    assert len(await pending(router)) == 1
    assert set((await work(router)).values()) == {0}


async def test_a_command_of_a_stranger_is_ignored(router: Router) -> None:
    command = stranger(router, "42").event("/task new every 1h --mode no-model Tick: tick")
    await router.publish(command)
    await router.settled()
    assert (await pending(router), notices(router, command)) == ([], [])
    assert set((await work(router)).values()) == {0}
    assert await router.rows("SELECT 1 FROM scheduler.task") == []


async def test_after_the_approval_the_next_message_is_taken_and_the_first_never(
    router: Router,
) -> None:
    eve = stranger(router, "42")
    first = eve.event("first")
    await router.reply_to(first)
    [request] = await pending(router)
    allowed = await approve(router, request.code.lower())
    assert allowed.name == "namespaces/default/senders/telegram:default:42"
    await router.publish(first)
    run = await eve.write("second")
    assert run.body.context_lines == []
    assert await texts(router) == ["second"]
    assert await pending(router) == []
    assert "You are 42" in await eve.command("/whoami")


async def test_an_approval_holds_for_its_account_only_and_not_in_groups(router: Router) -> None:
    await set_gate(router, groups=[GROUP])
    eve = stranger(router, "42")
    await router.reply_to(eve.event("hello"))
    await approve(router, (await pending(router))[0].code)
    elsewhere = stranger(router, "42", account_id="work").event("hello")
    group = member(router, "42").event("hello", mentions_me=True)
    await router.publish(elsewhere, group)
    await router.settled()
    await router.replied(elsewhere)
    assert [each.account_id for each in await pending(router)] == ["work"]
    assert notices(router, group) == []
    assert await texts(router) == []


async def test_at_most_three_wait_on_an_account_whoever_writes_at_once(router: Router) -> None:
    # Chats of one account lie in several partitions, which are worked on beside each other.
    events = [stranger(router, str(number)).event("hello") for number in range(40)]
    other = stranger(router, "77", account_id="work").event("hello")
    await asyncio.gather(*(router.publish(event) for event in (*events, other)))
    await router.settled()

    async def all_told() -> bool:
        return len(notices(router, *events, other)) >= 4

    await eventually(all_told)
    waiting = await pending(router)
    assert sorted(each.account_id for each in waiting) == ["default"] * 3 + ["work"]
    told = {message.target.peer.id for message in notices(router, *events, other)}
    assert told == {each.sender.id for each in waiting}


async def test_a_code_that_expired_is_worth_nothing_and_the_next_message_asks_again(
    router: Router,
) -> None:
    eve = stranger(router, "42")
    await router.reply_to(eve.event("hello"))
    [old] = await pending(router)
    await router.rows("UPDATE router.pairing SET expires_at = public.fased_now()")
    assert await pending(router) == []
    with pytest.raises(errors.NotFound) as caught:
        await approve(router, old.code)
    assert caught.value.reason == "PAIRING_MISSING"
    await router.reply_to(eve.event("hello again"))
    [new] = await pending(router)
    assert new.code != old.code


async def test_a_denied_stranger_stays_one(router: Router) -> None:
    eve = stranger(router, "42")
    await router.reply_to(eve.event("hello"))
    [request] = await pending(router)
    deny = pb.DenyPairingRequest(
        name=request.name, request_id="0b0d3c39-7b1c-4a47-8d1c-0f6f5a2b9a11"
    )
    await router.pairing.DenyPairing(deny)
    await router.pairing.DenyPairing(deny)
    with pytest.raises(errors.NotFound):
        await router.pairing.DenyPairing(pb.DenyPairingRequest(name=request.name))
    with pytest.raises(errors.NotFound):
        await approve(router, request.code)
    await router.publish(again := eve.event("hello?"))
    await router.replied(again)
    assert await texts(router) == []


async def test_a_repeated_approval_answers_as_the_first_and_a_revoked_sender_asks_again(
    router: Router,
) -> None:
    eve = stranger(router, "42")
    await router.reply_to(eve.event("hello"))
    [request] = await pending(router)
    request_id = "0b0d3c39-7b1c-4a47-8d1c-0f6f5a2b9a12"
    first = await approve(router, request.code, request_id=request_id)
    assert await approve(router, request.code, request_id=request_id) == first
    await eve.write("let in")
    await router.pairing.RevokeSender(pb.RevokeSenderRequest(name=first.name))
    with pytest.raises(errors.NotFound):
        await router.pairing.RevokeSender(pb.RevokeSenderRequest(name=first.name))
    await router.reply_to(eve.event("out again"))
    assert await texts(router) == ["let in"]


async def test_who_is_allowed_by_command_never_asks(router: Router) -> None:
    await router.reply_to(stranger(router, "42").event("hello"))
    sender = pairing_pb2.AllowedSender(
        channel="Telegram", account_id="Default", sender=message_pb2.Sender(id="42")
    )
    request = pb.AllowSenderRequest(parent="namespaces/default", sender=sender)
    await router.pairing.AllowSender(request)
    assert await pending(router) == []
    await stranger(router, "42").write("now")
    listed = await router.pairing.ListAllowedSenders(
        pb.ListAllowedSendersRequest(parent="namespaces/default")
    )
    assert [each.sender.id for each in listed.senders] == ["42"]


async def test_allowed_senders_are_listed_in_pages(router: Router) -> None:
    for number in range(5):
        sender = pairing_pb2.AllowedSender(
            channel="telegram", sender=message_pb2.Sender(id=f"{number}/x")
        )
        await router.pairing.AllowSender(
            pb.AllowSenderRequest(parent="namespaces/default", sender=sender)
        )
    found, token = [], ""
    while True:
        page = await router.pairing.ListAllowedSenders(
            pb.ListAllowedSendersRequest(parent="namespaces/default", page_size=2, page_token=token)
        )
        found += [each.sender.id for each in page.senders]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"{number}/x" for number in range(5)]


async def test_two_namespaces_know_nothing_of_each_others_strangers(router: Router) -> None:
    here, there = stranger(router, "42"), stranger(router, "42", namespace="beta")
    await router.reply_to(here.event("hello"))
    assert await pending(router, "beta") == []
    [request] = await pending(router)
    with pytest.raises(errors.NotFound):
        await approve(router, request.code, "beta")
    await approve(router, request.code)
    await here.write("mine")
    await router.reply_to(there.event("theirs"))
    assert (await texts(router), await texts(router, "beta")) == (["mine"], [])
    await set_gate(router, dm_policy="disabled")
    assert len(await pending(router, "beta")) == 1
    listed = await router.gates.ListGates(pb.ListGatesRequest(parent="namespaces/beta"))
    assert not listed.gates


async def test_the_policy_of_an_account_decides_at_once(router: Router) -> None:
    eve = stranger(router, "42")
    silent = [("allowlist", []), ("allowlist", ["*"]), ("disabled", ["42"])]
    for policy, listed in silent:
        await set_gate(router, dm_policy=policy, allow_from=listed)
        await router.publish(eve.event(policy))
        await router.settled()
    assert (await texts(router), await pending(router)) == ([], [])
    await set_gate(router, dm_policy="allowlist", allow_from=["42"])
    await eve.write("listed")
    await set_gate(router, dm_policy="open", allow_from=["*"])
    await stranger(router, "43").write("open")
    assert await texts(router) == ["listed", "open"]


async def test_webchat_is_always_let_in(router: Router) -> None:
    page = writer(router, "page", channel="webchat", attached=("main", ""))
    await page.write("hello")
    for name in ("webchat:default", "WebChat:x", ":default"):
        with pytest.raises(errors.InvalidArgument):
            await set_gate(router, account=name, dm_policy="disabled")


async def test_own_messages_and_other_bots_make_nothing(router: Router) -> None:
    await open_group(router, dm_policy="open", allow_from=["*"], require_mention=False)
    own, bot = Sender("1", is_self=True, is_bot=True), Sender("2", is_bot=True)
    events = [
        each.event("hi", sender=sender, mentions_me=True)
        for each in (stranger(router, "42"), member(router))
        for sender in (own, bot)
    ]
    await router.publish(*events)
    await router.settled()
    assert await texts(router) == []
    await set_gate(router, allow_bots=True)
    await member(router).write("beep", sender=bot)


async def test_a_gate_is_changed_field_by_field_and_shown(router: Router) -> None:
    shown = (
        await router.gates.GetGate(
            pb.GetGateRequest(name="namespaces/default/gates/telegram:default")
        )
    ).gate
    assert (shown.dm_policy, shown.group_policy, shown.require_mention) == (
        "pairing", "allowlist", True,
    )  # fmt: skip
    await set_gate(router, dm_policy="open", allow_from=["*", " 7 ", "7"])
    changed = await set_gate(router, require_mention=False)
    assert (changed.dm_policy, list(changed.allow_from)) == ("open", ["*", "7"])
    assert changed.require_mention is False
    refused: list[tuple[dict[str, Any], str]] = [
        ({"dm_policy": "closed"}, "INVALID_GATE"),
        ({"allow_from": ["7"]}, "INVALID_GATE"),
        ({"fields": ("managed_by",)}, "INVALID_UPDATE_MASK"),
    ]
    for policy, reason in refused:
        with pytest.raises(errors.InvalidArgument) as caught:
            await set_gate(router, **policy)
        assert caught.value.reason == reason


async def test_a_gate_of_a_file_is_edited_there_and_goes_with_it(router: Router) -> None:
    name = "namespaces/default/gates/telegram:default"
    await set_gate(router, dm_policy="disabled")

    async def apply(*gates: pairing_pb2.Gate, owner: str = "file:fased.json") -> None:
        await router.gates.ApplyGates(
            pb.ApplyGatesRequest(parent="namespaces/default", managed_by=owner, gates=gates)
        )

    named = pairing_pb2.Gate(name=name, dm_policy="allowlist", allow_from=["7"])
    await apply(named)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await set_gate(router, dm_policy="open", allow_from=["*"])
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    with pytest.raises(errors.FailedPrecondition):
        await apply(named, owner="resource:1")
    for refused in ([named, named], [pairing_pb2.Gate(name=name, dm_policy="open")]):
        with pytest.raises(errors.InvalidArgument):
            await apply(*refused)
    await apply()
    gate = (await router.gates.GetGate(pb.GetGateRequest(name=name))).gate
    assert (gate.dm_policy, gate.managed_by) == ("pairing", "")


async def test_an_event_with_another_spelling_of_its_account_meets_the_same_gate(
    router: Router,
) -> None:
    await set_gate(router, dm_policy="open", allow_from=["*"])
    eve = stranger(router, "42")
    spelled = replace(eve, blank=replace(eve.blank, account_id=AccountId(" Default ")))
    await spelled.write("hello")


async def test_a_message_that_nobody_signed_makes_nothing(router: Router) -> None:
    nobody = stranger(router, "")
    await router.publish(nobody.event("boo", peer=Peer(PeerKind.DIRECT, "9")))
    await router.settled()
    assert await pending(router) == []
    assert set((await work(router)).values()) == {0}


async def test_with_all_services_up_a_stranger_is_answered_once_approved(database_url: str) -> None:
    environment = {"FASED_SCRIPTED_MODEL": "echo"}
    async with (
        open_gateway_on(database_url, environment=environment) as gateway,
        listening(Router(gateway.running)) as router,
    ):
        eve = stranger(router, "42")
        first = eve.event("let me in", received_at=MONDAY)
        await router.reply_to(first)
        await router.publish(first)
        await router.settled()
        assert set((await work(router)).values()) == {0}
        [request] = await pending(router)
        await approve(router, request.code)
        answer = await router.reply_to(eve.event("hello there"))
        assert answer.kind == message_pb2.MESSAGE_KIND_ANSWER
        assert "hello there" in answer.text
        said = await router.rows("SELECT text FROM executor.transcript")
        assert not any("let me in" in row["text"] for row in said)
