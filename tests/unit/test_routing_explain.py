"""Explanation and lint of routes: every loser has a reason, every odd rule is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.bindings import Binding, MatchedBy
from fased.core.messages import Attachment, Peer, PeerKind
from fased.core.names import AccountId, AgentId, ChannelId
from fased.core.route_explain import Failed, explain_route
from fased.core.route_lint import lint_bindings
from fased.core.route_table import RoutingOptions, compile_table
from fased.core.routing import RouteInput, resolve_route
from tests.support.routes import MESSAGES, OPTIONS, binding, binding_lists, reference_winner

MESSAGE = RouteInput(
    "discord",
    peer=Peer(PeerKind.CHANNEL, "C"),
    parent_peer=Peer(PeerKind.CHANNEL, "P"),
    guild_id="g",
    role_ids=("r",),
    team_id="T",
)


@given(binding_lists(), MESSAGES, OPTIONS)
def test_an_explanation_decides_as_the_resolver_and_gives_every_loser_its_reason(
    bindings: list[Binding],
    message: RouteInput,
    options: RoutingOptions,
) -> None:
    table = compile_table(bindings, options=options)
    explained = explain_route(table, message)

    assert explained.decision == resolve_route(table, message)
    losers = [one for one in bindings if one is not explained.decision.binding]
    assert {candidate.binding.id for candidate in explained.candidates} == {
        one.id for one in losers
    }
    for candidate in explained.candidates:
        alone, tier = reference_winner([candidate.binding], message, options)
        assert (candidate.failed is Failed.OUTRANKED) is (alone is not None)
        if alone is not None:
            assert candidate.tier is tier


@given(binding_lists(), st.lists(MESSAGES, max_size=10), OPTIONS)
def test_a_binding_that_lint_calls_shadowed_or_unmatchable_never_wins(
    bindings: list[Binding],
    messages: list[RouteInput],
    options: RoutingOptions,
) -> None:
    table = compile_table(bindings, options=options)
    dead = {
        finding.setup_target.split(".")[0]
        for finding in lint_bindings(table)
        if finding.reason in ("BINDING_SHADOWED", "INVALID_PEER", "CHANNEL_MISSING", "ROLES_BLANK")
    }
    for message in messages:
        won = resolve_route(table, message).binding
        assert won is None or won.id not in dead


@pytest.mark.parametrize(
    ("match", "failed", "message"),
    [
        ({"channel": "slack"}, Failed.CHANNEL, "It is for the channel slack."),
        ({"channel": ""}, Failed.CHANNEL, "It is for the channel (none)."),
        (
            {"account_id": "biz"},
            Failed.ACCOUNT,
            "It is for the account biz, not for default.",
        ),
        ({"peer": ("channel", "X")}, Failed.PEER, "It is for the chat channel X."),
        (
            {"peer": ("room", "C")},
            Failed.PEER,
            "Its peer is not valid, so that it matches nothing.",
        ),
        ({"guild_id": "other"}, Failed.GUILD, "It is for the guild other."),
        (
            {"guild_id": "g", "role_ids": ("r8", "r9")},
            Failed.ROLES,
            "It is for the roles r8, r9, of which the sender has none.",
        ),
        ({"team_id": "t"}, Failed.TEAM, "It is for the team t."),
    ],
)
def test_a_loser_names_the_first_selector_that_does_not_fit(
    match: dict[str, Any], failed: Failed, message: str
) -> None:
    loser = binding(0, "x", **{"channel": "discord", **match})
    (candidate,) = explain_route(compile_table([loser]), MESSAGE).candidates
    assert (candidate.failed, candidate.message) == (failed, message)


def test_a_loser_that_fits_names_what_beat_it() -> None:
    first = binding(0, "first", channel="discord", guild_id="g")
    second = binding(1, "second", channel="discord", guild_id="g")
    account = binding(2, "account", channel="discord")
    explained = explain_route(compile_table([first, second, account]), MESSAGE)
    assert [(one.binding.agent_id, one.message) for one in explained.candidates] == [
        ("second", "It fits, but the binding bindings[0] comes first."),
        ("account", "It fits, but the binding bindings[0] is more specific."),
    ]


def test_a_binding_for_the_parent_loses_in_the_tier_of_parents() -> None:
    peer = binding(1, "peer", channel="discord", peer=("channel", "C"))
    parent = binding(0, "parent", channel="discord", peer=("channel", "P"))
    (candidate,) = explain_route(compile_table([peer, parent]), MESSAGE).candidates
    assert (candidate.tier, candidate.failed) == (MatchedBy.PARENT_PEER, Failed.OUTRANKED)


def test_a_wildcard_is_about_no_parent() -> None:
    table = compile_table(
        [binding(0, "x", peer=("channel", "*"))], options=RoutingOptions(wildcard_peer=True)
    )
    message = RouteInput("telegram", parent_peer=Peer(PeerKind.CHANNEL, "P"))
    (candidate,) = explain_route(table, message).candidates
    assert (candidate.tier, candidate.failed) == (MatchedBy.WILDCARD_PEER, Failed.PEER)


def test_an_attachment_is_named_as_what_beat_the_bindings() -> None:
    message = RouteInput("webchat", attached=Attachment(AgentId("y")))
    table = compile_table([binding(0, "x", channel="webchat")])
    (candidate,) = explain_route(table, message).candidates
    assert candidate.message == "It fits, but the Agent picked for this conversation goes first."


def lint(*rules: Binding, accounts: dict[str, list[str]] | None = None) -> list[tuple[str, str]]:
    table = compile_table(rules, agents=[AgentId("x")], default_agent=AgentId("x"))
    known = {
        ChannelId(channel): [AccountId(one) for one in ids]
        for channel, ids in (accounts or {}).items()
    }
    return [(one.reason, one.setup_target) for one in lint_bindings(table, known)]


def test_sound_bindings_have_no_findings() -> None:
    assert (
        lint(binding(0, "x", peer=("direct", "1")), binding(1, "x"), binding(2, "x", "slack")) == []
    )


@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        (binding(0, "ghost"), ("BINDING_TARGET_MISSING", "bindings[0].agentId")),
        (binding(0, ""), ("BINDING_TARGET_MISSING", "bindings[0].agentId")),
        (binding(0, "x", ""), ("CHANNEL_MISSING", "bindings[0].match.channel")),
        (binding(0, "x", peer=("room", "1")), ("INVALID_PEER", "bindings[0].match.peer")),
        (binding(0, "x", peer=("direct", " ")), ("INVALID_PEER", "bindings[0].match.peer")),
        (binding(0, "x", role_ids=(" ",)), ("ROLES_BLANK", "bindings[0].match.roles")),
        (binding(0, "x", peer=("group", "*")), ("WILDCARD_PEER_OFF", "routing.wildcardPeer")),
    ],
)
def test_an_odd_binding_is_named(rule: Binding, finding: tuple[str, str]) -> None:
    assert lint(rule) == [finding]


def test_an_omitted_account_is_named_where_the_channel_has_others() -> None:
    omitted = binding(0, "x", peer=("group", "-1"))
    finding = ("ACCOUNT_OMITTED", "bindings[0].match.accountId")
    assert lint(omitted, accounts={"telegram": ["default", "alerts"]}) == [finding]
    assert lint(omitted, binding(1, "x", account_id="alerts")) == [finding]
    assert lint(omitted, accounts={"telegram": ["default"], "slack": ["a", "b"]}) == []
    explicit = binding(0, "x", account_id="default", peer=("group", "-1"))
    assert lint(explicit, accounts={"telegram": ["default", "alerts"]}) == []


def test_peers_that_differ_only_in_case_are_named() -> None:
    rules = [
        binding(at, "x", "slack", peer=("channel", one)) for at, one in enumerate(["C1", "c1"])
    ]
    assert {reason for reason, _ in lint(*rules)} == {"PEERS_DIFFER_BY_CASE"}


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{}], {}),
        ([{"peer": ("direct", "1")}], {"peer": ("direct", "1"), "guild_id": "g"}),
        ([{"peer": ("direct", "1"), "account_id": "*"}], {"peer": ("direct", "1")}),
        ([{"guild_id": "g"}], {"guild_id": "g", "team_id": "T"}),
        (
            [{"guild_id": "g", "role_ids": ("a",)}, {"guild_id": "g", "role_ids": ("b", "c")}],
            {"guild_id": "g", "role_ids": ("a", "b")},
        ),
    ],
)
def test_a_binding_whose_messages_earlier_ones_take_is_shadowed(
    earlier: list[dict[str, Any]], later: dict[str, Any]
) -> None:
    rules = [binding(at, "x", **match) for at, match in enumerate([*earlier, later])]
    assert ("BINDING_SHADOWED", f"bindings[{len(earlier)}]") in lint(*rules)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"account_id": "*"}, {}),
        ({"peer": ("direct", "1"), "guild_id": "g"}, {"peer": ("direct", "1")}),
        ({"guild_id": "g"}, {"guild_id": "g", "role_ids": ("a",)}),
        ({"guild_id": "g", "role_ids": ("a",)}, {"guild_id": "g", "role_ids": ("a", "b")}),
        ({"account_id": "biz", "team_id": "T"}, {"account_id": "*", "team_id": "T"}),
    ],
)
def test_a_binding_that_still_has_messages_of_its_own_is_not_shadowed(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    rules = [binding(0, "x", **earlier), binding(1, "x", **later)]
    assert "BINDING_SHADOWED" not in [reason for reason, _ in lint(*rules)]


def test_lint_of_one_channel_leaves_the_others_out() -> None:
    table = compile_table([binding(0, "", "slack"), binding(1, "", "discord")])
    found = list(lint_bindings(table, channel=ChannelId("slack")))
    assert [one.setup_target for one in found] == ["bindings[0].agentId"]
