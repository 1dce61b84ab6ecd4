"""The definitions of the custom resources say what core and the protos say: each enum, default
and bound. Whether an apiserver takes them, and what it refuses by them, is the operator's suite.
"""

from collections.abc import Iterable
from typing import Any

import pytest

from fased.api.channels.v1 import account_pb2
from fased.api.scheduler.v1 import task_pb2
from fased.api.types.v1 import message_pb2
from fased.core import agents, gate, resource_status, task_edits, tasks
from fased.core.accounts import CHANNELS, AccountSettings, ReceiveMode
from fased.core.addresses import MAX_ADDRESS_CHARS
from fased.core.conditions import MAX_MESSAGE_CHARS, ConditionType
from fased.core.delivery import UnknownPolicy
from fased.core.durations import format_duration, parse_duration
from fased.core.gate import DmPolicy, GatePolicy, GroupPolicy
from fased.core.messages import PeerKind
from fased.core.names import DEFAULT_ACCOUNT, MAX_ID_CHARS
from fased.core.resources import GROUP, MAX_RUN_NOW_CHARS, VERSION, Kind
from fased.core.runs import DEFAULT_RUN_FOR, ExecutionMode, Outcome
from fased.core.schedule import MAX_STAGGER
from fased.core.tasks import MissedPolicy, Overlap, Task, TaskState, TriggerKind
from tests.support.crds import definitions, schema, schemas_in

# Bounds that Kubernetes itself has for what these fields hold.
OBJECT_NAME, SECRET_KEY, CONDITION_TYPE, CONDITION_REASON, CONDITION_MESSAGE = (
    253,
    253,
    316,
    1024,
    32_768,
)
# Bounds of ours that only a resource has: of lists, and of ids that a platform makes.
FALLBACK_MODELS, ROLES, CONDITIONS, WORKSPACE, SESSION, DURATION, INSTANT, LEVEL = (
    10,
    100,
    8,
    500,
    500,
    40,
    40,
    64,
)
PLATFORM_ID = gate.MAX_LISTED_ID_CHARS

DEFINITIONS = definitions()
FIELDS = {
    path: part
    for kind, definition in DEFINITIONS.items()
    for path, part in schemas_in(schema(definition), kind)
}

ENUMS: dict[str, Iterable[str]] = {
    "Channel.spec.type": CHANNELS,
    "Channel.spec.receive.mode": ReceiveMode,
    "Channel.spec.unknownPolicy": UnknownPolicy,
    "Channel.spec.gate.dmPolicy": DmPolicy,
    "Channel.spec.gate.groupPolicy": GroupPolicy,
    "ModelProvider.spec.type": ("openai",),
    "Route.spec.match.peer.kind": PeerKind,
    "Task.spec.mode": ExecutionMode,
    "Task.spec.overlap": Overlap,
    "Task.spec.missed.policy": MissedPolicy,
    "Task.spec.delivery.peer.kind": PeerKind,
    "Task.status.state": TaskState,
    "Task.status.lastResult": Outcome,
    **{f"{kind}.status.conditions[].status": ("True", "False", "Unknown") for kind in Kind},
}

DEFAULTS: dict[str, object] = {
    "Agent.spec.default": agents.AgentDefinition().is_default,
    "Channel.spec.account": DEFAULT_ACCOUNT,
    "Channel.spec.enabled": AccountSettings().is_enabled,
    "Channel.spec.receive": {"mode": AccountSettings().mode},
    "Channel.spec.receive.mode": AccountSettings().mode,
    "Channel.spec.unknownPolicy": AccountSettings().unknown_policy,
    "Channel.spec.gate": {"dmPolicy": GatePolicy().dm_policy},
    "Channel.spec.gate.dmPolicy": GatePolicy().dm_policy,
    "Channel.spec.gate.groupPolicy": GatePolicy().group_policy,
    "Channel.spec.gate.requireMention": GatePolicy().require_mention,
    "Channel.spec.gate.allowBots": GatePolicy().allow_bots,
    "ModelProvider.spec.type": "openai",
    "Route.spec.order": 0,
    "Route.spec.match.account": DEFAULT_ACCOUNT,
    "Task.spec.session": "main",
    "Task.spec.mode": Task.__dataclass_fields__["mode"].default,
    "Task.spec.overlap": Task.__dataclass_fields__["overlap"].default,
    "Task.spec.missed": {"policy": Task.__dataclass_fields__["missed"].default},
    "Task.spec.missed.policy": Task.__dataclass_fields__["missed"].default,
    "Task.spec.delivery.account": DEFAULT_ACCOUNT,
    "Task.spec.runFor": format_duration(DEFAULT_RUN_FOR),
}

# What bounds a text, a list or a number from above; by the end of its path, the longest first.
UPPER_BOUNDS: dict[str, int] = {
    "Agent.metadata.name": MAX_ID_CHARS,
    "ModelProvider.metadata.name": MAX_ID_CHARS,
    "Task.metadata.name": tasks.MAX_NAME_CHARS,
    "Channel.metadata.name": OBJECT_NAME,
    "Route.metadata.name": OBJECT_NAME,
    ".status.conditions": CONDITIONS,
    ".conditions[].type": CONDITION_TYPE,
    ".conditions[].reason": CONDITION_REASON,
    ".conditions[].message": CONDITION_MESSAGE,
    ".secretKeyRef.name": OBJECT_NAME,
    ".secretKeyRef.key": SECRET_KEY,
    "Agent.spec.displayName": agents.MAX_NAME_CHARS,
    "Agent.spec.systemPrompt": agents.MAX_SYSTEM_PROMPT_CHARS,
    "Agent.spec.workspace": WORKSPACE,
    "Agent.spec.fallbackModels": FALLBACK_MODELS,
    "Agent.spec.fallbackModels[]": task_edits.MAX_MODEL_CHARS,
    **{f".modelRoles.{role}": task_edits.MAX_MODEL_CHARS for role in agents.MODEL_ROLES},
    ".model": task_edits.MAX_MODEL_CHARS,
    "ModelProvider.spec.defaultModel": task_edits.MAX_MODEL_CHARS,
    "ModelProvider.spec.baseUrl": MAX_ADDRESS_CHARS,
    "Channel.spec.apiBase": MAX_ADDRESS_CHARS,
    "Channel.spec.receive.webhookUrl": MAX_ADDRESS_CHARS,
    "Channel.spec.account": MAX_ID_CHARS,
    "Channel.status.lastError": 1024,
    **{f"Channel.status.identity.{key}": PLATFORM_ID for key in ("id", "username", "displayName")},
    **{f".gate.{key}": gate.MAX_LISTED for key in ("allowFrom", "groups", "groupAllowFrom")},
    **{f".gate.{key}[]": PLATFORM_ID for key in ("allowFrom", "groups", "groupAllowFrom")},
    ".spec.agent": MAX_ID_CHARS,
    "Route.spec.order": 1000,
    "Route.spec.match.channel": MAX_ID_CHARS,
    "Route.spec.match.account": MAX_ID_CHARS,
    "Route.spec.match.roleIds": ROLES,
    **{f"Route.spec.match.{key}": PLATFORM_ID for key in ("guildId", "roleIds[]", "teamId")},
    ".peer.id": PLATFORM_ID,
    "Route.status.match": resource_status.MAX_SHORT_CHARS,
    "Route.status.level": LEVEL,
    "Route.status.shadowedBy": resource_status.MAX_SHADOWS,
    "Route.status.shadowedBy[]": OBJECT_NAME,
    "Task.spec.session": SESSION,
    "Task.spec.prompt": tasks.MAX_PROMPT_CHARS,
    "Task.spec.trigger.cron.expression": task_edits.MAX_TRIGGER_CHARS,
    ".timezone": task_edits.MAX_TRIGGER_CHARS,
    ".stagger": DURATION,
    "Task.spec.trigger.every.interval": DURATION,
    "Task.spec.trigger.at.time": INSTANT,
    "Task.spec.missed.limit": task_edits.MAX_MISSED_LIMIT,
    "Task.spec.missed.within": DURATION,
    "Task.spec.runFor": DURATION,
    "Task.spec.delivery.channel": MAX_ID_CHARS,
    "Task.spec.delivery.account": MAX_ID_CHARS,
    "Task.spec.delivery.threadId": PLATFORM_ID,
    "Task.status.trigger": resource_status.MAX_SHORT_CHARS,
    "Task.status.runNow": MAX_RUN_NOW_CHARS,
}
# Grow by themselves, and are ours alone to write.
UNBOUNDED = (".observedGeneration", ".revision", ".sessions", ".tasks", ".lastRunId")

COLUMNS = {
    "Agent": "Model Ready Reason Sessions Tasks Age",
    "Task": "Agent Trigger Mode Next Last Result Ready",
    "Channel": "Type Account Connected Ready Reason",
    "Route": "Channel Match Agent Level Accepted Shadowed-By",
    "ModelProvider": "Type Ready Reason Age",
}


def test_there_is_a_definition_for_each_kind() -> None:
    assert set(DEFINITIONS) == set(Kind)
    for kind in Kind:
        spec = DEFINITIONS[kind]["spec"]
        assert (spec["group"], spec["names"]["plural"]) == (GROUP, kind.plural)
        assert spec["scope"] == "Namespaced"
        assert [version["name"] for version in spec["versions"]] == [VERSION]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_a_definition_is_kept_listed_with_its_category_and_has_a_status(kind: str) -> None:
    definition = DEFINITIONS[kind]
    (version,) = definition["spec"]["versions"]
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert definition["spec"]["names"]["categories"] == ["fased"]
    assert definition["spec"]["names"]["shortNames"]
    assert version["subresources"] == {"status": {}}


def test_no_two_kinds_share_a_short_name() -> None:
    short = [name for each in DEFINITIONS.values() for name in each["spec"]["names"]["shortNames"]]
    assert len(short) == len(set(short))


def test_every_field_is_described() -> None:
    # An apiserver takes no description of `metadata` itself.
    assert not [
        path
        for path, part in FIELDS.items()
        if not part.get("description") and not path.endswith(".metadata")
    ]


def test_every_enum_is_the_one_of_core() -> None:
    written = {path: list(part["enum"]) for path, part in FIELDS.items() if "enum" in part}
    assert written == {path: [str(word) for word in words] for path, words in ENUMS.items()}


@pytest.mark.parametrize(
    ("path", "proto", "prefix"),
    [
        ("Task.spec.overlap", task_pb2.Overlap, "OVERLAP_"),
        ("Task.spec.missed.policy", task_pb2.MissedPolicy, "MISSED_POLICY_"),
        ("Task.status.state", task_pb2.TaskState, "TASK_STATE_"),
        ("Task.spec.delivery.peer.kind", message_pb2.PeerKind, "PEER_KIND_"),
        ("Route.spec.match.peer.kind", message_pb2.PeerKind, "PEER_KIND_"),
        ("Channel.spec.receive.mode", account_pb2.ReceiveMode, "RECEIVE_MODE_"),
        ("Channel.spec.unknownPolicy", account_pb2.UnknownPolicy, "UNKNOWN_POLICY_"),
    ],
)
def test_every_enum_is_the_one_of_the_proto(path: str, proto: Any, prefix: str) -> None:
    words = [name.removeprefix(prefix).lower() for name, number in proto.items() if number]
    assert FIELDS[path]["enum"] == words


def test_every_default_is_the_one_of_core() -> None:
    written = {path: part["default"] for path, part in FIELDS.items() if "default" in part}
    assert written == DEFAULTS


def test_every_text_list_and_number_has_the_bound_of_core() -> None:
    unbounded = ("apiVersion", "kind", "metadata", *UNBOUNDED)
    wrong = {}
    for path, part in FIELDS.items():
        if path.endswith(unbounded) and part.get("minimum") in (None, 0):
            continue
        bound = _upper_bound(part)
        if bound != _known_bound(path):
            wrong[path] = bound
    assert not wrong


def test_every_known_bound_is_of_a_field() -> None:
    assert not [end for end in UPPER_BOUNDS if not any(path.endswith(end) for path in FIELDS)]


def test_the_longest_of_our_messages_fits_a_condition() -> None:
    assert MAX_MESSAGE_CHARS <= CONDITION_MESSAGE


def test_the_roles_of_models_are_those_of_core() -> None:
    assert tuple(FIELDS["Agent.spec.modelRoles"]["properties"]) == agents.MODEL_ROLES


def test_a_trigger_is_one_of_those_of_core() -> None:
    trigger = FIELDS["Task.spec.trigger"]
    assert set(trigger["properties"]) == set(TriggerKind)
    (rule,) = trigger["x-kubernetes-validations"]
    assert all(f"has(self.{kind})" in rule["rule"] for kind in TriggerKind)


def test_a_duration_as_long_as_any_we_keep_fits_its_field() -> None:
    longest = parse_duration("99w6d23h59m59s999ms")
    assert len(format_duration(longest)) <= DURATION
    assert longest > MAX_STAGGER


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_conditions_are_a_list_by_type_and_name_those_that_are_written(kind: str) -> None:
    conditions = FIELDS[f"{kind}.status.conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert str(ConditionType.READY) in conditions["description"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_columns_answer_the_first_question_and_wide_adds_the_message(kind: str) -> None:
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == COLUMNS[kind].split()
    assert "Message" in [column["name"] for column in columns if column.get("priority") == 1]
    for column in columns:
        assert _is_of(column["jsonPath"], kind), column


def _upper_bound(part: Any) -> int | None:
    if part["type"] == "string" and not {"enum", "format"} & set(part):
        return int(part.get("maxLength", 0))
    if part["type"] == "array":
        return int(part.get("maxItems", 0))
    if part["type"] in ("integer", "number"):
        return int(part.get("maximum", 0))
    return None


def _known_bound(path: str) -> int | None:
    part = FIELDS[path]
    is_closed = {"enum", "format"} & set(part) and "maximum" not in part
    if is_closed or part["type"] in ("object", "boolean"):
        return None
    ends = [end for end in UPPER_BOUNDS if path.endswith(end)]
    return UPPER_BOUNDS[max(ends, key=len)] if ends else -1


def _is_of(json_path: str, kind: str) -> bool:
    plain, _, _ = json_path.partition("[")
    return plain == ".metadata.creationTimestamp" or kind + plain in FIELDS
