"""The runs a worker holds: their clocks, and who was told to stop and why.

Decides nothing about a run; the heartbeat's thread reads here too.
"""

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from fased.core.queue import LeasedRun


class StopReason(Enum):
    """Why a run was stopped before its end."""

    TOLD = auto()
    LOST = auto()
    DRAINED = auto()


@dataclass(frozen=True, slots=True)
class Lease:
    """A run as this worker holds it, with the queue's clock: a worker's own may be wrong.

    `taken_at_s` is this process's monotonic time when the queue said that `time_left` was left.
    """

    run: LeasedRun
    time_left: timedelta
    taken_at_s: float = field(default_factory=time.monotonic)

    def left(self) -> timedelta:
        """What remains until the deadline; negative after it."""
        return self.time_left - timedelta(seconds=time.monotonic() - self.taken_at_s)

    def now(self) -> datetime:
        """The queue's time."""
        return self.run.deadline_at - self.left()


@dataclass(slots=True)
class _Held:
    lease: Lease
    turn: "asyncio.Task[object]"
    stop_reason: StopReason | None = None


class Leases:
    """What this worker holds. All but `ids` belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()

    def add(self, lease: Lease, turn: "asyncio.Task[object]") -> None:
        """Hold a run; `turn` is what a stop cancels."""
        with self._lock:
            self._held[lease.run.run_id] = _Held(lease, turn)

    def remove(self, lease: Lease) -> None:
        """Hold it no longer."""
        with self._lock:
            self._held.pop(lease.run.run_id, None)

    def ids(self) -> list[int]:
        """The runs held now; any thread may ask."""
        with self._lock:
            return list(self._held)

    def stop(self, run_ids: Iterable[int], reason: StopReason, *, held_since_s: float) -> None:
        """Stop those of the runs that were held at the monotonic time `held_since_s`.

        One that was taken later is another lease of the same run: the word is not about it.
        """
        for run_id in run_ids:
            held = self._held.get(run_id)
            if held is not None and held.lease.taken_at_s <= held_since_s and not held.stop_reason:
                held.stop_reason = reason
                held.turn.cancel()

    def stop_all(self, reason: StopReason) -> None:
        """Stop every run."""
        self.stop(self.ids(), reason, held_since_s=time.monotonic())

    def stop_reason(self, lease: Lease) -> StopReason | None:
        """Why the run was stopped; None when it was not."""
        held = self._held.get(lease.run.run_id)
        return None if held is None else held.stop_reason
