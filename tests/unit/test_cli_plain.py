"""`-o json` is stable: the names and shapes that scripts read."""

from datetime import UTC, datetime, timedelta

from fased.api.policy.v1 import agent_pb2
from fased.api.scheduler.v1 import run_pb2, task_pb2
from fased.api.types.v1 import message_pb2
from fased.wire.plain import enum_word, plain
from fased.wire.times import to_duration, to_timestamp


def test_every_field_is_there_under_its_camel_case_name_and_an_unset_message_is_null() -> None:
    value = plain(agent_pb2.Agent(name="namespaces/default/agents/main", model="a/b"))
    assert value["name"] == "namespaces/default/agents/main"
    assert value["isDefault"] is False
    assert value["fallbackModels"] == []
    assert value["modelRoles"] == {}
    assert value["createTime"] is None
    assert set(value) == {field.json_name for field in agent_pb2.Agent.DESCRIPTOR.fields}


def test_times_and_durations_are_texts_and_large_numbers_stay_numbers() -> None:
    run = run_pb2.Run(
        run_id=2**62, create_time=to_timestamp(datetime(2026, 1, 31, 9, 0, tzinfo=UTC))
    )
    task = task_pb2.Task(run_for=to_duration(timedelta(minutes=10)))
    assert plain(run)["runId"] == 2**62
    assert plain(run)["createTime"] == "2026-01-31T09:00:00Z"
    assert plain(task)["runFor"] == "600s"


def test_enum_values_are_words_without_their_prefix_and_unspecified_is_empty() -> None:
    task = task_pb2.Task(state=task_pb2.TASK_STATE_ACTIVE)
    assert plain(task)["state"] == "active"
    assert plain(task)["overlap"] == ""
    assert enum_word(message_pb2.PeerKind.DESCRIPTOR, 99) == ""


def test_maps_and_nested_messages_are_plain_too() -> None:
    run = run_pb2.Run(body=run_pb2.RunBody(trace={"b": "2", "a": "1"}))
    run.checkpoints.add(step="act", value_json="{}")
    assert plain(run)["body"]["trace"] == {"a": "1", "b": "2"}
    assert plain(run)["checkpoints"][0]["step"] == "act"
