"""Who is stopped, and by which clock a run's deadline goes."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from fased.core.names import AgentId, Namespace, RunId, SessionId, SessionKey
from fased.core.queue import LeasedRun
from fased.core.runs import ExecutionMode, RunBody, RunClass, Trigger
from services.executor.worker.leases import Lease, Leases, StopReason

# Far from this machine's own time, as a queue's clock may be.
DEADLINE = datetime(2031, 1, 1, tzinfo=UTC)


def lease(run_id: int, *, taken_at_s: float = 0.0) -> Lease:
    body = RunBody(
        AgentId("main"),
        SessionKey("agent:main:main"),
        SessionId("s1"),
        ExecutionMode.AGENT_TURN,
        Trigger.MESSAGE,
    )
    run = LeasedRun(
        RunId(run_id), Namespace("one"), 1, RunClass.MESSAGE, body, None, 0, 0, DEADLINE, DEADLINE
    )
    return Lease(run, timedelta(minutes=10), taken_at_s)


async def test_a_word_about_an_earlier_lease_does_not_stop_a_later_one() -> None:
    leases = Leases()
    earlier, later = (asyncio.create_task(asyncio.Event().wait()) for _ in range(2))
    leases.add(lease(1, taken_at_s=10), earlier)
    leases.add(lease(2, taken_at_s=20), later)
    leases.stop([1, 2, 3], StopReason.TOLD, held_since_s=15)
    await asyncio.wait({earlier}, timeout=5)
    assert earlier.cancelled()
    assert not later.cancelling()
    assert leases.stop_reason(lease(1)) is StopReason.TOLD
    assert leases.stop_reason(lease(2)) is None
    later.cancel()


async def test_the_first_reason_to_stop_stands() -> None:
    leases = Leases()
    turn = asyncio.create_task(asyncio.Event().wait())
    leases.add(lease(1), turn)
    leases.stop_all(StopReason.LOST)
    leases.stop_all(StopReason.DRAINED)
    assert leases.stop_reason(lease(1)) is StopReason.LOST
    assert turn.cancelling() == 1


async def test_a_run_that_is_held_no_longer_is_named_to_nobody() -> None:
    leases = Leases()
    turn = asyncio.create_task(asyncio.Event().wait())
    leases.add(lease(1), turn)
    assert leases.ids() == [1]
    leases.remove(lease(1))
    assert leases.ids() == []
    leases.stop_all(StopReason.LOST)
    assert not turn.cancelling()
    turn.cancel()


def test_a_deadline_goes_by_the_queues_clock_and_not_by_this_machines() -> None:
    taken_at_s = time.monotonic() - 60
    held = lease(1, taken_at_s=taken_at_s)
    assert timedelta(minutes=8) < held.left() <= timedelta(minutes=9)
    assert held.now() + held.left() <= DEADLINE + timedelta(seconds=5)
    assert held.now() >= DEADLINE - timedelta(minutes=9)
