"""Slots that came due, and those that passed unfired. Decides which fire now and which are missed.

Not decided here: whether a fired slot runs beside a live run (`tasks.py`). Every due slot ends
in exactly one of two places, the fires or the missed range: none is jumped in silence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from fased.core import schedule
from fased.core.schedule import Schedule
from fased.core.tasks import MissedPolicy

# A slot this old still counts as met: the minute a new `at` may lie back, and a slow tick.
ON_TIME = timedelta(seconds=90)
# One decision fires no more than this; older slots are missed, so that a long outage with a short
# interval does not become a flood.
MAX_FIRES = 100


@dataclass(frozen=True, slots=True)
class MissedRange:
    """Contiguous slots that will not fire, from the first to the last one, both inclusive."""

    first_slot: datetime
    last_slot: datetime
    count: int


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What becomes of the slots due. `fires` ascends; `missed` lies before them.

    `last_slot` is the last slot dealt with (None: nothing was due), `next_slot` the one to wait
    for (None: the schedule has ended).
    """

    fires: tuple[datetime, ...]
    missed: MissedRange | None
    last_slot: datetime | None
    next_slot: datetime | None


def catch_up(
    planned: Schedule,
    due_at: datetime,
    now: datetime,
    policy: MissedPolicy = MissedPolicy.ONCE,
    *,
    limit: int = 0,
    within: timedelta = timedelta(0),
    task_id: str = "",
) -> CatchUp:
    """Deals with `due_at`, the slot that was waited for, and all after it up to `now`.

    SKIP fires the newest slot if it is on time; ONCE fires the newest however late; ALL the newest
    `limit`; WITHIN those no older than `within` or on time. At most MAX_FIRES fire. The work is
    bounded by that, not by how many were missed.
    """
    if due_at > now:
        return CatchUp((), None, None, due_at)
    fires: list[datetime] = []
    newest_missed = None
    for slot in _newest_first(planned, due_at, now, task_id):
        if not _still_fires(policy, len(fires), now - slot, limit, within):
            newest_missed = slot
            break
        fires.append(slot)
    missed = None
    if newest_missed is not None:
        # The slot waited for counts, though newer zone data may have moved the others off it.
        due_count = 1 + schedule.count_fires(planned, due_at, now, task_id=task_id)
        missed = MissedRange(due_at, newest_missed, due_count - len(fires))
    return CatchUp(
        fires=tuple(reversed(fires)),
        missed=missed,
        last_slot=fires[0] if fires else newest_missed,
        next_slot=schedule.next_fire(planned, now, task_id=task_id),
    )


def _newest_first(
    planned: Schedule, due_at: datetime, now: datetime, task_id: str
) -> Iterator[datetime]:
    """The slots due, from the newest back to `due_at`."""
    slot = schedule.previous_fire(planned, now + timedelta.resolution, task_id=task_id)
    while slot is not None and slot > due_at:
        yield slot
        slot = schedule.previous_fire(planned, slot, task_id=task_id)
    yield due_at


def _still_fires(
    policy: MissedPolicy, newer: int, late: timedelta, limit: int, within: timedelta
) -> bool:
    """Whether a slot that late fires, after so many newer ones do."""
    if newer >= MAX_FIRES:
        return False
    match policy:
        case MissedPolicy.SKIP:
            return newer == 0 and late <= ON_TIME
        case MissedPolicy.ONCE:
            return newer == 0
        case MissedPolicy.ALL:
            return newer < max(limit, 1)
        case MissedPolicy.WITHIN:
            return late <= within or (newer == 0 and late <= ON_TIME)
    assert_never(policy)
