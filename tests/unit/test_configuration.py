"""The configuration's shape: what is read, what is lived with, what is refused."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.bindings import BindingPeer
from fased.core.configuration import (
    AgentEntry,
    ModelChoice,
    parse_configuration,
    routing_table,
)
from fased.core.errors import InvalidArgument
from fased.core.names import AgentId
from fased.core.route_json import parse_route_input
from fased.core.sessions import DmScope, ResetPolicy, SessionKind


def test_an_empty_configuration_has_the_main_agent_as_default() -> None:
    parsed = parse_configuration({})
    assert (parsed.default_agent, parsed.agents, parsed.warnings) == ("main", (), ())
    assert parse_configuration(None) == parsed


def test_agents_are_read_with_models_defaults_and_the_keys_of_other_parts() -> None:
    parsed = parse_configuration(
        {
            "agents": {
                "defaults": {"model": {"primary": "openai/gpt", "fallbacks": ["ollama/q"]}},
                "list": [
                    {"id": "Home", "name": "At home", "workspace": "~/w", "model": "a/b"},
                    None,
                    {
                        "id": "family",
                        "default": True,
                        "models": {"cheapCheck": "a/small"},
                        "systemPrompt": "Be kind.",
                        "tools": {"deny": ["exec"]},
                    },
                ],
            }
        }
    )
    assert parsed.agents_model == ModelChoice("openai/gpt", ("ollama/q",))
    assert parsed.agents == (
        AgentEntry(AgentId("home"), "At home", model=ModelChoice("a/b"), workspace="~/w"),
        AgentEntry(
            AgentId("family"),
            is_default=True,
            models={"cheapCheck": "a/small"},
            system_prompt="Be kind.",
            policy={"tools": {"deny": ["exec"]}},
        ),
    )
    assert (parsed.default_agent, parsed.warnings) == ("family", ())


def test_bindings_are_read_in_order_with_canonical_selectors() -> None:
    parsed = parse_configuration(
        {
            "bindings": [
                None,
                {
                    "agentId": "X Y",
                    "match": {
                        "channel": " Slack ",
                        "accountId": "Bot Main",
                        "peer": {"kind": "DM", "id": 123},
                        "guildId": 9.0,
                        "teamId": " T1",
                        "roles": [7, None, "r"],
                    },
                },
            ]
        }
    )
    (binding,) = parsed.bindings
    assert (binding.id, binding.position, binding.agent_id) == ("bindings[1]", 1, "x-y")
    assert (binding.channel, binding.account_id) == ("slack", "bot-main")
    assert binding.peer == BindingPeer("direct", "123")
    assert (binding.guild_id, binding.team_id, binding.role_ids) == ("9", "T1", ("7", "r"))
    assert parsed.warnings == ()


def test_the_session_policy_is_read() -> None:
    parsed = parse_configuration(
        {
            "session": {
                "dmScope": "per-channel-peer",
                "identityLinks": {"alice": ["telegram:1", 2]},
                "reset": {"mode": "daily", "tz": "Europe/Madrid", "idleMinutes": 90},
                "resetByType": {"group": {"idleMinutes": 5}, "thread": None},
            }
        }
    )
    daily = ResetPolicy(4, "Europe/Madrid", timedelta(minutes=90))
    assert parsed.session.dm_scope is DmScope.PER_CHANNEL_PEER
    assert parsed.session.identity_links == {"alice": ("telegram:1", "2")}
    assert parsed.session.reset == {
        SessionKind.DIRECT: daily,
        SessionKind.GROUP: ResetPolicy(idle=timedelta(minutes=5)),
    }
    assert parsed.session.reset_policy(SessionKind.THREAD) == ResetPolicy()


@pytest.mark.parametrize(
    ("reset", "policy"),
    [
        ({}, ResetPolicy(daily_hour=4)),
        ({"atHour": 0}, ResetPolicy(daily_hour=0)),
        ({"idleMinutes": 1}, ResetPolicy(idle=timedelta(minutes=1))),
        ({"atHour": 3, "idleMinutes": 1}, ResetPolicy(3, idle=timedelta(minutes=1))),
        ({"mode": "none", "atHour": 3}, ResetPolicy()),
        ({"mode": "idle", "atHour": 3, "idleMinutes": 2}, ResetPolicy(idle=timedelta(minutes=2))),
        (None, ResetPolicy()),
    ],
)
def test_a_reset_without_a_mode_is_what_its_fields_say(
    reset: dict[str, Any] | None, policy: ResetPolicy
) -> None:
    parsed = parse_configuration({"session": {"reset": reset}})
    assert parsed.session.reset_policy(SessionKind.DIRECT) == policy


def test_broadcast_groups_and_accounts_are_read() -> None:
    parsed = parse_configuration(
        {
            "broadcast": {"strategy": "sequential", "+1555": ["support", "Logger"]},
            "channels": {"Telegram": {"accounts": {"default": {}, "Alerts": {}}}, "slack": True},
            "routing": {"wildcardPeer": True},
        }
    )
    assert not parsed.broadcast.is_parallel
    assert parsed.broadcast.groups == {"+1555": ("support", "logger")}
    assert parsed.accounts == {"telegram": frozenset({"default", "alerts"})}
    assert routing_table(parsed).options.wildcard_peer


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        ({"agnets": {}}, "UNKNOWN_KEY", "agnets"),
        ({"agents": {"lists": []}}, "UNKNOWN_KEY", "agents.lists"),
        ({"agents": {"list": [{"id": "a", "modle": "x"}]}}, "UNKNOWN_KEY", "agents.list[0].modle"),
        ({"agents": {"list": [{"name": "a"}]}}, "AGENT_ID_MISSING", "agents.list[0]"),
        ({"bindings": [{"agent": "x"}]}, "UNKNOWN_KEY", "bindings[0].agent"),
        ({"bindings": [{"match": {"guild": 1}}]}, "UNKNOWN_KEY", "bindings[0].match.guild"),
        ({"session": {"mainKey": "home"}}, "MAIN_KEY_IGNORED", "session.mainKey"),
        ({"session": {"store": "x.json"}}, "STORE_IGNORED", "session.store"),
        ({"session": {"dmScope": "weird"}}, "UNKNOWN_DM_SCOPE", "session.dmScope"),
        ({"session": {"reset": {"hour": 3}}}, "UNKNOWN_KEY", "session.reset.hour"),
    ],
)
def test_what_has_no_effect_is_a_warning_that_names_the_field(
    value: dict[str, Any], reason: str, field: str
) -> None:
    (warning,) = parse_configuration(value).warnings
    assert (warning.reason, warning.setup_target) == (reason, field)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "the configuration"),
        ({"bindings": {}}, "bindings"),
        ({"bindings": ["x"]}, "bindings[0]"),
        ({"bindings": [{"match": []}]}, "bindings[0].match"),
        ({"bindings": [{"agentId": True}]}, "bindings[0].agentId"),
        ({"bindings": [{"match": {"guildId": {}}}]}, "bindings[0].match.guildId"),
        ({"bindings": [{"match": {"roles": "r1"}}]}, "bindings[0].match.roles"),
        ({"bindings": [{"match": {"roles": [[]]}}]}, "bindings[0].match.roles[0]"),
        ({"bindings": [{"match": {"peer": "123"}}]}, "bindings[0].match.peer"),
        ({"agents": []}, "agents"),
        ({"agents": {"list": {}}}, "agents.list"),
        ({"agents": {"list": [{"id": "a", "default": "yes"}]}}, "agents.list[0].default"),
        ({"agents": {"list": [{"id": "a"}, {"id": "A"}]}}, "agents.list[1].id"),
        ({"agents": {"defaults": {"model": ["x"]}}}, "agents.defaults.model"),
        ({"session": {"dmScope": {}}}, "session.dmScope"),
        ({"session": {"identityLinks": {"alice": "1"}}}, "session.identityLinks.alice"),
        ({"session": {"reset": {"atHour": 24}}}, "session.reset.atHour"),
        ({"session": {"reset": {"mode": "weekly"}}}, "session.reset.mode"),
        ({"session": {"reset": {"mode": "idle"}}}, "session.reset.idleMinutes"),
        ({"session": {"reset": {"idleMinutes": 1.5}}}, "session.reset.idleMinutes"),
        ({"broadcast": {"strategy": "random"}}, "broadcast.strategy"),
        ({"broadcast": {"1": "a"}}, "broadcast.1"),
        ({"routing": {"wildcardPeer": 1}}, "routing.wildcardPeer"),
    ],
)
def test_a_wrong_shape_is_refused_naming_the_field(value: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_configuration(value)
    assert refused.value.metadata == {"field": field}
    assert field in refused.value.message


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_configuration({"session": {"reset": {"tz": "Mars/Olympus"}}})
    assert refused.value.reason == "INVALID_ZONE"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"channel": []}, "input.channel"),
        ({"peer": {"kind": "room", "id": "1"}}, "input.peer.kind"),
        ({"thread": {"kind": "fork", "id": "1"}}, "input.thread.kind"),
        ({"memberRoles": []}, "input.memberRoles"),
    ],
)
def test_a_routing_question_that_cannot_be_read_is_refused(value: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_route_input(value)
    assert refused.value.metadata == {"field": field}


KEYS = (
    *("agents", "list", "defaults", "model", "id", "bindings", "match", "peer", "kind"),
    *("channel", "roles", "session", "reset", "identityLinks", "broadcast", "channels"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused_naming_a_field(value: object) -> None:
    refused_fields = []
    try:
        routing_table(parse_configuration(value))
    except InvalidArgument as refused:
        refused_fields.append(refused.metadata["field"])
    assert all(refused_fields)
