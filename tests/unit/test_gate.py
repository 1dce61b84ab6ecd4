"""Whose messages are answered: the gate's policies, and what a group's history is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import gate
from fased.core.errors import InvalidArgument
from fased.core.gate import (
    ANYBODY,
    DmPolicy,
    GatePolicy,
    GateReason,
    GroupPolicy,
    Verdict,
    checked_account,
    checked_policy,
    decide,
    history_chat,
    history_line,
)
from fased.core.messages import (
    InboundEvent,
    Peer,
    PeerKind,
    ReplyTo,
    Sender,
    Thread,
    ThreadKind,
)
from fased.core.names import AccountId, ChannelId, Namespace

NOW = datetime(2026, 3, 2, tzinfo=UTC)
IDS = st.sampled_from(["1", "2", "3", "*", ""])
LISTS = st.lists(IDS, max_size=3).map(tuple)
POLICIES = st.builds(
    GatePolicy,
    dm_policy=st.sampled_from(DmPolicy),
    allow_from=LISTS,
    group_policy=st.sampled_from(GroupPolicy),
    groups=LISTS,
    group_allow_from=LISTS,
    require_mention=st.booleans(),
    allow_bots=st.booleans(),
)


def message(
    kind: PeerKind = PeerKind.DIRECT,
    sender: Sender = Sender("1", "Ada"),  # noqa: B008 (frozen)
    **fields: Any,
) -> InboundEvent:
    blank = InboundEvent(
        event_id="e1",
        namespace=Namespace("default"),
        channel=ChannelId("telegram"),
        account_id=AccountId("default"),
        peer=Peer(kind, "g1" if kind is not PeerKind.DIRECT else sender.id),
        sender=sender,
        text="hello",
        received_at=NOW,
    )
    return replace(blank, **fields)


EVENTS = st.builds(
    message,
    st.sampled_from(PeerKind),
    st.builds(Sender, IDS, st.just("Ada"), st.booleans(), st.booleans()),
    peer=st.builds(Peer, st.sampled_from(PeerKind), IDS),
    mentions_me=st.booleans(),
    thread_is_mine=st.booleans(),
    reply_to=st.none() | st.builds(ReplyTo, st.just("7"), is_me=st.booleans()),
)


def reason(
    event: InboundEvent, *, is_approved: bool = False, is_command: bool = False, **policy: Any
) -> GateReason:
    """Why the gate decides as it does, under a policy of these fields."""
    checked = checked_policy(GatePolicy(**policy))
    return decide(event, checked, is_approved=is_approved, is_command=is_command).reason


@given(EVENTS, POLICIES, st.booleans(), st.booleans())
def test_nobody_who_is_not_listed_or_approved_is_admitted(
    event: InboundEvent, policy: GatePolicy, is_approved: bool, is_command: bool
) -> None:
    decision = decide(event, policy, is_approved=is_approved, is_command=is_command)
    if decision.verdict is not Verdict.ADMIT:
        return
    sender = event.sender.id
    everybody = policy.dm_policy is DmPolicy.OPEN and ANYBODY in policy.allow_from
    listed = {*policy.allow_from} - {ANYBODY}
    if event.peer.kind is PeerKind.DIRECT:
        assert policy.dm_policy is not DmPolicy.DISABLED
        assert everybody or sender in listed or (is_approved and sender)
        return
    assert policy.group_policy is GroupPolicy.ALLOWLIST
    assert ANYBODY in policy.groups or event.peer.id in policy.groups
    if policy.group_allow_from:
        in_groups = {*policy.group_allow_from}
        assert ANYBODY in in_groups or sender in in_groups - {ANYBODY}
    else:
        assert everybody or sender in listed


@given(EVENTS, POLICIES, st.booleans())
def test_an_approval_for_direct_messages_changes_nothing_in_groups(
    event: InboundEvent, policy: GatePolicy, is_command: bool
) -> None:
    group = replace(event, peer=Peer(PeerKind.GROUP, event.peer.id))
    with_it, without = (
        decide(group, policy, is_approved=approved, is_command=is_command)
        for approved in (True, False)
    )
    assert with_it == without


@given(EVENTS, POLICIES, st.booleans(), st.booleans())
def test_no_group_message_is_answered_that_is_not_meant_for_the_bot(
    event: InboundEvent, policy: GatePolicy, is_approved: bool, is_command: bool
) -> None:
    unmeant = replace(
        event,
        peer=Peer(PeerKind.GROUP, event.peer.id),
        mentions_me=False,
        thread_is_mine=False,
        reply_to=ReplyTo("7", is_me=False),
    )
    strict = replace(policy, require_mention=True)
    decision = decide(unmeant, strict, is_approved=is_approved, is_command=is_command)
    assert decision.verdict is not Verdict.ADMIT or is_command


@given(EVENTS, POLICIES, st.booleans(), st.booleans())
def test_only_a_direct_message_under_pairing_asks_to_be_let_in(
    event: InboundEvent, policy: GatePolicy, is_approved: bool, is_command: bool
) -> None:
    decision = decide(event, policy, is_approved=is_approved, is_command=is_command)
    if decision.verdict is Verdict.PAIR:
        assert event.peer.kind is PeerKind.DIRECT
        assert policy.dm_policy is DmPolicy.PAIRING
        assert event.sender.id
        assert (is_approved, is_command, event.sender.is_self) == (False, False, False)


def test_every_reason_has_a_verdict_and_a_sentence() -> None:
    for each in GateReason:
        decision = gate.GateDecision(each)
        assert decision.verdict in Verdict
        assert decision.message.endswith(".")


@pytest.mark.parametrize(
    ("policy", "is_approved", "expected"),
    [
        ({}, False, GateReason.PAIRING_NEEDED),
        ({}, True, GateReason.SENDER_APPROVED),
        ({"allow_from": ("1",)}, False, GateReason.SENDER_LISTED),
        ({"allow_from": ("*",)}, False, GateReason.PAIRING_NEEDED),
        ({"dm_policy": DmPolicy.ALLOWLIST}, False, GateReason.SENDER_NOT_LISTED),
        ({"dm_policy": DmPolicy.ALLOWLIST}, True, GateReason.SENDER_APPROVED),
        ({"dm_policy": DmPolicy.OPEN, "allow_from": ("*",)}, False, GateReason.OPEN_TO_ALL),
        ({"dm_policy": DmPolicy.DISABLED, "allow_from": ("1",)}, True, GateReason.DIRECT_DISABLED),
    ],
)
def test_a_direct_message_follows_its_accounts_policy(
    policy: dict[str, Any], is_approved: bool, expected: GateReason
) -> None:
    assert reason(message(), is_approved=is_approved, **policy) is expected


def test_a_command_of_somebody_unknown_is_ignored_and_asks_for_nothing() -> None:
    assert reason(message(), is_command=True) is GateReason.COMMAND_NOT_ALLOWED
    listed: dict[str, Any] = {"groups": ("g1",), "group_allow_from": ("2",)}
    group = message(PeerKind.GROUP)
    assert reason(group, is_command=True, **listed) is GateReason.COMMAND_NOT_ALLOWED


def test_a_command_of_an_allowed_sender_needs_no_mention() -> None:
    listed: dict[str, Any] = {"groups": ("g1",), "group_allow_from": ("1",)}
    assert reason(message(PeerKind.GROUP), **listed) is GateReason.NOT_MENTIONED
    assert reason(message(PeerKind.GROUP), is_command=True, **listed) is GateReason.COMMAND


def test_a_group_is_off_until_it_is_listed_with_its_senders() -> None:
    group = message(PeerKind.GROUP, mentions_me=True)
    assert reason(group, is_approved=True) is GateReason.GROUP_NOT_LISTED
    assert reason(group, groups=("g1",)) is GateReason.GROUP_SENDER_NOT_LISTED
    assert reason(group, groups=("g1",), allow_from=("1",)) is GateReason.MENTIONED
    assert (
        reason(group, groups=("g1",), allow_from=("1",), group_allow_from=("2",))
        is GateReason.GROUP_SENDER_NOT_LISTED
    )
    assert reason(group, groups=("*",), group_allow_from=("*",)) is GateReason.MENTIONED
    off: dict[str, Any] = {
        "group_policy": GroupPolicy.DISABLED,
        "groups": ("*",),
        "group_allow_from": ("*",),
    }
    assert reason(group, **off) is GateReason.GROUPS_DISABLED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, GateReason.NOT_MENTIONED),
        ({"mentions_me": True}, GateReason.MENTIONED),
        ({"reply_to": ReplyTo("7", is_me=True)}, GateReason.REPLIED_TO),
        ({"reply_to": ReplyTo("7", is_me=False)}, GateReason.NOT_MENTIONED),
        ({"thread_is_mine": True}, GateReason.OWN_THREAD),
    ],
)
def test_a_group_message_is_answered_when_it_is_meant_for_the_bot(
    fields: dict[str, Any], expected: GateReason
) -> None:
    listed: dict[str, Any] = {"groups": ("g1",), "group_allow_from": ("*",)}
    assert reason(message(PeerKind.GROUP, **fields), **listed) is expected


def test_a_thread_that_is_a_chat_of_its_own_is_listed_by_its_room() -> None:
    thread = message(
        PeerKind.CHANNEL,
        peer=Peer(PeerKind.CHANNEL, "t1"),
        parent_peer=Peer(PeerKind.CHANNEL, "c1"),
        mentions_me=True,
    )
    assert reason(thread, groups=("c1",), group_allow_from=("*",)) is GateReason.MENTIONED


@pytest.mark.parametrize("kind", list(PeerKind))
def test_own_messages_and_other_bots_are_dropped_whoever_is_listed(kind: PeerKind) -> None:
    wide: dict[str, Any] = {"dm_policy": DmPolicy.OPEN, "allow_from": ("*",), "groups": ("*",)}
    own = message(kind, Sender("1", is_self=True, is_bot=True), mentions_me=True)
    bot = message(kind, Sender("1", is_bot=True), mentions_me=True)
    assert reason(own, allow_bots=True, **wide) is GateReason.OWN_MESSAGE
    assert reason(bot, **wide) is GateReason.OTHER_BOT
    assert reason(bot, allow_bots=True, **wide) in (GateReason.OPEN_TO_ALL, GateReason.MENTIONED)


def test_webchat_is_open_whatever_a_policy_says() -> None:
    page = message(channel=ChannelId("webchat"))
    assert reason(page, dm_policy=DmPolicy.DISABLED) is GateReason.AUTHENTICATED
    with pytest.raises(InvalidArgument):
        checked_account("webchat", "default")


def test_open_is_refused_until_everybody_is_listed_too() -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_policy(GatePolicy(dm_policy=DmPolicy.OPEN, allow_from=("1",)))
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_GATE", {"field": "allow_from"})


@given(POLICIES)
def test_a_checked_policy_holds_each_id_once_and_stays_as_it_is(policy: GatePolicy) -> None:
    try:
        checked = checked_policy(policy)
    except InvalidArgument:
        assert policy.dm_policy is DmPolicy.OPEN
        return
    for ids in (checked.allow_from, checked.groups, checked.group_allow_from):
        assert len(set(ids)) == len(ids)
        assert all(ids)
    assert checked_policy(checked) == checked


def test_lists_are_bounded() -> None:
    with pytest.raises(InvalidArgument):
        checked_policy(GatePolicy(groups=tuple(str(n) for n in range(gate.MAX_LISTED + 1))))
    with pytest.raises(InvalidArgument):
        checked_policy(GatePolicy(allow_from=("x" * 257,)))


@given(st.text(max_size=3000), st.text(max_size=100))
def test_a_line_of_a_groups_history_is_one_line_and_bounded(text: str, name: str) -> None:
    line = history_line(message(PeerKind.GROUP, Sender("1", name), text=text))
    assert len(line) <= gate.MAX_LINE_CHARS
    assert "\0" not in line
    assert line.splitlines() in ([line], [])


def test_each_topic_of_a_group_has_a_history_of_its_own() -> None:
    group = message(PeerKind.GROUP)
    topics = [replace(group, thread=Thread(ThreadKind.TOPIC, each)) for each in ("1", "2")]
    others = [
        replace(group, account_id=AccountId("b")),
        replace(group, peer=Peer(PeerKind.GROUP, "G1")),
    ]
    assert len({history_chat(each) for each in (group, *topics, *others)}) == 5
