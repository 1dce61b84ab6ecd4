"""When a cron expression fires, by the clock of a zone. Decides nothing about its text.

An expression matches wall times (`cron_fields.py` says how it is written); `zones.py` says which
instant a wall time means. From both follows what clock changes do:

- Turned forward: wall times in the gap fire at the first valid instant after it. However many
  they are, and whether or not that instant matches too, it fires once.
- Turned back: an expression that names hours fires in the first pass of the repeated wall times
  only. One that takes every hour (`*`, `*/1`, `0-23`) fires in both. `*/2` names hours.

The cost of a step does not grow with its distance, that of a count not with what it counts:
sets of bits are skipped and counted, not walked. Every expression fires within 40 years.
"""

import calendar
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from fased.core import zones
from fased.core.cron_fields import CronExpression, DayRules, read_expression
from fased.core.errors import InvalidArgument
from fased.core.zones import SECOND

# By month, February with and without a leap day.
_MONTH_LENGTHS = ((), (31,), (28, 29), *((31,), (30,)) * 2, (31,), (31,), *((30,), (31,)) * 2)
# Bits 1, 8, 15, 22 and 29: a week's seven bits at each of these cover any month.
_WEEK_STARTS = (1 << 1) | (1 << 8) | (1 << 15) | (1 << 22) | (1 << 29)


# A memo of a pure function: a batch of due tasks shares few expressions.
@lru_cache(maxsize=4096)
def parse(expr: str) -> CronExpression:
    """The expression that `expr` writes.

    Raises InvalidArgument: INVALID_CRON names the field and what it allows, NEVER_FIRES is an
    impossible date such as February 30.
    """
    expression = read_expression(expr)
    if not _fires_in_some_year(expression):
        raise InvalidArgument(
            f"the cron expression {expr[:60]!r} never fires: no year has such a date",
            reason="NEVER_FIRES",
            metadata={"field": "expr"},
        )
    return expression


def next_fire(expr: CronExpression, zone: ZoneInfo, after: datetime) -> datetime:
    """The first fire strictly after the instant, which lies in the years 1900 to 9000."""
    wall = zones.wall_at(after, zone)
    repeat = zones.repeat_around(wall, zone)
    if repeat is None:
        found = _next_wall(expr, wall + SECOND)
        return zones.first_instant(found, zone)
    if wall.fold == 0:
        found = _next_wall(expr, wall + SECOND)
        if found < repeat.wall_before:
            return zones.first_instant(found, zone)
    if expr.takes_every_hour:
        second_pass = wall + SECOND if wall.fold else repeat.wall_after
        found = _next_wall(expr, second_pass)
        if found < repeat.wall_before:
            return zones.last_instant(found, zone)
    found = _next_wall(expr, repeat.wall_before)
    return zones.first_instant(found, zone)


def previous_fire(expr: CronExpression, zone: ZoneInfo, before: datetime) -> datetime:
    """The last fire strictly before the instant, which lies in the years 1900 to 9000."""
    wall = zones.wall_at(before - timedelta.resolution, zone)
    repeat = zones.repeat_around(wall, zone)
    last_of = zones.last_instant if expr.takes_every_hour else zones.first_instant
    if repeat is None:
        found = _previous_wall(expr, wall)
        return last_of(found, zone)
    if wall.fold and expr.takes_every_hour:
        found = _previous_wall(expr, wall)
        if found >= repeat.wall_after:
            return zones.last_instant(found, zone)
    first_pass = repeat.wall_before - SECOND if wall.fold else wall
    found = _previous_wall(expr, first_pass)
    if found >= repeat.wall_after:
        return zones.first_instant(found, zone)
    return last_of(found, zone)


def count_fires(expr: CronExpression, zone: ZoneInfo, after: datetime, until: datetime) -> int:
    """How many fires lie in (after, until]."""
    clock = zones.wall_at(after, zone)
    repeat = zones.repeat_around(clock, zone)
    # The latest wall time reached so far, which in a second pass the clock no longer shows.
    reached = repeat.wall_before - SECOND if repeat and clock.fold else clock
    total = 0
    for change in zones.changes(zone, after, until):
        start = clock if expr.takes_every_hour else max(clock, reached)
        total += _count_walls(expr, start, change.wall_before - SECOND)
        reached = max(reached, change.wall_before - SECOND)
        if change.after > change.before:
            total += _count_walls(expr, reached, change.wall_after) > 0
            clock = reached = change.wall_after
        else:
            clock = change.wall_after - SECOND
    start = clock if expr.takes_every_hour else max(clock, reached)
    return total + _count_walls(expr, start, zones.wall_at(until, zone))


def _next_wall(expr: CronExpression, start: datetime) -> datetime:
    """The first matching wall time at or after `start`."""
    year, month, day = start.year, start.month, start.day
    days = _from(_days_in(expr, year, month), day)
    if days >> day & 1:
        time = _next_time(expr, start.hour, start.minute, start.second)
        if time:
            return datetime(year, month, day, *time)  # noqa: DTZ001 - a wall time
        days = _from(days, day + 1)
    while not days:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        days = _days_in(expr, year, month)
    hour, minute, second = _lowest(expr.hours), _lowest(expr.minutes), _lowest(expr.seconds)
    return datetime(year, month, _lowest(days), hour, minute, second)  # noqa: DTZ001 - a wall time


def _previous_wall(expr: CronExpression, start: datetime) -> datetime:
    """The last matching wall time at or before `start`."""
    year, month, day = start.year, start.month, start.day
    days = _up_to(_days_in(expr, year, month), day)
    if days >> day & 1:
        time = _previous_time(expr, start.hour, start.minute, start.second)
        if time:
            return datetime(year, month, day, *time)  # noqa: DTZ001 - a wall time
        days = _up_to(days, day - 1)
    while not days:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        days = _days_in(expr, year, month)
    hour, minute, second = _highest(expr.hours), _highest(expr.minutes), _highest(expr.seconds)
    return datetime(year, month, _highest(days), hour, minute, second)  # noqa: DTZ001 - a wall time


def _count_walls(expr: CronExpression, after: datetime, until: datetime) -> int:
    """How many matching wall times lie in (after, until]; 0 where that is empty."""
    if until <= after:
        return 0
    per_day = _count_times(expr, 23, 59, 59)
    total = _rank(expr, until, per_day) - _rank(expr, after, per_day)
    year, month = after.year, after.month
    while (year, month) < (until.year, until.month):
        total += _days_in(expr, year, month).bit_count() * per_day
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return total


def _rank(expr: CronExpression, wall: datetime, per_day: int) -> int:
    """How many matching wall times its month has up to and with `wall`."""
    days = _days_in(expr, wall.year, wall.month)
    total = _up_to(days, wall.day - 1).bit_count() * per_day
    if days >> wall.day & 1:
        total += _count_times(expr, wall.hour, wall.minute, wall.second)
    return total


def _count_times(expr: CronExpression, hour: int, minute: int, second: int) -> int:
    """How many matching times of day there are up to and with the given one."""
    minutes, seconds = expr.minutes.bit_count(), expr.seconds.bit_count()
    total = _up_to(expr.hours, hour - 1).bit_count() * minutes * seconds
    if expr.hours >> hour & 1:
        total += _up_to(expr.minutes, minute - 1).bit_count() * seconds
        if expr.minutes >> minute & 1:
            total += _up_to(expr.seconds, second).bit_count()
    return total


def _next_time(
    expr: CronExpression, hour: int, minute: int, second: int
) -> tuple[int, int, int] | None:
    """The first matching time of day at or after the given one."""
    first_second = _lowest(expr.seconds)
    if expr.hours >> hour & 1:
        if expr.minutes >> minute & 1 and (seconds := _from(expr.seconds, second)):
            return hour, minute, _lowest(seconds)
        if minutes := _from(expr.minutes, minute + 1):
            return hour, _lowest(minutes), first_second
    if hours := _from(expr.hours, hour + 1):
        return _lowest(hours), _lowest(expr.minutes), first_second
    return None


def _previous_time(
    expr: CronExpression, hour: int, minute: int, second: int
) -> tuple[int, int, int] | None:
    """The last matching time of day at or before the given one."""
    last_second = _highest(expr.seconds)
    if expr.hours >> hour & 1:
        if expr.minutes >> minute & 1 and (seconds := _up_to(expr.seconds, second)):
            return hour, minute, _highest(seconds)
        if minutes := _up_to(expr.minutes, minute - 1):
            return hour, _highest(minutes), last_second
    if hours := _up_to(expr.hours, hour - 1):
        return _highest(hours), _highest(expr.minutes), last_second
    return None


def _fires_in_some_year(expr: CronExpression) -> bool:
    """Whether any month of any year has a matching day: a year is its length and first weekday."""
    return any(
        _month_days(expr.days, length, first)
        for month in range(1, 13)
        if expr.months >> month & 1
        for length in _MONTH_LENGTHS[month]
        for first in range(7)
    )


def _days_in(expr: CronExpression, year: int, month: int) -> int:
    """The matching days of a month, none where the month itself does not match."""
    if not expr.months >> month & 1:
        return 0
    monday_first, length = calendar.monthrange(year, month)
    return _month_days(expr.days, length, (monday_first + 1) % 7)


def _month_days(rules: DayRules, length: int, first: int) -> int:
    """The matching days of a month of that length whose day 1 is that weekday (Sunday is 0)."""
    all_days = (2 << length) - 2
    by_month_day = rules.days
    for back in rules.from_last:
        by_month_day |= 1 << max(length - back, 0)
    for day in rules.nearest:
        by_month_day |= 1 << _nearest_working_day(day or length, length, first)
    week = rules.weekdays >> first | rules.weekdays << (7 - first) & 0x7F
    by_weekday = week * _WEEK_STARTS
    for weekday, nth in rules.nth:
        by_weekday |= 1 << _nth_weekday(weekday, nth, length, first)
    if rules.month_day_restricted and rules.weekday_restricted:
        return (by_month_day | by_weekday) & all_days
    return by_month_day & by_weekday & all_days


def _nearest_working_day(day: int, length: int, first: int) -> int:
    """The Monday to Friday nearest to `day` in its own month; 0 where it has no such day."""
    if day > length:
        return 0
    weekday = (first + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


def _nth_weekday(weekday: int, nth: int, length: int, first: int) -> int:
    """The day that is the nth such weekday of the month (nth 0: the last); may lie past its end."""
    day = 1 + (weekday - first) % 7
    return day + 7 * (nth - 1) if nth else day + (length - day) // 7 * 7


def _from(bits: int, start: int) -> int:
    return bits >> start << start


def _up_to(bits: int, end: int) -> int:
    return bits & ((2 << end) - 1) if end >= 0 else 0


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _highest(bits: int) -> int:
    return bits.bit_length() - 1
