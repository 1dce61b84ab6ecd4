"""What is said of each kind of resource."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fased.core import resource_references, resource_status
from fased.core.accounts import AccountSettings, AccountStatus, Identity, ReceiveMode
from fased.core.agents import AgentDefinition
from fased.core.bindings import BindingPeer, make_binding
from fased.core.conditions import ConditionType, Truth
from fased.core.findings import Finding
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey, TaskId
from fased.core.resource_definitions import Account
from fased.core.resource_status import Observed, RouteFacts, TaskFacts
from fased.core.runs import ExecutionMode
from fased.core.tasks import Task, TaskState, TriggerKind, TriggerSpec

AT = datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC)
EVERY = TriggerSpec(TriggerKind.EVERY, "1h")
LOST = Finding("AGENT_MISSING", "There is no Agent x.")
BLOCKED = TaskFacts(state=TaskState.BLOCKED, finding=Finding("NO_MODEL_CREDENTIAL", "No model."))


def answers(observed: Observed) -> dict[str, str]:
    return {each.type: f"{each.truth} {each.reason}" for each in observed.conditions}


def task(facts: TaskFacts, missing: Finding | None = None) -> Observed:
    return resource_status.task(EVERY, missing, facts, last_at=AT, run_now="1", paused=False)


def route(facts: RouteFacts, missing: Finding | None = None) -> Observed:
    binding = make_binding(id="b", position=0, agent_id="main", channel="telegram")
    return resource_status.route(binding, missing, facts)


def channel(status: AccountStatus, **settings: Any) -> Observed:
    account = Account(
        ChannelId("telegram"),
        AccountId("ops"),
        AccountSettings(**settings),
        None,
    )
    return resource_status.channel(account, None, status)


def test_what_is_refused_leaves_the_rest_unknown() -> None:
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS)
    observed = resource_status.refused(types, Finding("INVALID_CRON", "61 is no minute."))
    assert answers(observed) == {
        "Accepted": "False INVALID_CRON",
        "ResolvedRefs": "Unknown NOT_ACCEPTED",
        "Ready": "False INVALID_CRON",
    }


def test_a_task_tells_when_it_fires_and_how_it_ended() -> None:
    facts = TaskFacts(next_at=AT, last_outcome="succeeded", last_run_id=7)
    observed = task(facts)
    assert observed.is_ready
    assert observed.figures == {
        "state": "active",
        "trigger": "every 1h",
        "nextTime": "2026-01-02T03:04:05Z",
        "lastTime": "2026-01-02T03:04:05Z",
        "lastResult": "succeeded",
        "lastRunId": 7,
        "runNow": "1",
        "paused": None,
    }


def test_a_blocked_task_is_accepted_and_fails_its_preflight() -> None:
    assert answers(task(BLOCKED)) == {
        "Accepted": "True ACCEPTED",
        "ResolvedRefs": "True RESOLVED",
        "Preflight": "False NO_MODEL_CREDENTIAL",
        "Ready": "False NO_MODEL_CREDENTIAL",
    }


def test_a_task_without_its_agent_says_so_first() -> None:
    assert answers(task(BLOCKED, LOST))["Ready"] == "False AGENT_MISSING"


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (TaskState.PAUSED, "True PAUSED"),
        (TaskState.DONE, "True DONE"),
        (TaskState.ACTIVE, "True READY"),
    ],
)
def test_a_task_that_is_held_back_or_done_does_what_it_says(state: TaskState, ready: str) -> None:
    assert answers(task(TaskFacts(state=state)))["Ready"] == ready


def test_a_task_that_was_switched_off_says_why() -> None:
    facts = TaskFacts(state=TaskState.DISABLED, finding=Finding("FAILED_TOO_OFTEN", "Five."))
    assert answers(task(facts))["Ready"] == "False FAILED_TOO_OFTEN"


def test_a_route_without_its_agent_repeats_the_routers_words() -> None:
    finding = Finding("BINDING_TARGET_MISSING", "It names Agent x, which does not exist.")
    observed = route(RouteFacts(level="binding.account", findings=(finding,)))
    assert answers(observed)["ResolvedRefs"] == "False BINDING_TARGET_MISSING"
    assert not observed.is_ready


def test_a_shadowed_route_is_not_ready_and_the_elder_of_a_tie_is() -> None:
    tie = Finding("ROUTE_CONFLICTED", "Both ask for the same messages.")
    shadow = Finding("BINDING_SHADOWED", "It never wins.")
    shadowed = route(RouteFacts(shadowed_by=("first",), findings=(tie, shadow)))
    assert answers(shadowed)["Ready"] == "False BINDING_SHADOWED"
    assert shadowed.figures["shadowedBy"] == ["first"]
    elder = route(RouteFacts(findings=(tie,)))
    assert answers(elder)["Conflicted"] == "True ROUTE_CONFLICTED"
    assert elder.is_ready


def test_what_else_is_odd_of_a_route_keeps_it_from_being_ready() -> None:
    odd = Finding("WILDCARD_PEER_OFF", "Wildcards are off.")
    assert answers(route(RouteFacts(findings=(odd,))))["Ready"] == "False WILDCARD_PEER_OFF"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, "all"),
        ({"account_id": "*"}, "all accounts"),
        ({"account_id": "ops", "peer": BindingPeer("direct", "7")}, "account ops, direct 7"),
        ({"guild_id": "g", "role_ids": ("a", "b")}, "guild g, roles a b"),
        ({"team_id": "t"}, "team t"),
    ],
)
def test_a_match_is_told_in_a_few_words(words: dict[str, object], text: str) -> None:
    given = {"id": "b", "position": 0, "agent_id": "main", "channel": "telegram", **words}
    assert resource_status.match_text(make_binding(**given)) == text  # type: ignore[arg-type]


def test_a_channel_is_ready_when_messages_come_in() -> None:
    status = AccountStatus(is_connected=True, identity=Identity("1", "fased_bot", "Fased"))
    observed = channel(status)
    assert observed.is_ready
    assert observed.figures["identity"] == {
        "id": "1",
        "username": "fased_bot",
        "displayName": "Fased",
    }
    assert not channel(AccountStatus()).is_ready


def test_a_webhook_is_ready_until_something_is_wrong() -> None:
    assert channel(AccountStatus(), mode=ReceiveMode.WEBHOOK).is_ready
    wrong = AccountStatus(last_error_reason="TOKEN_REFUSED", last_error="The token is wrong.")
    assert answers(channel(wrong, mode=ReceiveMode.WEBHOOK))["Ready"] == "False TOKEN_REFUSED"


def test_a_channel_that_is_switched_off_says_so() -> None:
    observed = channel(AccountStatus(is_connected=True), is_enabled=False)
    assert answers(observed)["Ready"] == "False CHANNEL_DISABLED"


def test_an_agents_providers_are_those_its_models_name() -> None:
    agent = AgentDefinition(
        model="a/one", fallback_models=("b/two", "plain"), model_roles={"strong": "a/three"}
    )
    providers = resource_references.providers_of(agent)
    assert providers == ("a", "b")
    assert resource_references.missing_provider(providers, {"a", "b"}, {}) is None
    missing = resource_references.missing_provider(providers, {"a"}, {})
    assert missing is not None
    assert missing.reason == "PROVIDER_MISSING"
    assert "b" in missing.message
    secret = resource_references.missing_secret(Namespace("team"), "secret:keys/b")
    unusable = resource_references.missing_provider(providers, {"a", "b"}, {"b": secret})
    assert unusable is not None
    assert (unusable.reason, unusable.setup_target) == ("SECRET_MISSING", secret.setup_target)
    assert "provider b" in unusable.message


def test_a_tasks_provider_is_its_own_models_or_its_agents_and_none_without_a_model() -> None:
    calls = Task(
        Namespace("team"),
        TaskId("t"),
        "hourly",
        AgentId("main"),
        SessionKey("agent:main:main"),
        "Hello",
        TriggerSpec(TriggerKind.MANUAL),
    )
    assert resource_references.provider_of_task(calls, "a/one") == ("a",)
    assert resource_references.provider_of_task(calls, "plain") == ()
    assert resource_references.provider_of_task(replace(calls, model="b/two"), "a/one") == ("b",)
    silent = replace(calls, mode=ExecutionMode.NO_MODEL)
    assert resource_references.provider_of_task(silent, "a/one") == ()


def test_webchat_and_all_accounts_need_no_channel() -> None:
    for words in ({"channel": "webchat"}, {"channel": "telegram", "account_id": "*"}):
        binding = make_binding(id="b", position=0, agent_id="main", **words)  # type: ignore[arg-type]
        assert resource_references.account_of_binding(binding) == ""
    binding = make_binding(id="b", position=0, agent_id="main", channel="telegram")
    account = resource_references.account_of_binding(binding)
    assert account == "telegram:default"
    missing = resource_references.missing_account(account, set())
    assert missing is not None
    assert missing.setup_target == "a Channel of the type telegram with the account default"


def test_every_word_for_an_answer_fits_kubernetes() -> None:
    observed = [task(BLOCKED, LOST), task(TaskFacts(state=TaskState.PAUSED)), route(RouteFacts())]
    for each in observed:
        for condition in each.conditions:
            assert condition.reason.replace("_", "").isalnum()
            assert condition.reason[0].isalpha()
            assert condition.truth in tuple(Truth)
