"""Custom resources as values, and what their specs define."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fased.core.accounts import ReceiveMode
from fased.core.bindings import RESOURCE_POSITION
from fased.core.delivery import UnknownPolicy
from fased.core.errors import InvalidArgument
from fased.core.gate import DmPolicy
from fased.core.messages import Peer, PeerKind, Thread, ThreadKind
from fased.core.resource_definitions import (
    account_of,
    agent_of,
    binding_of,
    provider_of,
    task_of,
    trigger_of,
)
from fased.core.resources import Key, Kind, Resource, named, owner_of, read_resource, uid_of
from fased.core.runs import ExecutionMode
from fased.core.tasks import MissedPolicy, Overlap, TriggerKind

UID = "9a2f3f0e-0f5c-4f3c-8f7e-1d2c3b4a5e6f"
MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = {"secretKeyRef": {"name": "bot", "key": "token"}}


def resource(kind: Kind, spec: dict[str, Any], **metadata: Any) -> Resource:
    return read_resource(
        kind,
        {
            "metadata": {
                "name": "one",
                "namespace": "team",
                "uid": UID,
                "generation": 3,
                "resourceVersion": "41",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                **metadata,
            },
            "spec": spec,
        },
    )


def test_a_resource_is_known_by_its_uid() -> None:
    one = resource(Kind.AGENT, {})
    assert (one.generation, one.version, one.created_at) == (3, "41", MADE_AT)
    assert one.owner == owner_of(UID) == f"resource:{UID}"
    assert uid_of(one.owner) == UID
    assert uid_of("file:fased.json") == ""
    assert one.key == Key(Kind.AGENT, one.key.namespace, "", UID)
    assert resource(Kind.AGENT, {}, uid="other").key != one.key


def test_a_body_that_is_no_object_is_refused() -> None:
    for body in ({}, {"metadata": None}, {"metadata": "x"}, {"metadata": {"name": "a"}}):
        with pytest.raises((KeyError, TypeError)):
            read_resource(Kind.AGENT, body)


def test_two_bodies_ask_the_same_when_only_status_differs() -> None:
    one = resource(Kind.TASK, {})
    assert one.asks_the_same(resource(Kind.TASK, {}, resourceVersion="42"))
    for other in (
        resource(Kind.TASK, {}, generation=4),
        resource(Kind.TASK, {}, annotations={"fased.dev/run-now": "1"}),
        resource(Kind.TASK, {}, annotations={"fased.dev/paused": "true"}),
    ):
        assert not one.asks_the_same(other)
    assert one.asks_the_same(resource(Kind.TASK, {}, annotations={"fased.dev/paused": "no"}))


def test_versions_that_are_no_numbers_are_not_compared() -> None:
    one, later = resource(Kind.TASK, {}), resource(Kind.TASK, {}, resourceVersion="101")
    assert one.is_older_than(later)
    assert not later.is_older_than(one)
    assert not resource(Kind.TASK, {}, resourceVersion="x").is_older_than(later)


def test_an_owner_is_named_as_people_call_it() -> None:
    said = f"Account telegram:ops is defined in the custom resource {UID}; edit it there"
    assert named(said, UID, Kind.CHANNEL, "ops") == (
        "Account telegram:ops is defined in the Channel ops; edit it there"
    )


def test_an_agent_is_defined_by_its_spec() -> None:
    agent = agent_of(
        resource(
            Kind.AGENT,
            {
                "displayName": "One",
                "model": "openai/m",
                "fallbackModels": ["local/m"],
                "modelRoles": {"cheapCheck": "local/s"},
                "systemPrompt": "Be brief.",
                "workspace": "/w",
                "default": True,
            },
        )
    )
    assert (agent.display_name, agent.model, agent.is_default) == ("One", "openai/m", True)
    assert agent.fallback_models == ("local/m",)
    assert agent.model_roles == {"cheapCheck": "local/s"}


def test_a_provider_names_a_secret_of_its_namespace() -> None:
    provider = provider_of(resource(Kind.MODEL_PROVIDER, {"type": "openai", "credential": SECRET}))
    assert provider.credential == "secret:bot/token"
    assert provider_of(resource(Kind.MODEL_PROVIDER, {"type": "openai"})).credential == ""


def test_a_channel_is_an_account_and_a_gate() -> None:
    spec = {
        "type": "telegram",
        "account": "ops",
        "credential": SECRET,
        "receive": {"mode": "webhook", "webhookUrl": "https://example.org"},
        "unknownPolicy": "resend",
        "gate": {"dmPolicy": "allowlist", "allowFrom": ["1"]},
    }
    account = account_of(resource(Kind.CHANNEL, spec))
    assert (account.channel, account.account_id) == ("telegram", "ops")
    assert account.settings.mode is ReceiveMode.WEBHOOK
    assert account.settings.unknown_policy is UnknownPolicy.RESEND
    assert account.settings.is_enabled
    assert account.gate is not None
    assert (account.gate.dm_policy, account.gate.allow_from) == (DmPolicy.ALLOWLIST, ("1",))
    assert account.gate.require_mention
    plain = account_of(resource(Kind.CHANNEL, {"type": "telegram", "enabled": False}))
    assert (plain.account_id, plain.gate, plain.settings.is_enabled) == ("default", None, False)


def test_a_route_is_a_binding_as_old_as_its_resource() -> None:
    match = {"channel": "telegram", "account": "*", "peer": {"kind": "direct", "id": "7"}}
    binding = binding_of(resource(Kind.ROUTE, {"agent": "main", "order": -5, "match": match}))
    assert (binding.id, binding.position) == ("one", RESOURCE_POSITION - 5)
    assert binding.created_at == MADE_AT
    assert binding.peer is not None
    assert (binding.account_id, binding.peer.id) == ("*", "7")


def test_a_task_is_its_resource_by_id_and_name() -> None:
    spec = {
        "agent": "main",
        "prompt": "Hello",
        "trigger": {"every": {"interval": "90m", "stagger": "5m"}},
        "mode": "no-model",
        "overlap": "queue",
        "missed": {"policy": "within", "within": "2h"},
        "runFor": "3m",
        "delivery": {
            "channel": "telegram",
            "peer": {"kind": "group", "id": "-5"},
            "threadId": "9",
        },
    }
    task = task_of(resource(Kind.TASK, spec))
    assert (task.id, task.name, task.session_key) == (UID, "one", "agent:main:main")
    assert (task.trigger.kind, task.trigger.expr) == (TriggerKind.EVERY, "90m")
    assert task.trigger.stagger == timedelta(minutes=5)
    assert (task.mode, task.overlap) == (ExecutionMode.NO_MODEL, Overlap.QUEUE)
    assert (task.missed, task.missed_within) == (MissedPolicy.WITHIN, timedelta(hours=2))
    assert task.run_for == timedelta(minutes=3)
    assert task.target is not None
    assert task.target.peer == Peer(PeerKind.GROUP, "-5")
    assert task.target.thread == Thread(ThreadKind.TOPIC, "9")


@pytest.mark.parametrize(
    ("session", "key"),
    [
        ("", "agent:main:main"),
        ("main", "agent:main:main"),
        ("Weekly report", "agent:main:main:chat:weekly-report"),
        ("agent:main:telegram:group:-1", "agent:main:telegram:group:-1"),
    ],
)
def test_a_session_is_named_by_its_key_or_its_name(session: str, key: str) -> None:
    spec = {"agent": "main", "prompt": "x", "session": session, "trigger": {"manual": {}}}
    assert task_of(resource(Kind.TASK, spec)).session_key == key


@pytest.mark.parametrize(
    ("spec", "kind", "expr", "timezone"),
    [
        ({}, TriggerKind.MANUAL, "", ""),
        ({"manual": {}}, TriggerKind.MANUAL, "", ""),
        (
            {"cron": {"expression": "0 9 * * *", "timezone": "Europe/Berlin"}},
            TriggerKind.CRON,
            "0 9 * * *",
            "Europe/Berlin",
        ),
        ({"at": {"time": "2026-01-31T09:00:00Z"}}, TriggerKind.AT, "2026-01-31T09:00:00Z", ""),
    ],
)
def test_a_trigger_is_one_of_four(
    spec: dict[str, Any], kind: TriggerKind, expr: str, timezone: str
) -> None:
    trigger = trigger_of(spec)
    assert (trigger.kind, trigger.expr, trigger.timezone) == (kind, expr, timezone)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"overlap": "twice"}, "spec.overlap"),
        ({"missed": {"policy": "never"}}, "spec.missed.policy"),
        ({"runFor": "soon"}, "spec.runFor"),
        ({"trigger": "hourly"}, "spec.trigger"),
        ({"delivery": {"channel": "x", "peer": {"kind": "dm", "id": "1"}}},
         "spec.delivery.peer.kind"),
    ],
)  # fmt: skip
def test_what_an_older_schema_let_through_names_its_field(
    changed: dict[str, Any], field: str
) -> None:
    spec = {"agent": "main", "prompt": "x", "trigger": {"manual": {}}, **changed}
    with pytest.raises(InvalidArgument) as refused:
        task_of(resource(Kind.TASK, spec))
    assert refused.value.metadata["field"] == field
