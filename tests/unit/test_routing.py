"""Routing: the tiers, the attachment, the options, and the laws of the compiled table."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fased.core import routing
from fased.core.bindings import Binding, MatchedBy, make_binding, tier_of
from fased.core.messages import (
    Attachment,
    InboundEvent,
    Peer,
    PeerKind,
    Sender,
    Thread,
    ThreadKind,
)
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey
from fased.core.route_table import (
    RoutingOptions,
    RoutingTable,
    compile_table,
    with_agents,
    with_binding,
    without_binding,
)
from fased.core.routing import RouteInput, resolve_route
from tests.support.routes import MESSAGES, OPTIONS, binding, binding_lists, reference_winner

MAIN = AgentId("main")
CHAT = Peer(PeerKind.DIRECT, "123")


def winner(bindings: list[Binding], message: RouteInput, **options: bool) -> tuple[str, str]:
    decision = resolve_route(compile_table(bindings, options=RoutingOptions(**options)), message)
    return decision.agent_id, decision.matched_by


@settings(max_examples=300)
@given(binding_lists(), st.lists(MESSAGES, min_size=1, max_size=8), OPTIONS)
def test_the_compiled_table_decides_as_the_tier_table_read_row_by_row(
    bindings: list[Binding], messages: list[RouteInput], options: RoutingOptions
) -> None:
    table = compile_table(bindings, options=options)
    for message in messages:
        decision = resolve_route(table, message)
        expected = reference_winner(bindings, message, options)
        assert (decision.binding, decision.matched_by) == expected


@given(binding_lists(), MESSAGES, st.randoms(use_true_random=False))
def test_the_order_in_which_bindings_are_given_decides_nothing(
    bindings: list[Binding], message: RouteInput, shuffle: Random
) -> None:
    shuffled = shuffle.sample(bindings, len(bindings))
    once = resolve_route(compile_table(bindings), message)
    assert once == resolve_route(compile_table(shuffled), message)


@given(binding_lists(), MESSAGES, st.permutations(list(MatchedBy)))
def test_order_between_tiers_decides_nothing(
    bindings: list[Binding], message: RouteInput, tiers: list[MatchedBy]
) -> None:
    def key(one: Binding) -> tuple[int, int, str]:
        return tiers.index(tier_of(one, wildcard_peer=False)), one.position, one.id

    regrouped = [
        replace(one, position=position) for position, one in enumerate(sorted(bindings, key=key))
    ]
    before = resolve_route(compile_table(bindings), message)
    after = resolve_route(compile_table(regrouped), message)
    assert before.matched_by is after.matched_by
    assert (before.binding and before.binding.id) == (after.binding and after.binding.id)


@given(binding_lists(), binding_lists(max_size=4), st.sets(st.integers(0, 12)), OPTIONS)
def test_changing_one_binding_gives_the_table_that_compiling_anew_gives(
    bindings: list[Binding], changes: list[Binding], gone: set[int], options: RoutingOptions
) -> None:
    original = compile_table(bindings, options=options)
    table = original
    for change in changes:
        table = with_binding(table, change)
    for at in gone:
        table = without_binding(table, f"b{at}")
    expected = {one.id: one for one in (*bindings, *changes) if int(one.id[1:]) not in gone}

    assert table == compile_table(expected.values(), options=options)
    assert original == compile_table(bindings, options=options)


@given(binding_lists(), MESSAGES)
def test_a_binding_with_an_invalid_peer_never_wins(
    bindings: list[Binding], message: RouteInput
) -> None:
    won = resolve_route(compile_table(bindings), message).binding
    assert won is None or won.peer is None or won.peer.is_valid


@given(binding_lists(), MESSAGES)
def test_only_agents_that_exist_answer(bindings: list[Binding], message: RouteInput) -> None:
    table = compile_table(bindings, agents=[AgentId("a"), AgentId("b")], default_agent=AgentId("b"))
    decision = resolve_route(table, message)
    is_missing = decision.binding is not None and decision.binding.agent_id not in ("a", "b")
    assert decision.agent_id in ("a", "b")
    assert [finding.reason for finding in decision.findings] == (
        ["BINDING_TARGET_MISSING"] if is_missing else []
    )


def test_the_tiers_win_in_their_order() -> None:
    rules = [
        binding(7, "channel", account_id="*"),
        binding(6, "account"),
        binding(5, "team", team_id="T"),
        binding(4, "guild", guild_id="g"),
        binding(3, "roles", guild_id="g", role_ids=("r",)),
        binding(2, "parent", peer=("channel", "P")),
        binding(1, "peer", peer=("channel", "C")),
    ]
    message = RouteInput(
        "telegram",
        peer=Peer(PeerKind.CHANNEL, "C"),
        parent_peer=Peer(PeerKind.CHANNEL, "P"),
        guild_id="g",
        role_ids=("r",),
        team_id="T",
    )
    order = []
    while rules:
        agent, _ = winner(rules, message)
        order.append(agent)
        rules = [one for one in rules if one.agent_id != agent]
    assert order == ["peer", "parent", "roles", "guild", "team", "account", "channel"]
    assert winner([], message) == ("main", "default")


def test_a_peer_binding_without_account_does_not_hold_on_another_account() -> None:
    rules = [binding(0, "x", peer=("direct", "123"))]
    assert winner(rules, RouteInput("telegram", "alerts", CHAT)) == ("main", "default")
    assert winner(rules, RouteInput("telegram", "", CHAT)) == ("x", "binding.peer")


def test_blank_roles_make_a_binding_nobodys_and_never_everybodys() -> None:
    rules = [binding(0, "x", guild_id="g", role_ids=("", " "))]
    message = RouteInput("telegram", guild_id="g", role_ids=("", "r"))
    assert winner(rules, message) == ("main", "default")


def test_a_selector_the_message_lacks_holds_for_no_other_tier() -> None:
    rules = [binding(0, "guild", guild_id="g"), binding(1, "team", team_id="T"), binding(2, "any")]
    rules.append(binding(3, "roles", guild_id="g", role_ids=("r",)))
    assert winner(rules, RouteInput("telegram")) == ("any", "binding.account")
    blank_role = RouteInput("telegram", guild_id="g", role_ids=(" ",))
    assert winner(rules, blank_role) == ("guild", "binding.guild")


def test_a_wildcard_peer_is_a_tier_of_its_own_only_where_switched_on() -> None:
    rules = [
        binding(0, "wild", peer=("direct", "*")),
        binding(1, "account"),
        binding(2, "exact", peer=("direct", "9")),
    ]
    message = RouteInput("telegram", peer=CHAT)
    assert winner(rules, message) == ("account", "binding.account")
    assert winner(rules, message, wildcard_peer=True) == ("wild", "binding.peer.wildcard")
    exact = RouteInput("telegram", peer=Peer(PeerKind.DIRECT, "9"))
    assert winner(rules, exact, wildcard_peer=True) == ("exact", "binding.peer")
    group = RouteInput("telegram", peer=Peer(PeerKind.GROUP, "123"))
    assert winner(rules, group, wildcard_peer=True) == ("account", "binding.account")


def test_groups_and_channels_are_alike_only_where_switched_on() -> None:
    rules = [binding(0, "x", peer=("group", "C"))]
    message = RouteInput("telegram", peer=Peer(PeerKind.CHANNEL, "C"))
    assert winner(rules, message) == ("main", "default")
    assert winner(rules, message, group_channel_alike=True) == ("x", "binding.peer")


def test_of_equal_places_the_smaller_id_wins_however_the_table_came_about() -> None:
    first, second = (
        make_binding(id=one, position=0, agent_id=one, channel="telegram") for one in "ab"
    )
    message = RouteInput("telegram", peer=CHAT)
    assert winner([second, first], message) == ("a", "binding.account")
    assert resolve_route(with_binding(compile_table([second]), first), message).agent_id == "a"


def test_the_default_agent_is_a_fallback_and_no_assignment() -> None:
    decision = resolve_route(compile_table([]), RouteInput("telegram", peer=CHAT))
    assert decision.binding is None
    assert decision.reason == "DEFAULT_FALLBACK"
    assert decision.message == "No binding matches; the default Agent main answers as a fallback."


def test_a_decision_names_the_binding_and_why_it_won() -> None:
    table = compile_table([binding(0, "x", peer=("direct", "123"))])
    decision = resolve_route(table, RouteInput("telegram", peer=CHAT))
    assert decision.reason == "MATCHED_PEER"
    assert decision.message == "Agent x answers: the binding bindings[0] names this chat."


def test_a_binding_to_a_missing_agent_goes_to_the_default_and_says_so() -> None:
    table = with_agents(compile_table([binding(0, "ghost")]), [MAIN, AgentId("work")], MAIN)
    decision = resolve_route(table, RouteInput("telegram", peer=CHAT))
    assert (decision.agent_id, decision.matched_by) == ("main", "binding.account")
    assert decision.reason == "BINDING_TARGET_MISSING"
    assert decision.message == (
        "The binding bindings[0] names Agent ghost, which does not exist; "
        "the default Agent main answers."
    )


def attached_table(*rules: Binding) -> RoutingTable:
    return compile_table(rules, agents=[MAIN, AgentId("x"), AgentId("y")], default_agent=MAIN)


def attached_message(agent: str, key: str | None = None) -> RouteInput:
    attachment = Attachment(AgentId(agent), SessionKey(key) if key else None)
    return RouteInput("webchat", peer=CHAT, attached=attachment)


def test_an_attached_conversation_goes_to_the_agent_picked_for_it() -> None:
    table = attached_table(binding(0, "x", channel="webchat"))
    decision = resolve_route(table, attached_message("y"))
    assert (decision.agent_id, decision.matched_by) == ("y", "attached")
    assert decision.session_key == decision.main_session_key == "agent:y:main"
    assert (decision.reason, decision.binding) == ("ATTACHED", None)


def test_an_attached_session_is_kept() -> None:
    decision = resolve_route(attached_table(), attached_message("y", "agent:y:main:chat:notes"))
    assert decision.session_key == "agent:y:main:chat:notes"


@pytest.mark.parametrize("key", ["agent:x:main", "agent:yy:main", "agent:y:", "y:main"])
def test_an_attached_session_of_another_agent_is_not_entered(key: str) -> None:
    decision = resolve_route(attached_table(), attached_message("y", key))
    assert (decision.agent_id, decision.session_key) == ("y", "agent:y:main")


def test_a_binding_for_the_very_chat_wins_over_the_attachment() -> None:
    table = attached_table(binding(0, "x", channel="webchat", peer=("direct", "123")))
    decision = resolve_route(table, attached_message("y", "agent:y:main:chat:notes"))
    assert (decision.agent_id, decision.matched_by) == ("x", "binding.peer")
    assert decision.session_key == "agent:x:main"


def test_an_attachment_to_a_missing_agent_goes_to_the_default_and_says_so() -> None:
    decision = resolve_route(attached_table(), attached_message("gone", "agent:gone:main"))
    assert (decision.agent_id, decision.session_key) == ("main", "agent:main:main")
    assert decision.reason == "ATTACHED_AGENT_MISSING"


def test_peers_that_differ_only_in_case_share_a_key_but_no_identity() -> None:
    table = compile_table([])
    first, second = (
        resolve_route(table, RouteInput("slack", peer=Peer(PeerKind.CHANNEL, peer_id)))
        for peer_id in ("C1", "c1")
    )
    assert first.session_key == second.session_key == "agent:main:slack:channel:c1"
    assert first.session_identity != second.session_identity


def test_an_inbound_event_is_routed_by_all_it_says() -> None:
    event = InboundEvent(
        event_id="default:discord:default:1",
        namespace=Namespace("default"),
        channel=ChannelId("discord"),
        account_id=AccountId("biz"),
        peer=Peer(PeerKind.CHANNEL, "T"),
        sender=Sender("u"),
        text="hello",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        parent_peer=Peer(PeerKind.CHANNEL, "P"),
        thread=Thread(ThreadKind.THREAD, "t9"),
        guild_id="g",
        team_id="T1",
        role_ids=("r",),
        attached=Attachment(AgentId("x")),
    )
    assert routing.route_input(event) == RouteInput(
        channel="discord",
        account_id="biz",
        peer=Peer(PeerKind.CHANNEL, "T"),
        parent_peer=Peer(PeerKind.CHANNEL, "P"),
        guild_id="g",
        role_ids=("r",),
        team_id="T1",
        thread=Thread(ThreadKind.THREAD, "t9"),
        attached=Attachment(AgentId("x")),
    )
