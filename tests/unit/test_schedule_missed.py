"""What becomes of slots that passed while nobody fired them: none is fired twice, none is lost."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import missed, schedule
from fased.core.missed import CatchUp, MissedRange
from fased.core.schedule import At, Cron, Every, Schedule
from fased.core.tasks import MissedPolicy

START = datetime(2026, 6, 1, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DAILY = Cron("0 7 * * *")
HOURLY = Every(HOUR, START)

planned_schedules: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(
        Every,
        st.integers(1, 7200).map(lambda seconds: timedelta(seconds=seconds)),
        st.just(START),
        st.sampled_from([timedelta(0), timedelta(minutes=3)]),
    ),
    st.builds(
        Cron,
        st.sampled_from(["* * * * *", "*/30 2 * * *", "0 * * * *", "0 9 * * 1"]),
        st.just("Europe/Berlin"),
    ),
    st.just(At(START)),
)


@given(
    planned_schedules,
    st.sampled_from(MissedPolicy),
    st.integers(0, 200 * 86_400),
    st.integers(0, 150),
    st.integers(0, 20_000),
)
def test_every_slot_due_is_fired_or_missed_and_never_both(
    planned: Schedule, policy: MissedPolicy, down_s: int, limit: int, within_s: int
) -> None:
    due_at = schedule.next_fire(planned, START - timedelta(seconds=1), task_id="7f3c")
    assert due_at is not None
    now = due_at + timedelta(seconds=down_s)
    outcome = missed.catch_up(
        planned,
        due_at,
        now,
        policy,
        limit=limit,
        within=timedelta(seconds=within_s),
        task_id="7f3c",
    )
    due_count = 1 + schedule.count_fires(planned, due_at, now, task_id="7f3c")
    assert len(outcome.fires) + (outcome.missed.count if outcome.missed else 0) == due_count
    assert len(outcome.fires) <= missed.MAX_FIRES
    expected = outcome.missed.last_slot if outcome.missed else None
    if outcome.missed:
        assert outcome.missed.first_slot == due_at
    elif outcome.fires:
        assert outcome.fires[0] == due_at
    for slot in outcome.fires:
        if expected is not None:
            assert slot == schedule.next_fire(planned, expected, task_id="7f3c")
        expected = slot
    assert outcome.last_slot == expected
    assert outcome.next_slot == schedule.next_fire(planned, now, task_id="7f3c")


@pytest.mark.parametrize("policy", list(MissedPolicy))
def test_a_slot_on_time_fires_under_every_policy(policy: MissedPolicy) -> None:
    outcome = missed.catch_up(DAILY, START, START + timedelta(seconds=1), policy)
    assert outcome == CatchUp((START,), None, START, START + DAY)


@pytest.mark.parametrize("policy", list(MissedPolicy))
def test_a_slot_that_is_not_due_is_waited_for(policy: MissedPolicy) -> None:
    outcome = missed.catch_up(DAILY, START, START - timedelta(microseconds=1), policy)
    assert outcome == CatchUp((), None, None, START)


def test_skip_gives_up_what_is_late() -> None:
    outcome = missed.catch_up(DAILY, START, START + 2 * DAY + HOUR, MissedPolicy.SKIP)
    assert outcome.fires == ()
    assert outcome.missed == MissedRange(START, START + 2 * DAY, 3)
    assert outcome.last_slot == START + 2 * DAY
    assert outcome.next_slot == START + 3 * DAY


def test_skip_still_fires_the_slot_that_is_on_time() -> None:
    outcome = missed.catch_up(HOURLY, START, START + 5 * HOUR, MissedPolicy.SKIP)
    assert outcome.fires == (START + 5 * HOUR,)
    assert outcome.missed == MissedRange(START, START + 4 * HOUR, 5)


def test_once_collapses_missed_slots_into_the_newest() -> None:
    outcome = missed.catch_up(DAILY, START, START + 2 * DAY + HOUR, MissedPolicy.ONCE)
    assert outcome.fires == (START + 2 * DAY,)
    assert outcome.missed == MissedRange(START, START + DAY, 2)


def test_once_is_the_default_and_leaves_nothing_missed_of_a_single_slot() -> None:
    outcome = missed.catch_up(At(START), START, START + 900 * DAY)
    assert outcome == CatchUp((START,), None, START, None)


def test_all_fires_the_newest_up_to_its_limit_in_order() -> None:
    outcome = missed.catch_up(HOURLY, START, START + 5 * HOUR, MissedPolicy.ALL, limit=3)
    assert outcome.fires == (START + 3 * HOUR, START + 4 * HOUR, START + 5 * HOUR)
    assert outcome.missed == MissedRange(START, START + 2 * HOUR, 3)


def test_within_fires_what_is_no_older_than_its_window() -> None:
    now = START + 5 * HOUR + timedelta(minutes=10)
    outcome = missed.catch_up(HOURLY, START, now, MissedPolicy.WITHIN, within=2 * HOUR)
    assert outcome.fires == (START + 4 * HOUR, START + 5 * HOUR)
    assert outcome.missed == MissedRange(START, START + 3 * HOUR, 4)


@pytest.mark.parametrize(
    "planned", [Every(timedelta(seconds=1), START), Cron("* * * * * *", "Europe/Berlin")]
)
def test_ten_years_of_seconds_leave_one_range_with_the_exact_count(planned: Schedule) -> None:
    now = START + 3653 * DAY
    outcome = missed.catch_up(planned, START, now, MissedPolicy.ALL, limit=10**9)
    assert len(outcome.fires) == missed.MAX_FIRES
    assert outcome.fires[-1] == now
    assert outcome.missed is not None
    assert outcome.missed.count == 3653 * 86_400 + 1 - missed.MAX_FIRES


def test_a_slot_that_newer_zone_data_moved_is_still_fired_once() -> None:
    stored = START + timedelta(minutes=30)
    outcome = missed.catch_up(HOURLY, stored, stored + timedelta(minutes=10))
    assert outcome == CatchUp((stored,), None, stored, START + HOUR)
