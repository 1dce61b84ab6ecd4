"""What may be asked of a task, what is refused, and the state that is left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import task_edits
from fased.core.errors import FailedPrecondition, InvalidArgument, NotFound
from fased.core.findings import Finding
from fased.core.messages import Peer, PeerKind, Target
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey, TaskId
from fased.core.tasks import Task, TaskState, TriggerKind, TriggerSpec

NOW = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRAFT = Task(
    namespace=Namespace("default"),
    id=TaskId("11111111-1111-4111-8111-111111111111"),
    name="  Daily\treport ",
    agent_id=AgentId("Main"),
    session_key=SessionKey("agent:MAIN:Telegram:group:-1"),
    prompt="report",
    trigger=TriggerSpec(TriggerKind.EVERY, "1h"),
)
BLOCKED = Finding("NO_MODEL_CREDENTIAL", "No model is set up.", "OPENAI_API_KEY")


def test_a_new_task_is_canonical_and_made_now() -> None:
    task = task_edits.checked_new(DRAFT, NOW)
    assert (task.name, task.agent_id) == ("Daily report", "main")
    assert task.session_key == "agent:main:telegram:group:-1"
    assert task.created_at == task.updated_at == NOW


def test_the_session_names_the_agent_where_the_task_does_not() -> None:
    task = task_edits.checked_new(replace(DRAFT, agent_id=AgentId("")), NOW)
    assert task.agent_id == "main"


def test_a_task_without_a_session_has_one_by_its_id() -> None:
    task = task_edits.checked_new(replace(DRAFT, session_key=SessionKey("")), NOW)
    assert task.session_key == f"agent:main:task:{DRAFT.id}"


@pytest.mark.parametrize(
    ("field", "task"),
    [
        ("run_for", replace(DRAFT, run_for=timedelta(0))),
        ("run_for", replace(DRAFT, run_for=timedelta(days=2))),
        ("missed_limit", replace(DRAFT, missed_limit=-1)),
        ("missed_limit", replace(DRAFT, missed_limit=101)),
        ("missed_within", replace(DRAFT, missed_within=-HOUR)),
        ("model", replace(DRAFT, model="m" * 201)),
        ("trigger.expr", replace(DRAFT, trigger=TriggerSpec(TriggerKind.CRON, "*" * 501))),
        (
            "target",
            replace(
                DRAFT,
                target=Target(ChannelId("x"), AccountId("y"), Peer(PeerKind.DIRECT, "")),
            ),
        ),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_field(field: str, task: Task) -> None:
    with pytest.raises(InvalidArgument) as caught:
        task_edits.checked_new(task, NOW)
    assert caught.value.metadata["field"] == field


@given(
    field=st.sampled_from(["name", "prompt", "agent_id", "session_key", "model"]),
    before=st.text(max_size=5),
)
def test_a_zero_character_is_refused_wherever_it_stands(field: str, before: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        task_edits.checked_new(replace(DRAFT, **{field: f"{before}\0"}), NOW)  # type: ignore[arg-type]
    assert caught.value.reason == "ZERO_CHARACTER"


def test_a_task_that_nothing_stands_in_the_way_of_waits_for_its_next_slot() -> None:
    task = task_edits.after_preflight(task_edits.checked_new(DRAFT, NOW), [], NOW)
    assert (task.state, task.next_at) == (TaskState.ACTIVE, NOW + HOUR)


def test_what_stands_in_the_way_blocks_the_task_with_what_to_set_up() -> None:
    made = task_edits.checked_new(DRAFT, NOW)
    task = task_edits.after_preflight(made, [BLOCKED, Finding("X", "x")], NOW)
    assert (task.state, task.reason, task.setup_target, task.next_at) == (
        TaskState.BLOCKED, "NO_MODEL_CREDENTIAL", "OPENAI_API_KEY", None,
    )  # fmt: skip
    later = NOW + timedelta(minutes=90)
    again = task_edits.after_preflight(task, [], later)
    assert (again.state, again.reason, again.next_at) == (TaskState.ACTIVE, "", NOW + 2 * HOUR)


def test_a_missing_agent_is_not_a_state_but_an_error() -> None:
    made = task_edits.checked_new(DRAFT, NOW)
    with pytest.raises(NotFound):
        task_edits.after_preflight(made, [Finding("AGENT_MISSING", "There is no Agent.")], NOW)


def test_a_resumed_task_never_waits_for_a_slot_that_was_dealt_with() -> None:
    made = replace(task_edits.checked_new(DRAFT, NOW), last_slot=NOW + 5 * HOUR)
    assert task_edits.after_preflight(made, [], NOW).next_at == NOW + 6 * HOUR


def test_an_instant_that_passed_while_its_task_was_paused_is_still_due() -> None:
    at = TriggerSpec(TriggerKind.AT, "2026-03-02T01:00:00Z")
    made = task_edits.checked_new(replace(DRAFT, trigger=at), NOW)
    assert task_edits.after_preflight(made, [], NOW + 9 * HOUR).next_at == NOW + HOUR
    fired = replace(made, last_slot=NOW + HOUR)
    with pytest.raises(FailedPrecondition) as caught:
        task_edits.after_preflight(fired, [], NOW + 9 * HOUR)
    assert caught.value.reason == "TASK_DONE"


def test_only_a_blocked_task_is_not_run_by_hand() -> None:
    for state in TaskState:
        task = replace(DRAFT, state=state, setup_target="OPENAI_API_KEY")
        if state is TaskState.BLOCKED:
            with pytest.raises(FailedPrecondition) as caught:
                task_edits.check_runnable(task)
            assert caught.value.metadata["setup_target"] == "OPENAI_API_KEY"
        else:
            task_edits.check_runnable(task)
