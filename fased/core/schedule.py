"""When a task is due: at an instant, on a grid, or by a cron expression.

Decides slots, the instants for which a task fires; not how a schedule is written
(`schedule_text.py`), what becomes of slots nobody fired (`missed.py`), nor what a fire does.

A declared stagger moves every slot of a task by one offset inside its window, taken from a hash
of the task's id: the same on every replica and after every restart.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from fased.core import cron, zones
from fased.core.durations import LATEST, MILLISECOND, format_duration, format_instant
from fased.core.errors import InvalidArgument

SHORTEST_EVERY = timedelta(seconds=1)
LONGEST_AHEAD = timedelta(days=3653)
# How long ago a new `at` may be: the minute that typing and sending it took.
LATEST_PAST = timedelta(minutes=1)
MAX_STAGGER = timedelta(days=1)
NO_STAGGER = timedelta(0)


@dataclass(frozen=True, slots=True)
class At:
    """Once, at an aware instant."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Every:
    """At `anchor` and every whole number of intervals after it, by elapsed time.

    Both are whole milliseconds, as they are stored. Raises InvalidArgument for an interval under
    1 second or over 10 years, or a stagger over a day.
    """

    every: timedelta
    anchor: datetime
    stagger: timedelta = NO_STAGGER

    def __post_init__(self) -> None:
        if not SHORTEST_EVERY <= self.every <= LONGEST_AHEAD:
            raise InvalidArgument(
                f"an interval is 1 second to 10 years, not {_shown(self.every)}",
                reason="INVALID_EVERY",
                metadata={"field": "every"},
            )
        _check_stagger(self.stagger)


@dataclass(frozen=True, slots=True)
class Cron:
    """By a cron expression and the clock of an IANA zone (`cron.py` has the rules).

    Made unchecked, so that a stored schedule can always be read and shown: a bad expression or
    zone is refused by `check` and by whatever asks for its slots.
    """

    expr: str
    tz: str = "UTC"
    stagger: timedelta = NO_STAGGER

    def __post_init__(self) -> None:
        _check_stagger(self.stagger)


Schedule = At | Every | Cron


def check(schedule: Schedule) -> None:
    """Raises InvalidArgument (INVALID_CRON, NEVER_FIRES, INVALID_ZONE) unless it has slots."""
    if isinstance(schedule, Cron):
        cron.parse(schedule.expr)
        zones.find_zone(schedule.tz)


def check_new(schedule: Schedule, now: datetime) -> None:
    """As `check`, for a schedule that is being set: its time must lie ahead, within 10 years.

    Raises InvalidArgument AT_IN_THE_PAST (by more than a minute) or TOO_FAR_AHEAD as well.
    """
    check(schedule)
    if isinstance(schedule, Cron):
        return
    field, instant = (
        ("at", schedule.at) if isinstance(schedule, At) else ("anchor", schedule.anchor)
    )
    if field == "at" and instant < now - LATEST_PAST:
        raise InvalidArgument(
            f"{format_instant(instant)} has passed: a task runs at a time to come",
            reason="AT_IN_THE_PAST",
            metadata={"field": field},
        )
    if instant > now + LONGEST_AHEAD:
        raise InvalidArgument(
            f"{format_instant(instant)} is more than 10 years ahead",
            reason="TOO_FAR_AHEAD",
            metadata={"field": field},
        )


def first_slot(
    schedule: Schedule, now: datetime, *, last_slot: datetime | None = None, task_id: str = ""
) -> datetime | None:
    """The slot to wait for when a schedule is set, edited or resumed at `now`; None without one.

    It lies after `last_slot`, the last that was fired or given up. A new `at` keeps its instant,
    though it passed while the request was on its way.
    """
    if isinstance(schedule, At):
        return schedule.at if last_slot is None or schedule.at > last_slot else None
    return next_fire(schedule, max(now, last_slot or now), task_id=task_id)


def next_fire(schedule: Schedule, after: datetime, *, task_id: str = "") -> datetime | None:
    """The first slot strictly after the instant, or None; `task_id` empty means no stagger.

    Raises InvalidArgument where a stored expression or zone can no longer be read.
    """
    offset = stagger_offset(schedule, task_id)
    slot = _next_exact(schedule, after - offset)
    return slot + offset if slot and slot + offset < LATEST else None


def previous_fire(schedule: Schedule, before: datetime, *, task_id: str = "") -> datetime | None:
    """The last slot strictly before the instant, or None; a cron schedule has no beginning."""
    offset = stagger_offset(schedule, task_id)
    slot = _previous_exact(schedule, before - offset)
    return slot + offset if slot else None


def next_fires(
    schedule: Schedule, after: datetime, count: int, *, task_id: str = ""
) -> list[datetime]:
    """The next `count` slots strictly after the instant; fewer where the schedule ends."""
    slots: list[datetime] = []
    while len(slots) < count:
        slot = next_fire(schedule, slots[-1] if slots else after, task_id=task_id)
        if slot is None:
            break
        slots.append(slot)
    return slots


def count_fires(schedule: Schedule, after: datetime, until: datetime, *, task_id: str = "") -> int:
    """How many slots lie in (after, until], computed and not walked: years cost milliseconds."""
    if until <= after:
        return 0
    offset = stagger_offset(schedule, task_id)
    start, end = after - offset, until - offset
    match schedule:
        case At():
            return int(start < schedule.at <= end)
        case Every():
            return _grid_slots_to(schedule, end) - _grid_slots_to(schedule, start)
        case Cron():
            expression, zone = cron.parse(schedule.expr), zones.find_zone(schedule.tz)
            return cron.count_fires(expression, zone, start, end)
    assert_never(schedule)


def stagger_offset(schedule: Schedule, task_id: str) -> timedelta:
    """How far this task's slots are moved: in [0, stagger), whole milliseconds."""
    if isinstance(schedule, At) or not schedule.stagger or not task_id:
        return NO_STAGGER
    digest = hashlib.blake2b(task_id.encode(), digest_size=8).digest()
    window_ms = schedule.stagger // MILLISECOND
    return (int.from_bytes(digest, "big") * window_ms >> 64) * MILLISECOND


def describe(schedule: Schedule) -> str:
    """The schedule in words: `every 1h30m`, `cron 0 9 * * 1-5 (Europe/Berlin)`, `at …Z`."""
    match schedule:
        case At():
            return f"at {format_instant(schedule.at)}"
        case Every():
            text = f"every {format_duration(schedule.every)}"
        case Cron():
            text = f"cron {schedule.expr} ({schedule.tz})"
        case _:
            assert_never(schedule)
    return f"{text}, within {format_duration(schedule.stagger)}" if schedule.stagger else text


def _next_exact(schedule: Schedule, after: datetime) -> datetime | None:
    match schedule:
        case At():
            return schedule.at if schedule.at > after else None
        case Every():
            return schedule.anchor + _grid_slots_to(schedule, after) * schedule.every
        case Cron():
            return cron.next_fire(cron.parse(schedule.expr), zones.find_zone(schedule.tz), after)
    assert_never(schedule)


def _previous_exact(schedule: Schedule, before: datetime) -> datetime | None:
    match schedule:
        case At():
            return schedule.at if schedule.at < before else None
        case Every():
            slots = _grid_slots_to(schedule, before - timedelta.resolution)
            return schedule.anchor + (slots - 1) * schedule.every if slots else None
        case Cron():
            expression, zone = cron.parse(schedule.expr), zones.find_zone(schedule.tz)
            return cron.previous_fire(expression, zone, before)
    assert_never(schedule)


def _grid_slots_to(schedule: Every, until: datetime) -> int:
    """How many slots the grid has up to and with the instant; the anchor is the first."""
    return max((until - schedule.anchor) // schedule.every + 1, 0)


def _check_stagger(stagger: timedelta) -> None:
    if not NO_STAGGER <= stagger <= MAX_STAGGER:
        raise InvalidArgument(
            "a stagger is 0 to 24 hours", reason="INVALID_STAGGER", metadata={"field": "stagger"}
        )


def _shown(duration: timedelta) -> str:
    return format_duration(duration) if duration >= timedelta(0) else f"{duration.total_seconds()}s"
