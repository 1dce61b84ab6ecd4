"""When schedules are due: laws of next, previous and count, stagger, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import schedule
from fased.core.errors import InvalidArgument
from fased.core.schedule import At, Cron, Every, Schedule

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TEN_YEARS = timedelta(days=3653)

staggers = st.sampled_from([timedelta(0), timedelta(seconds=30), timedelta(minutes=5)])
anchors = st.integers(-(10**9), 10**9).map(lambda ms: NOW + timedelta(milliseconds=ms))
grids = st.builds(
    Every,
    st.integers(1000, 10**8).map(lambda ms: timedelta(milliseconds=ms)),
    anchors,
    staggers,
)
crons = st.builds(
    Cron,
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 9 * * 1-5", "15 * L * *", "*/20 0-3 * * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
    staggers,
)
schedules: st.SearchStrategy[Schedule] = st.one_of(grids, crons)
instants = st.integers(-(10**13), 10**13).map(lambda us: NOW + timedelta(microseconds=us))
task_ids = st.sampled_from(["", "a", "7f3c", "another"])


@given(schedules, instants, task_ids)
def test_the_next_slot_is_later_and_the_previous_one_brings_it_back(
    planned: Schedule, after: datetime, task_id: str
) -> None:
    following = schedule.next_fire(planned, after, task_id=task_id)
    assert following is not None
    assert following > after
    assert following == schedule.next_fire(planned, after, task_id=task_id)
    again = schedule.next_fire(planned, following, task_id=task_id)
    assert again is not None
    assert schedule.previous_fire(planned, again, task_id=task_id) == following
    before = schedule.previous_fire(planned, following, task_id=task_id)
    assert before is None or before <= after
    assert before is None or schedule.next_fire(planned, before, task_id=task_id) == following


@given(schedules, instants, st.integers(0, 60), st.integers(0, 10**6), task_ids)
def test_a_count_is_the_number_of_slots_walked(
    planned: Schedule, after: datetime, count: int, microseconds: int, task_id: str
) -> None:
    slots = schedule.next_fires(planned, after, count, task_id=task_id)
    end = (slots[-1] if slots else after) + timedelta(microseconds=microseconds)
    expected = len(slots)
    following = schedule.next_fire(planned, slots[-1] if slots else after, task_id=task_id)
    if following and following <= end:
        expected += 1
    assert schedule.count_fires(planned, after, end, task_id=task_id) == expected
    assert schedule.count_fires(planned, end, after, task_id=task_id) == 0


@given(grids, st.integers(0, 10**5), st.integers(0, 999))
def test_a_grid_is_its_anchor_and_whole_intervals_after_it(
    grid: Every, index: int, milliseconds: int
) -> None:
    exact = Every(grid.every, grid.anchor)
    slot = grid.anchor + index * grid.every
    assert (
        schedule.next_fire(exact, slot + timedelta(milliseconds=milliseconds)) == slot + grid.every
    )
    assert schedule.previous_fire(exact, slot + grid.every) == slot


def test_now_on_the_anchor_waits_for_the_next_slot_and_before_it_for_the_anchor() -> None:
    grid = Every(timedelta(seconds=30), NOW)
    assert schedule.next_fire(grid, NOW) == NOW + timedelta(seconds=30)
    assert schedule.next_fire(grid, NOW - timedelta(days=9)) == NOW
    assert schedule.previous_fire(grid, NOW) is None
    assert schedule.previous_fire(grid, NOW + SECOND) == NOW


def test_an_instant_fires_once() -> None:
    once = At(NOW)
    assert schedule.next_fire(once, NOW - SECOND) == NOW
    assert schedule.next_fire(once, NOW) is None
    assert schedule.previous_fire(once, NOW) is None
    assert schedule.previous_fire(once, NOW + SECOND) == NOW
    assert schedule.next_fires(once, NOW - SECOND, 5) == [NOW]
    assert schedule.count_fires(once, NOW - SECOND, NOW) == 1
    assert schedule.count_fires(once, NOW, NOW + SECOND) == 0


def test_a_schedule_ends_before_the_calendar_does() -> None:
    slots = schedule.next_fires(Cron("0 0 29 2 *"), NOW, 10_000)
    assert slots[-1].year < 9000
    assert len(slots) < 2000


def test_years_of_slots_every_second_are_counted_exactly() -> None:
    years = timedelta(days=3653)
    assert schedule.count_fires(Every(SECOND, NOW), NOW, NOW + years) == 3653 * 86_400
    assert (
        schedule.count_fires(Cron("* * * * * *", "Europe/Berlin"), NOW, NOW + years)
        == 3653 * 86_400
    )


@given(crons, instants)
def test_a_stagger_moves_every_slot_of_a_task_by_one_offset_inside_its_window(
    planned: Cron, after: datetime
) -> None:
    exact = Cron(planned.expr, planned.tz)
    offset = schedule.stagger_offset(planned, "7f3c")
    assert timedelta(0) <= offset < max(planned.stagger, SECOND)
    moved = schedule.next_fires(planned, after + offset, 3, task_id="7f3c")
    assert moved == [slot + offset for slot in schedule.next_fires(exact, after, 3)]


def test_tasks_with_the_same_stagger_spread_over_the_window() -> None:
    planned = Cron("0 * * * *", stagger=timedelta(minutes=5))
    offsets = [schedule.stagger_offset(planned, f"task-{number}") for number in range(400)]
    by_minute = [sum(o // timedelta(minutes=1) == minute for o in offsets) for minute in range(5)]
    assert min(by_minute) > 40
    assert len(set(offsets)) > 390


def test_without_a_window_or_a_task_there_is_no_stagger() -> None:
    assert schedule.stagger_offset(Cron("0 * * * *"), "7f3c") == timedelta(0)
    assert schedule.stagger_offset(Cron("0 * * * *", stagger=SECOND), "") == timedelta(0)
    assert schedule.stagger_offset(At(NOW), "7f3c") == timedelta(0)


def test_a_stagger_is_the_same_in_every_release() -> None:
    planned = Every(timedelta(hours=1), NOW, timedelta(hours=1))
    assert schedule.stagger_offset(planned, "7f3c") == timedelta(milliseconds=453_148)


def test_a_first_slot_lies_after_the_last_one_fired() -> None:
    grid = Every(timedelta(hours=1), NOW)
    later = NOW + timedelta(hours=5)
    assert schedule.first_slot(grid, NOW) == NOW + timedelta(hours=1)
    assert schedule.first_slot(grid, NOW, last_slot=later) == later + timedelta(hours=1)
    assert schedule.first_slot(At(later), NOW, last_slot=NOW) == later
    assert schedule.first_slot(At(NOW), NOW, last_slot=NOW) is None


def test_a_new_instant_keeps_its_time_though_it_passed_on_the_way() -> None:
    assert schedule.first_slot(At(NOW - timedelta(seconds=40)), NOW) == NOW - timedelta(seconds=40)


@pytest.mark.parametrize(
    "every", [timedelta(0), timedelta(milliseconds=999), -SECOND, TEN_YEARS * 2]
)
def test_an_interval_is_a_second_to_ten_years(every: timedelta) -> None:
    with pytest.raises(InvalidArgument, match="1 second to 10 years") as refused:
        Every(every, NOW)
    assert refused.value.reason == "INVALID_EVERY"
    assert refused.value.metadata == {"field": "every"}


@pytest.mark.parametrize("stagger", [-SECOND, timedelta(days=2)])
def test_a_stagger_is_at_most_a_day(stagger: timedelta) -> None:
    with pytest.raises(InvalidArgument, match="0 to 24 hours") as refused:
        Cron("0 * * * *", stagger=stagger)
    assert refused.value.reason == "INVALID_STAGGER"


@pytest.mark.parametrize(
    ("planned", "reason"),
    [
        (At(NOW - timedelta(seconds=61)), "AT_IN_THE_PAST"),
        (At(NOW + TEN_YEARS + SECOND), "TOO_FAR_AHEAD"),
        (Every(SECOND, NOW + TEN_YEARS + SECOND), "TOO_FAR_AHEAD"),
        (Cron("61 * * * *"), "INVALID_CRON"),
        (Cron("0 0 30 2 *"), "NEVER_FIRES"),
        (Cron("0 9 * * *", "Europe/Brelin"), "INVALID_ZONE"),
    ],
)
def test_a_new_schedule_that_cannot_be_met_is_refused(planned: Schedule, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        schedule.check_new(planned, NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "planned",
    [
        At(NOW - timedelta(seconds=60)),
        At(NOW + TEN_YEARS),
        Every(SECOND, NOW - TEN_YEARS * 3),
        Every(TEN_YEARS, NOW + TEN_YEARS),
        Cron("0 0 29 2 *", "Asia/Kathmandu"),
    ],
)
def test_a_new_schedule_at_the_edge_of_what_is_allowed_is_taken(planned: Schedule) -> None:
    schedule.check_new(planned, NOW)


def test_a_stored_schedule_whose_zone_has_gone_is_shown_and_says_why_it_has_no_slot() -> None:
    planned = Cron("0 9 * * *", "Mars/Olympus")
    assert schedule.describe(planned) == "cron 0 9 * * * (Mars/Olympus)"
    with pytest.raises(InvalidArgument, match="Mars/Olympus") as refused:
        schedule.next_fire(planned, NOW)
    assert refused.value.reason == "INVALID_ZONE"


def test_a_description_reads_as_a_person_would_write_it() -> None:
    assert schedule.describe(At(NOW)) == "at 2026-06-01T12:00:00Z"
    assert schedule.describe(Every(timedelta(minutes=90), NOW)) == "every 1h30m"
    assert (
        schedule.describe(Cron("0 9 * * 1-5", "Europe/Berlin", timedelta(minutes=5)))
        == "cron 0 9 * * 1-5 (Europe/Berlin), within 5m"
    )
