"""What the scheduler does by itself: fires, recovers, recalls, sweeps, measures. Decides when each
begins; what it does is the store's and the core's.

A tick that fails is logged and comes again: all of them pick up where the last one stopped.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from fased.core import queue as core_queue
from fased.core.errors import FasedError
from fased.core.firing import Disable
from fased.core.runs import LiveState
from fased.core.tasks import FAILURES_TO_DISABLE
from fased.process import Host
from fased.store import answers, notify, tasks, transient
from fased.store.queue import delay, depth, fire, leases, park, partitions, recover, sweep
from fased.telemetry import metrics
from services.scheduler import hints
from services.scheduler.announce import announce, disabled
from services.scheduler.connections import pooled
from services.scheduler.settings import SchedulerSettings

# A slot is fired at its time; this bounds how late a hint from elsewhere may be lost.
FIRE_POLL_S = 0.25
# Others hold the rows that are due: they will be done in a moment.
CONTENDED_S = 0.02
REAP_PERIOD_S = 1.0
RECALL_PERIOD_S = 0.5
FAILING_PERIOD_S = 1.0
SWEEP_PERIOD_S = 60.0
MEASURE_PERIOD_S = 10.0
BATCH = 500
# A run that is leased longer than this is no longer stepped over by claims.
SETTLED_AFTER = timedelta(seconds=1)
LANE_IDLE = timedelta(minutes=10)
WORKER_GONE = timedelta(hours=1)

logger = structlog.get_logger(__name__)


class Loops:
    """The loops of one scheduler; any number of schedulers may run them."""

    def __init__(self, host: Host, settings: SchedulerSettings) -> None:
        self._host = host
        self._pool = host.database.queue
        self._settings = settings

    async def fire(self) -> None:
        """Fire what is due, at its time."""
        stirred = asyncio.Event()
        with self._host.hints.listen(stirred.set, hints.TASKS_DUE):
            while not self._host.stop.is_set():
                stirred.clear()
                wait_s = await self._guarded("fire", self._fire_once) or 0.0
                if wait_s > 0:
                    await notify.wait_any(wait_s, stirred, self._host.stop)

    async def reap(self) -> None:
        """Take runs back from workers that are gone, and end those past their deadline.

        A tick that comes late is skipped: the whole process stood still, and has not seen the
        others' heartbeats.
        """
        last_s = time.monotonic()
        while await self._next_tick(REAP_PERIOD_S):
            since_s, last_s = time.monotonic() - last_s, time.monotonic()
            if core_queue.tick_is_late(since_s, REAP_PERIOD_S * 1.2):
                logger.warning("reaper_tick_skipped", late_s=round(since_s, 3))
                continue
            await self._guarded("reap", self._reap_once)

    async def recall(self) -> None:
        """Bring back delayed and parked runs whose time has come."""
        while await self._next_tick(RECALL_PERIOD_S):
            await self._guarded("recall", self._recall_once)

    async def watch_failures(self) -> None:
        """Disable tasks that have failed for good too often in a row."""
        while await self._next_tick(FAILING_PERIOD_S):
            await self._guarded("watch_failures", self._disable_failing)

    async def sweep(self) -> None:
        """Keep the tables small and history's partitions ahead, from the start on."""
        while not self._host.stop.is_set():
            await self._guarded("sweep", self._sweep_once)
            await self._next_tick(SWEEP_PERIOD_S)

    async def measure(self) -> None:
        """Tell Prometheus how deep the queue is."""
        while not self._host.stop.is_set():
            await self._guarded("measure", self._measure_once)
            await self._next_tick(MEASURE_PERIOD_S)

    async def _fire_once(self) -> float:
        """One pass; answers with the seconds to wait before the next."""
        async with pooled(self._pool) as conn:
            left = await fire.next_due_in(conn)
            if left is None or left > timedelta(0):
                wait_s = FIRE_POLL_S if left is None else left.total_seconds()
                return min(wait_s, FIRE_POLL_S)
            fired = await fire.fire_due(conn, announce, disabled)
        if fired.started or fired.passed or fired.disabled or fired.cancelled:
            hints.runs_changed(self._host.hints)
            return 0.0
        return CONTENDED_S * random.uniform(0.5, 1.5)

    async def _reap_once(self) -> float:
        async with pooled(self._pool) as conn:
            done = await recover.recover(conn, announce, BATCH)
            await _drained(lambda: leases.settle(conn, SETTLED_AFTER))
            await _drained(lambda: leases.forget_claims(conn, SETTLED_AFTER))
        if done.total:
            logger.warning(
                "runs_recovered", ready=done.ready, lost=done.lost, timed_out=done.timed_out
            )
            hints.runs_changed(self._host.hints)
        return 0.0

    async def _recall_once(self) -> float:
        async with pooled(self._pool) as conn:
            returned = await delay.return_due(conn, BATCH) + await park.wake_expired(conn, BATCH)
        if returned:
            hints.runs_changed(self._host.hints)
        return 0.0

    async def _disable_failing(self) -> float:
        why = Disable("FAILED_REPEATEDLY", f"it failed {FAILURES_TO_DISABLE} times in a row.")
        async with pooled(self._pool) as conn:
            found = await tasks.failing(conn)
            for namespace, task_id in found:
                await fire.disable(conn, namespace, task_id, why, disabled)
        if found:
            hints.runs_changed(self._host.hints)
        return 0.0

    async def _sweep_once(self) -> float:
        async with pooled(self._pool) as conn:
            await partitions.make_partitions(conn)
            await partitions.drop_partitions(conn, self._settings.history_days)
            if headless := await sweep.repair_headless(conn):
                logger.error("headless_lanes_repaired", lanes=headless)
                hints.runs_changed(self._host.hints)
            history = timedelta(days=self._settings.history_days + 1)
            keys = timedelta(days=self._settings.key_days)
            await _drained(lambda: sweep.prune_lanes(conn, LANE_IDLE))
            await _drained(lambda: sweep.prune_workers(conn, WORKER_GONE))
            await _drained(lambda: sweep.prune_keys(conn, keys))
            await _drained(lambda: answers.prune(conn, keys))
            await _drained(lambda: sweep.prune_checkpoints(conn, history))
            await _drained(lambda: sweep.prune_deliveries(conn, history))
        return 0.0

    async def _measure_once(self) -> float:
        async with pooled(self._pool) as conn:
            found = await depth.read(conn)
        for (state, run_class), each in found.items():
            class_name = run_class.name.lower()
            metrics.queue_runs.labels(state.name.lower(), class_name).set(each.runs)
            if state is LiveState.READY:
                metrics.queue_ready_seconds.labels(class_name).set(max(0.0, each.oldest_s))
        return 0.0

    async def _next_tick(self, period_s: float) -> bool:
        """Wait about a period; False when it is time to stop."""
        await notify.wait_any(period_s * random.uniform(0.8, 1.2), self._host.stop)
        return not self._host.stop.is_set()

    async def _guarded(self, name: str, tick: Callable[[], Awaitable[float]]) -> float | None:
        """What the tick answers; after a failure that may mend, a pause and None."""
        try:
            return await tick()
        except (FasedError, *transient.DRIVER_ERRORS) as exc:
            logger.warning("scheduler_tick_failed", tick=name, error=repr(exc))
            await self._next_tick(1.0)
            return None


async def _drained(prune: Callable[[], Awaitable[int]]) -> None:
    """Prune batch by batch until a batch is not full of what may go."""
    while await prune():
        pass
