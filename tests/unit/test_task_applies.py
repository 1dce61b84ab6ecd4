"""What an owner's definition makes of a task."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fased.core import task_applies, task_edits
from fased.core.errors import Aborted, FailedPrecondition, InvalidArgument
from fased.core.findings import Finding
from fased.core.names import AgentId, Namespace, SessionKey, TaskId
from fased.core.tasks import Task, TaskState, TriggerKind, TriggerSpec

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWNER = "resource:one"
NO_CREDENTIAL = Finding("NO_MODEL_CREDENTIAL", "No model is set up.", "OPENAI_API_KEY")


def draft(kind: TriggerKind = TriggerKind.EVERY, expr: str = "1h") -> Task:
    return Task(
        Namespace("default"),
        TaskId("6e0dd3d2-6c0a-4d0e-9d50-0ab6a0a1b1c1"),
        "Tick",
        AgentId("main"),
        SessionKey("agent:main:main"),
        "tick",
        TriggerSpec(kind, expr),
        managed_by=OWNER,
    )


def apply(
    known: Task | None, wanted: Task, findings: Sequence[Finding] | None = (), at: datetime = NOW
) -> Task:
    return task_applies.applied(known, task_applies.defined(known, wanted, at), findings, at)


def test_a_new_task_is_due_or_blocked_with_the_finding() -> None:
    assert apply(None, draft()).next_at == NOW + timedelta(hours=1)
    blocked = apply(None, draft(), [NO_CREDENTIAL])
    assert (blocked.state, blocked.reason, blocked.next_at) == (
        TaskState.BLOCKED,
        "NO_MODEL_CREDENTIAL",
        None,
    )


def test_a_missing_agent_blocks_a_defined_task_instead_of_refusing_it() -> None:
    missing = Finding("AGENT_MISSING", "There is no Agent main.", "fased agents add main")
    assert apply(None, draft(), [missing]).reason == "AGENT_MISSING"


def test_an_active_task_that_is_defined_as_before_needs_no_look_and_stays() -> None:
    known = apply(None, draft())
    later = NOW + timedelta(minutes=30)
    again = task_applies.defined(known, replace(draft(), zone_data="2099z"), later)
    assert not task_applies.needs_check(known, again)
    assert task_applies.applied(known, again, None, later) == known


def test_a_blocked_task_is_looked_at_again_and_heals() -> None:
    known = apply(None, draft(), [NO_CREDENTIAL])
    assert apply(known, draft(), [NO_CREDENTIAL]) == known
    assert apply(known, draft()).state is TaskState.ACTIVE


def test_an_edit_takes_the_slot_after_the_last_that_fired() -> None:
    known = replace(apply(None, draft()), last_slot=NOW + timedelta(hours=5))
    edited = apply(known, draft(expr="2h"))
    assert edited.next_at == NOW + timedelta(hours=6)
    assert edited.last_slot == known.last_slot


def test_an_edit_of_the_words_alone_keeps_a_slot_that_is_overdue() -> None:
    known = apply(None, draft())
    edited = apply(known, replace(draft(), prompt="tock"), at=NOW + timedelta(hours=3))
    assert (edited.prompt, edited.next_at) == ("tock", NOW + timedelta(hours=1))


def test_a_paused_task_stays_paused_through_an_edit() -> None:
    known = replace(apply(None, draft()), state=TaskState.PAUSED, next_at=None)
    edited = apply(known, replace(draft(), prompt="tock"))
    assert (edited.state, edited.next_at, edited.prompt) == (TaskState.PAUSED, None, "tock")


def test_a_disabled_task_stays_so_until_its_definition_changes() -> None:
    known = replace(apply(None, draft()), state=TaskState.DISABLED, next_at=None)
    assert apply(known, draft(), None) == known
    assert apply(known, replace(draft(), prompt="tock")).state is TaskState.ACTIVE


def test_a_task_that_is_done_is_applied_again_after_its_time_without_an_error() -> None:
    at = draft(TriggerKind.AT, "2026-03-01T13:00:00Z")
    slot = NOW + timedelta(hours=1)
    done = replace(apply(None, at), state=TaskState.DONE, next_at=None, last_slot=slot)
    later = NOW + timedelta(days=1)
    assert apply(done, at, None, later) == done
    assert apply(done, replace(at, prompt="tock"), at=later).state is TaskState.DONE
    moved = draft(TriggerKind.AT, "2026-03-05T13:00:00Z")
    assert apply(done, moved, at=later).state is TaskState.ACTIVE


def test_a_time_that_has_passed_is_refused_where_it_is_new() -> None:
    past = draft(TriggerKind.AT, "2026-02-01T00:00:00Z")
    for known in (None, apply(None, draft())):
        with pytest.raises(InvalidArgument) as caught:
            apply(known, past)
        assert caught.value.reason == "AT_IN_THE_PAST"


def test_a_task_of_another_owner_is_refused_and_one_of_nobody_taken_over() -> None:
    known = apply(None, draft())
    with pytest.raises(FailedPrecondition) as caught:
        apply(known, replace(draft(), managed_by="resource:two"))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    taken = apply(replace(known, managed_by=""), draft(), None)
    assert taken == known
    assert task_edits.is_same_definition(taken, known)


def test_a_task_that_changed_between_look_and_store_is_not_stored_unlooked_at() -> None:
    blocked = apply(None, draft(), [NO_CREDENTIAL])
    with pytest.raises(Aborted):
        apply(blocked, draft(), None)
