"""What due slots come to: fired, skipped, missed, held back until a run ends, or the task's end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import firing, schedule
from fased.core.firing import Disable, FirePlan, LiveRun
from fased.core.names import AgentId, Namespace, RunId, SessionKey, TaskId
from fased.core.runs import ExecutionMode, LiveState, Outcome, RunClass, Trigger
from fased.core.tasks import MissedPolicy, Overlap, Task, TriggerKind, TriggerSpec

MADE = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASK = Task(
    namespace=Namespace("default"),
    id=TaskId("11111111-1111-4111-8111-111111111111"),
    name="Tick",
    agent_id=AgentId("main"),
    session_key=SessionKey("agent:main:main"),
    prompt="tick",
    trigger=TriggerSpec(TriggerKind.EVERY, "1h"),
    mode=ExecutionMode.NO_MODEL,
    created_at=MADE,
)


def live(state: LiveState = LiveState.LEASED, *, cancel: bool = False) -> list[LiveRun]:
    return [LiveRun(RunId(7), state, cancel)]


def planned(
    task: Task = TASK,
    *,
    due_at: datetime = MADE + HOUR,
    last_slot: datetime | None = None,
    runs: list[LiveRun] | None = None,
    late: timedelta = timedelta(0),
) -> FirePlan:
    plan = firing.plan_fire(task, due_at, last_slot, runs or [], due_at + late)
    assert isinstance(plan, FirePlan)
    return plan


def test_a_slot_on_time_starts_one_run_and_waits_for_the_next() -> None:
    plan = planned(late=timedelta(seconds=1))
    assert plan.starts == (MADE + HOUR,)
    assert not plan.gaps
    assert (plan.last_slot, plan.next_at) == (MADE + HOUR, MADE + 2 * HOUR)


def test_missed_fires_collapse_into_one_and_leave_one_row() -> None:
    plan = planned(late=5 * HOUR + timedelta(minutes=30), last_slot=MADE)
    assert plan.starts == (MADE + 6 * HOUR,)
    [gap] = plan.gaps
    assert (gap.outcome, gap.first_slot, gap.last_slot, gap.count, gap.after) == (
        Outcome.MISSED, MADE + HOUR, MADE + 5 * HOUR, 5, MADE,
    )  # fmt: skip


def test_missed_slots_that_policy_skips_run_nothing() -> None:
    task = replace(TASK, missed=MissedPolicy.SKIP)
    plan = planned(task, late=5 * HOUR + timedelta(minutes=30))
    assert plan.starts == ()
    assert plan.gaps[0].count == 6
    assert plan.next_at == MADE + 7 * HOUR


@pytest.mark.parametrize("state", list(LiveState))
def test_a_slot_beside_any_live_run_is_skipped(state: LiveState) -> None:
    plan = planned(runs=live(state), last_slot=MADE)
    assert plan.starts == ()
    [gap] = plan.gaps
    assert (gap.outcome, gap.first_slot, gap.count, gap.after) == (
        Outcome.SKIPPED, MADE + HOUR, 1, MADE,
    )  # fmt: skip
    assert plan.last_slot == MADE + HOUR


def test_at_most_one_run_waits_behind_a_started_one() -> None:
    task = replace(TASK, overlap=Overlap.QUEUE)
    assert planned(task, runs=live(LiveState.PARKED)).starts == (MADE + HOUR,)
    waiting = [*live(), LiveRun(RunId(8), LiveState.WAITING)]
    assert planned(task, runs=waiting).starts == ()
    assert planned(task, runs=live(LiveState.DELAYED)).gaps[0].outcome is Outcome.SKIPPED


def test_a_run_to_replace_is_cancelled_before_anything_is_dealt_with() -> None:
    task = replace(TASK, overlap=Overlap.REPLACE)
    plan = planned(task, runs=live(), last_slot=MADE)
    assert plan == FirePlan(cancel=(RunId(7),), last_slot=MADE, next_at=MADE + HOUR)
    assert planned(task, runs=live(cancel=True)).starts == (MADE + HOUR,)


def test_a_run_is_not_cancelled_for_slots_that_are_missed() -> None:
    task = replace(TASK, overlap=Overlap.REPLACE, missed=MissedPolicy.SKIP)
    plan = planned(task, runs=live(), late=timedelta(minutes=30))
    assert plan.cancel == ()
    assert [gap.outcome for gap in plan.gaps] == [Outcome.MISSED]


def test_a_gap_of_skipped_slots_follows_the_missed_ones() -> None:
    plan = planned(late=2 * HOUR, runs=live(), last_slot=MADE)
    missed, skipped = plan.gaps
    assert (missed.outcome, missed.after, missed.last_slot) == (
        Outcome.MISSED, MADE, MADE + 2 * HOUR,
    )  # fmt: skip
    assert (skipped.outcome, skipped.after) == (Outcome.SKIPPED, MADE + 2 * HOUR)
    assert skipped.first_slot == skipped.last_slot == MADE + 3 * HOUR


def test_a_slot_that_was_dealt_with_never_fires_again_whatever_the_clock_says() -> None:
    plan = planned(due_at=MADE + HOUR, last_slot=MADE + 3 * HOUR)
    assert plan == FirePlan(last_slot=MADE + 3 * HOUR, next_at=MADE + 4 * HOUR)


def test_an_instant_is_the_last_slot_of_its_task() -> None:
    task = replace(TASK, trigger=TriggerSpec(TriggerKind.AT, "2026-01-01T01:00:00Z"))
    plan = planned(task)
    assert (plan.starts, plan.next_at) == ((MADE + HOUR,), None)


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        (TriggerSpec(TriggerKind.CRON, "never"), "INVALID_CRON"),
        (TriggerSpec(TriggerKind.CRON, "0 9 * * *", "Mars/Dust"), "INVALID_ZONE"),
        (TriggerSpec(TriggerKind.EVERY, "soon"), "INVALID_DURATION"),
        (TriggerSpec(TriggerKind.MANUAL), "NO_SCHEDULE"),
    ],
)
def test_a_task_whose_next_slot_cannot_be_computed_is_disabled_with_its_reason(
    trigger: TriggerSpec, reason: str
) -> None:
    plan = firing.plan_fire(replace(TASK, trigger=trigger), MADE, None, [], MADE)
    assert isinstance(plan, Disable)
    assert plan.reason == reason


def test_a_run_of_a_task_waits_in_the_lane_of_its_mode() -> None:
    run = firing.run_of(TASK, RunClass.SCHEDULED, Trigger.SCHEDULE, slot=MADE)
    assert run.lane == f"task:{TASK.id}"
    assert (run.body.prompt, run.body.slot, run.body.session_id) == ("tick", MADE, "")
    turn = replace(TASK, mode=ExecutionMode.AGENT_TURN)
    assert firing.run_of(turn, RunClass.MANUAL, Trigger.MANUAL).lane == "session:agent:main:main"


def test_the_notice_of_a_disabled_task_says_how_to_resume_it() -> None:
    assert firing.disabled_sentence(TASK, "it broke.") == (
        "Task **Tick** was disabled: it broke. Mend it, then /task resume 11111111."
    )


@given(
    interval_s=st.integers(1, 4000),
    steps=st.lists(st.integers(0, 20_000), min_size=1, max_size=12),
    overlap=st.sampled_from(Overlap),
    missed=st.sampled_from(MissedPolicy),
    lives=st.lists(st.lists(st.sampled_from(LiveState), max_size=2), min_size=12, max_size=12),
)
def test_every_slot_is_dealt_with_exactly_once_and_in_order(
    interval_s: int,
    steps: list[int],
    overlap: Overlap,
    missed: MissedPolicy,
    lives: list[list[LiveState]],
) -> None:
    task = replace(
        TASK,
        trigger=TriggerSpec(TriggerKind.EVERY, f"{interval_s}s"),
        overlap=overlap,
        missed=missed,
        missed_limit=3,
        missed_within=HOUR,
    )
    slots = schedule.Every(timedelta(seconds=interval_s), MADE)
    now, last_slot = MADE, None
    due_at = schedule.first_slot(slots, now)
    for step, states in zip(steps, lives, strict=False):
        now += timedelta(seconds=step)
        assert due_at is not None
        if due_at > now:
            continue
        runs = [LiveRun(RunId(n), state) for n, state in enumerate(states)]
        plan = firing.plan_fire(task, due_at, last_slot, runs, now)
        assert isinstance(plan, FirePlan)
        if plan.cancel:
            flagged = [LiveRun(run.run_id, run.state, True) for run in runs]
            plan = firing.plan_fire(task, due_at, last_slot, flagged, now)
            assert isinstance(plan, FirePlan)
        before = last_slot or MADE
        due = schedule.count_fires(slots, before, now)
        assert due == len(plan.starts) + sum(gap.count for gap in plan.gaps)
        assert list(plan.starts) == sorted(set(plan.starts))
        assert all(slot > before for slot in plan.starts)
        assert plan.last_slot is not None
        assert plan.next_at is not None
        assert before < plan.last_slot <= now < plan.next_at
        last_slot, due_at = plan.last_slot, plan.next_at
