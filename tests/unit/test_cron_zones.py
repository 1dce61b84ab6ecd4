"""What clock changes do to cron expressions, against a scan of every minute."""

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import cron, zones
from fased.core.errors import InvalidArgument

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def clock(month: int, day: int, hour: int = 0, *, year: int = 2026) -> datetime:
    """A wall time."""
    return datetime(year, month, day, hour)  # noqa: DTZ001 - wall times are naive


@dataclass(frozen=True)
class Tick:
    """A minute of real time, what the clock shows, and the wall minutes it reaches first."""

    instant: datetime
    wall: datetime
    newly_reached: tuple[datetime, ...]


@dataclass(frozen=True)
class Plan:
    """A cron expression beside the sets it stands for, made without the parser."""

    expr: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    weekdays: frozenset[int]
    both_restricted: bool

    def matches(self, wall: datetime) -> bool:
        by_day, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        day = by_day or by_weekday if self.both_restricted else by_day and by_weekday
        return day and wall.hour in self.hours and wall.minute in self.minutes

    def fires_at(self, tick: Tick) -> bool:
        """The two rules: once when first reached; and, taking every hour, whenever shown."""
        if any(self.matches(wall) for wall in tick.newly_reached):
            return True
        return len(self.hours) == 24 and self.matches(tick.wall)


def scan(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[Tick]:
    """Every minute in [start, end); `start` must not lie in a repeated hour."""
    reached = start.astimezone(zone).replace(tzinfo=None) - MINUTE
    instant = start
    while instant < end:
        wall = instant.astimezone(zone).replace(tzinfo=None)
        newly = []
        while reached < wall:
            reached += MINUTE
            newly.append(reached)
        yield Tick(instant, wall, tuple(newly))
        instant += MINUTE


# A clock change each: forward and back, at night and at midnight, by 30 minutes, by two hours, by
# a whole day, to negative daylight time, and twice in a month.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2026, 3, 28, 22, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2026, 10, 24, 21, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("Europe/Dublin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
]


@cache
def ticks_around(name: str, change: datetime) -> tuple[Tick, ...]:
    return tuple(scan(zones.find_zone(name), change - 36 * HOUR, change + 36 * HOUR))


@st.composite
def number_fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """A field's text and its set, each made from the same choice."""
    everything = range(low, high + 1)
    shape = draw(st.sampled_from(["star", "number", "list", "range", "step", "wrap"]))
    if shape == "star":
        return "*", frozenset(everything)
    if shape == "step":
        step = draw(st.integers(1, len(everything)))
        return f"*/{step}", frozenset(everything[::step])
    if shape in ("range", "wrap"):
        start, end = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
        if shape == "range" or start == end:
            return f"{start}-{end}", frozenset(range(start, end + 1))
        return f"{end}-{start}", frozenset({*range(end, high + 1), *range(low, start + 1)})
    numbers = draw(
        st.lists(st.integers(low, high), min_size=1, max_size=1 if shape == "number" else 4)
    )
    return ",".join(map(str, numbers)), frozenset(numbers)


NIGHT_HOURS = [
    ("*", frozenset(range(24))),
    ("*/2", frozenset(range(0, 24, 2))),
    ("0-3", frozenset(range(4))),
    ("1", frozenset({1})),
    ("2", frozenset({2})),
    ("3,23", frozenset({3, 23})),
    ("0", frozenset({0})),
]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    minute, minutes = draw(number_fields(0, 59))
    # The hours that clocks skip and repeat come up often.
    hour, hours = draw(number_fields(0, 23) | st.sampled_from(NIGHT_HOURS))
    day, days = draw(st.just(("*", frozenset(range(1, 32)))) | number_fields(1, 31))
    weekday, weekdays = draw(st.just(("*", frozenset(range(7)))) | number_fields(0, 6))
    unrestricted = ("*", "*/1")
    return Plan(
        f"{minute} {hour} {day} * {weekday}",
        minutes,
        hours,
        days,
        weekdays,
        day not in unrestricted and weekday not in unrestricted,
    )


def fires_between(plan: Plan, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    expression = cron.parse(plan.expr)
    found = []
    at = cron.next_fire(expression, zone, start - timedelta(seconds=1))
    while at < end:
        found.append(at)
        at = cron.next_fire(expression, zone, at)
    return found


@given(st.sampled_from(CHANGES), plans())
def test_walking_next_visits_every_slot_of_the_minute_scan_and_no_other(
    change: tuple[str, datetime], plan: Plan
) -> None:
    ticks = ticks_around(*change)
    zone = zones.find_zone(change[0])
    expected = [tick.instant for tick in ticks if plan.fires_at(tick)]
    assert fires_between(plan, zone, ticks[0].instant, ticks[-1].instant + MINUTE) == expected


@given(st.sampled_from(CHANGES), plans(), st.integers(0, 72 * 3600 - 1), st.integers(0, 999_999))
def test_next_previous_and_count_agree_with_the_scan_from_any_instant(
    change: tuple[str, datetime], plan: Plan, second: int, microsecond: int
) -> None:
    ticks = ticks_around(*change)
    zone, expression = zones.find_zone(change[0]), cron.parse(plan.expr)
    start, end = ticks[0].instant, ticks[-1].instant
    instant = start + timedelta(seconds=second, microseconds=microsecond)
    slots = [tick.instant for tick in ticks if plan.fires_at(tick)]
    later = [slot for slot in slots if slot > instant]
    earlier = [slot for slot in slots if slot < instant]
    following = cron.next_fire(expression, zone, instant)
    preceding = cron.previous_fire(expression, zone, instant)
    assert preceding < instant < following
    assert following == later[0] if later else following > end
    assert preceding == earlier[-1] if earlier else preceding < start
    assert cron.count_fires(expression, zone, instant, end) == len(later)
    assert cron.count_fires(expression, zone, start - MINUTE, instant) == len(
        [slot for slot in slots if slot <= instant]
    )


@given(st.sampled_from(CHANGES), plans(), st.integers(-40 * 86400, 40 * 86400))
def test_next_and_previous_are_inverse(
    change: tuple[str, datetime], plan: Plan, seconds: int
) -> None:
    zone, expression = zones.find_zone(change[0]), cron.parse(plan.expr)
    instant = change[1] + timedelta(seconds=seconds)
    following = cron.next_fire(expression, zone, instant)
    again = cron.next_fire(expression, zone, following)
    assert again > following > instant
    assert cron.previous_fire(expression, zone, again) == following
    assert (
        cron.next_fire(expression, zone, cron.previous_fire(expression, zone, following))
        == following
    )
    assert cron.count_fires(expression, zone, instant, again) == 2


@given(plans(), st.integers(1, 4000), st.integers(0, 3000))
def test_a_count_over_years_is_that_of_its_parts(plan: Plan, days: int, cut: int) -> None:
    zone, expression = zones.find_zone("Europe/Berlin"), cron.parse(plan.expr)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    middle, end = start + min(cut, days) * DAY, start + days * DAY
    assert cron.count_fires(expression, zone, start, end) == cron.count_fires(
        expression, zone, start, middle
    ) + cron.count_fires(expression, zone, middle, end)


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("hour", ["*", "0-3,22,23"])
def test_next_and_previous_are_right_from_every_few_minutes_around_a_change(
    name: str, change: datetime, hour: str
) -> None:
    zone, every_day = zones.find_zone(name), frozenset(range(32))
    hours = frozenset(range(24)) if hour == "*" else frozenset({0, 1, 2, 3, 22, 23})
    plan = Plan(f"30 {hour} * * *", frozenset({30}), hours, every_day, every_day, False)
    expression = cron.parse(plan.expr)
    ticks = ticks_around(name, change)
    slots = [tick.instant for tick in ticks if plan.fires_at(tick)]
    for tick in ticks[30 * 60 : 42 * 60 : 7]:
        for instant in (tick.instant, tick.instant + timedelta(seconds=1)):
            following = min(slot for slot in slots if slot > instant)
            preceding = max(slot for slot in slots if slot < instant)
            assert cron.next_fire(expression, zone, instant) == following
            assert cron.previous_fire(expression, zone, instant) == preceding


def local_fires(expr: str, name: str, day: datetime, count: int) -> list[str]:
    """The next fires after `day`'s beginning, as its clock shows them with the offset."""
    zone, expression = zones.find_zone(name), cron.parse(expr)
    at = day.replace(tzinfo=zone) - timedelta(seconds=1)
    shown = []
    for _ in range(count):
        at = cron.next_fire(expression, zone, at)
        shown.append(f"{at.astimezone(zone):%d %H:%M %z}")
    return shown


SPRING = clock(3, 29)
AUTUMN = clock(10, 25)


def test_a_time_in_the_gap_fires_at_the_first_valid_instant() -> None:
    assert local_fires("30 2 * * *", "Europe/Berlin", SPRING, 2) == [
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]
    assert local_fires("30 2 * * *", "America/New_York", clock(3, 8), 1) == ["08 03:00 -0400"]
    assert local_fires("15 2 * * *", "Australia/Lord_Howe", clock(10, 4), 1) == ["04 02:30 +1100"]


def test_several_times_in_the_gap_fire_once_together() -> None:
    assert local_fires("*/30 2 * * *", "Europe/Berlin", SPRING, 2) == [
        "29 03:00 +0200",
        "30 02:00 +0200",
    ]
    assert local_fires("*/30 2,3 * * *", "Europe/Berlin", SPRING, 2) == [
        "29 03:00 +0200",
        "29 03:30 +0200",
    ]


def test_a_fixed_time_in_the_repeated_hour_fires_once_the_first_time() -> None:
    assert local_fires("30 2 * * *", "Europe/Berlin", AUTUMN, 2) == [
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]
    assert local_fires("*/30 2 * * *", "Europe/Berlin", AUTUMN, 3) == [
        "25 02:00 +0200",
        "25 02:30 +0200",
        "26 02:00 +0100",
    ]


@pytest.mark.parametrize("hour", ["*", "*/1", "0-23", "12-11"])
def test_an_expression_of_every_hour_fires_in_both_passes(hour: str) -> None:
    assert local_fires(f"30 {hour} * * *", "Europe/Berlin", AUTUMN, 5)[1:] == [
        "25 01:30 +0200",
        "25 02:30 +0200",
        "25 02:30 +0100",
        "25 03:30 +0100",
    ]


def test_a_step_of_hours_names_hours_and_fires_in_the_first_pass_only() -> None:
    assert local_fires("0 */2 * * *", "Europe/Berlin", AUTUMN, 3) == [
        "25 00:00 +0200",
        "25 02:00 +0200",
        "25 04:00 +0100",
    ]


def test_the_day_that_a_zone_left_out_fires_at_the_beginning_of_the_next() -> None:
    assert local_fires("0 9 30 12 *", "Pacific/Apia", clock(12, 29, year=2011), 1) == [
        "31 00:00 +1400"
    ]


def test_midnight_that_occurs_twice_fires_once_and_one_that_is_skipped_fires() -> None:
    assert local_fires("0 0 * * *", "America/Havana", clock(11, 1), 2) == [
        "01 00:00 -0400",
        "02 00:00 -0500",
    ]
    assert local_fires("0 0 * * *", "Asia/Beirut", clock(3, 28, 12), 1) == ["29 01:00 +0300"]


def test_every_zone_of_the_database_fires_right_around_all_its_changes_of_two_years() -> None:
    half_hours, days, weekdays = frozenset({0, 30}), frozenset(range(32)), frozenset(range(7))
    night = frozenset({0, 1, 2, 3, 22, 23})
    tried = [
        Plan("0,30 * * * *", half_hours, frozenset(range(24)), days, weekdays, False),
        Plan("0,30 0-3,22,23 * * *", half_hours, night, days, weekdays, False),
    ]
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    scanned = 0
    for name in sorted(zoneinfo.available_timezones() - {"localtime"}):
        zone = zones.find_zone(name)
        centres = [change.at for change in zones.changes(zone, start, end)]
        scanned += len(centres)
        for centre in centres or [start]:
            ticks = list(scan(zone, centre - 4 * HOUR, centre + 4 * HOUR))
            for plan in tried:
                expected = [tick.instant for tick in ticks if plan.fires_at(tick)]
                assert (
                    fires_between(plan, zone, ticks[0].instant, ticks[-1].instant + MINUTE)
                    == expected
                )
    assert scanned > 500


def test_a_clock_change_is_found_to_the_second_with_its_offsets() -> None:
    zone = zones.find_zone("Europe/Berlin")
    start = datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    found = list(zones.changes(zone, start, start + 365 * DAY))
    assert [change.at for change in found] == [CHANGES[0][1], CHANGES[1][1]]
    assert [change.after - change.before for change in found] == [HOUR, -HOUR]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("utc", "UTC"),
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Brelin", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_closest_name(name: str, suggestion: str) -> None:
    with pytest.raises(InvalidArgument, match=f"did you mean {suggestion}") as refused:
        zones.find_zone(name)
    assert refused.value.reason == "INVALID_ZONE"
    assert refused.value.metadata == {"field": "tz", "suggestion": suggestion}


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "/etc/passwd",
        "America",
        "localtime",
        "posix/UTC",
        "right/UTC",
        "a\0b",
        "x" * 5000,
        "é",
    ],
)
def test_what_is_no_zone_of_the_database_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        zones.find_zone(name)
    assert refused.value.reason == "INVALID_ZONE"


def test_a_blank_zone_is_utc() -> None:
    assert zones.find_zone("  ").key == "UTC"
