"""Many tasks that are due in the same second, over two schedulers: each slot once, whatever one of
them does.
"""

import signal
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from tests.support.firing import Dealt, schedulers

pytestmark = pytest.mark.timeout(300)

TASKS = 10_000
HOUR = timedelta(hours=1)
# Longer than the database lets a transaction stand still, twice.
PERIOD = timedelta(seconds=12)
SOON = timedelta(seconds=4)


async def test_ten_thousand_tasks_due_in_one_second_fire_once_each_over_two_schedulers() -> None:
    async with schedulers() as both:
        slot = await both.add_tasks(TASKS, HOUR, SOON)
        await both.until_dealt(slot)
        dealt = await both.dealt()
        assert len(dealt) == TASKS
        for each in dealt:
            assert (each.last_slot, each.runs, each.passed) == (slot, 1, 0)
            assert each.fired == [key_of(each, slot)]
        assert "Traceback" not in "".join(member.output() for member in both.members)


async def test_a_scheduler_that_stands_still_for_two_periods_fires_no_slot_again() -> None:
    async with schedulers() as both:
        first = await both.add_tasks(TASKS, PERIOD, SOON)
        frozen, other = both.members
        # In the midst of it, perhaps with tasks locked.
        await both.until_fired(TASKS // 10)
        frozen.signal(signal.SIGSTOP)
        await both.until_dealt(first + 2 * PERIOD)
        frozen.signal(signal.SIGCONT)
        await both.until_dealt(first + 3 * PERIOD)
        check_slots(await both.dealt(), first)
        assert other.process is not None
        assert "Traceback" not in other.output()


def check_slots(dealt: Sequence[Dealt], first: datetime) -> None:
    """The first slot ran, every later one was passed over once, since that run goes on."""
    assert len(dealt) == TASKS
    for each in dealt:
        assert each.fired == [key_of(each, first)]
        assert each.runs == 1
        assert each.passed == (each.last_slot - first) // PERIOD


def key_of(each: Dealt, slot: datetime) -> str:
    return f"task:{each.task_id}@{slot.isoformat()}"
