"""The run queue in memory, one caller at a time: small enough to be seen to be right.

Speaks in the words of the store's functions, so that a state machine can ask both. Numbers of
runs and leases may be told to it (`ids`, `leases`), since a database chooses its own. Time is a
whole number of ticks.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fased.core.errors import FailedPrecondition, FasedError, NotFound
from fased.core.queue import CancelResult, WriteResult, is_lost_for_good
from fased.core.runs import LiveState, Outcome

LEASE_TICKS = 3
RUN_TICKS = 5
HEADS = (LiveState.READY, LiveState.LEASED, LiveState.PARKED)


class IllegalAnswer(AssertionError):
    """The database answered what no order of calls allows."""


@dataclass
class Run:
    """A live run. `epoch` is 0 whenever no worker can know it."""

    id: int
    lane: str
    seq: int
    parent: int | None = None
    state: LiveState = LiveState.WAITING
    epoch: int = 0
    worker: str | None = None
    cancel: bool = False
    attempts: int = 0
    crashes: int = 0
    wake_seq: int = 0
    left: int = RUN_TICKS
    deadline: int = 0
    run_at: int = 0
    wake_at: int | None = None


@dataclass
class Queue:
    """All live runs, history (outcome and the epoch its worker ended it under), keys, workers."""

    now: int = 0
    live: dict[int, Run] = field(default_factory=dict)
    ended: dict[int, tuple[Run, Outcome, int]] = field(default_factory=dict)
    keys: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    workers: dict[str, int | None] = field(default_factory=dict)
    steps: dict[tuple[int, str], str] = field(default_factory=dict)
    last_id: int = 0
    last_epoch: int = 0

    # What the scheduler and its clients ask.

    def enqueue(
        self,
        key: str,
        lanes: tuple[str, ...],
        delay: int = 0,
        parent: tuple[int, int] | None = None,
        ids: tuple[int, ...] | None = None,
    ) -> tuple[tuple[int, ...], bool]:
        if key in self.keys:
            return self.keys[key], True
        if parent is not None:
            self._check_parent(*parent)
        if ids is None:
            ids = tuple(range(self.last_id + 1, self.last_id + 1 + len(lanes)))
        if len(ids) != len(lanes) or not self.live.keys().isdisjoint(ids):
            raise IllegalAnswer(f"{key} was new, and made {ids}")
        self.last_id = max(self.last_id, *ids)
        for run_id, lane in zip(ids, lanes, strict=True):
            run = Run(run_id, lane, self._number(lane), parent[0] if parent else None)
            run.run_at = self.now + delay
            run.state = LiveState.DELAYED if delay else LiveState.WAITING
            self.live[run_id] = run
        self.keys[key] = ids
        self._promote(lanes)
        return ids, False

    def cancel(self, run_id: int) -> CancelResult:
        run = self.live.get(run_id)
        if run is None:
            self._require_ended(run_id)
            raise FailedPrecondition("", reason="RUN_TERMINAL")
        if run.state is LiveState.LEASED:
            run.cancel = True
            return CancelResult.FLAGGED
        self._end({run_id: Outcome.CANCELLED})
        return CancelResult.ENDED

    def wake(self, run_id: int) -> None:
        if run_id not in self.live:
            raise NotFound("", reason="RUN_NOT_FOUND")
        self._wake([run_id])

    def retry(self, run_id: int) -> None:
        if run_id in self.live:
            raise FailedPrecondition("", reason="RUN_LIVE")
        self._require_ended(run_id)
        run, outcome, _ = self.ended[run_id]
        if outcome is Outcome.SUCCEEDED:
            raise FailedPrecondition("", reason="NOT_RETRYABLE")
        del self.ended[run_id]
        self.live[run_id] = Run(run_id, run.lane, self._number(run.lane), run_at=self.now)
        self._promote([run.lane])

    # What a worker says.

    def claim(
        self, worker: str, max_runs: int, leases: list[tuple[int, int]] | None = None
    ) -> list[tuple[int, int]]:
        self.workers.setdefault(worker, self.now + LEASE_TICKS)
        ready = sorted(run.id for run in self.live.values() if run.state is LiveState.READY)
        if not ready:
            expected = 0
        elif self.workers[worker] is None:
            raise FailedPrecondition("", reason="LEASE_LOST")
        else:
            expected = min(max_runs, len(ready)) if self._is_alive(worker) else 0
        if leases is None:
            leases = [
                (run_id, self.last_epoch + 1 + n) for n, run_id in enumerate(ready[:expected])
            ]
        if len(leases) > expected or not {run_id for run_id, _ in leases} <= set(ready):
            raise IllegalAnswer(f"claimed {leases}, ready were {ready}")
        self._lease(worker, leases)
        return leases

    def heartbeat(self, worker: str) -> None:
        if self.workers.get(worker) is None:
            raise FailedPrecondition("", reason="LEASE_LOST")
        self.workers[worker] = self.now + LEASE_TICKS

    def complete(self, run_id: int, epoch: int, outcome: Outcome) -> WriteResult:
        run = self._held(run_id, epoch)
        if run is not None:
            self._end({run_id: outcome}, epoch=epoch)
        if run_id not in self.ended or self.ended[run_id][2] != epoch:
            return WriteResult.STALE
        if self.ended[run_id][1] is Outcome.CANCELLED:
            return WriteResult.CANCELLED
        return WriteResult.WRITTEN

    def go_on(
        self,
        run_id: int,
        epoch: int,
        outcome: Outcome,
        worker: str,
        leases: list[tuple[int, int]] | None = None,
    ) -> tuple[WriteResult, list[tuple[int, int]]]:
        """Complete, and lease what waits behind the run, if nobody waits to be claimed."""
        run = self._held(run_id, epoch)
        expected: list[int] = []
        if run is not None:
            self._end({run_id: outcome}, epoch=epoch, keep=run.lane)
            expected = self._next_for(worker, run.lane)
        if leases is None:
            leases = [(next_id, self.last_epoch + 1) for next_id in expected]
        if [next_id for next_id, _ in leases] != expected:
            raise IllegalAnswer(f"went on with {leases}, expected were {expected}")
        self._lease(worker, leases)
        if run is not None:
            self._promote([run.lane])
        return self.complete(run_id, epoch, outcome), leases

    def park(self, run_id: int, epoch: int, wake_seq: int, wake_in: int | None) -> WriteResult:
        run, result = self._give_up(run_id, epoch)
        if run is not None and run.wake_seq > wake_seq:
            run.state = LiveState.READY
        elif run is not None:
            run.state = LiveState.PARKED
            run.wake_at = None if wake_in is None else self.now + wake_in
        return result

    def release(self, run_id: int, epoch: int) -> WriteResult:
        run, result = self._give_up(run_id, epoch)
        if run is not None:
            run.state = LiveState.READY
        return result

    def reschedule(self, run_id: int, epoch: int, delay: int) -> WriteResult:
        run, result = self._give_up(run_id, epoch)
        if run is not None:
            run.state, run.run_at = LiveState.DELAYED, self.now + delay
            run.attempts += 1
            self._promote([run.lane])
        return result

    def checkpoint(self, run_id: int, epoch: int, step: str, value: str) -> str | None:
        if self._held(run_id, epoch) is None:
            return None
        return self.steps.setdefault((run_id, step), value)

    # What time does.

    def recover(self) -> None:
        for worker, expires in self.workers.items():
            if expires is not None and expires <= self.now:
                self.workers[worker] = None
        lost = {}
        for run in self._leased():
            if self._is_alive(run.worker):
                continue
            if run.cancel or is_lost_for_good(run.crashes):
                lost[run.id] = Outcome.FAILED
            else:
                run.state, run.epoch, run.worker = LiveState.READY, 0, None
                run.crashes += 1
        self._end(lost)
        self._end({r.id: Outcome.TIMED_OUT for r in self._leased() if r.deadline <= self.now})

    def settle(self) -> None:
        """Only how a lease is stored changes, and that is nobody's to see."""

    def return_due(self) -> None:
        due = [
            r for r in self.live.values() if r.state is LiveState.DELAYED and r.run_at <= self.now
        ]
        for run in sorted(due, key=lambda run: (run.run_at, run.id)):
            run.state, run.seq = LiveState.WAITING, self._number(run.lane)
        self._promote(run.lane for run in due)

    def wake_expired(self) -> None:
        self._wake(
            run.id
            for run in self.live.values()
            if run.state is LiveState.PARKED and run.wake_at is not None and run.wake_at <= self.now
        )

    # What all of them share.

    def snapshot(self) -> tuple[dict[int, Any], dict[int, str]]:
        """Live runs and outcomes in the form that the database is read in."""
        live = {
            r.id: (r.lane, r.seq, int(r.state), r.cancel, r.attempts, r.crashes, r.wake_seq)
            for r in self.live.values()
        }
        return live, {run_id: outcome.value for run_id, (_, outcome, _) in self.ended.items()}

    def _leased(self) -> list[Run]:
        return [run for run in self.live.values() if run.state is LiveState.LEASED]

    def _lease(self, worker: str, leases: list[tuple[int, int]]) -> None:
        for run_id, epoch in leases:
            run = self.live[run_id]
            run.state, run.epoch, run.worker = LiveState.LEASED, epoch, worker
            run.deadline = self.now + run.left
            self.last_epoch = max(self.last_epoch, epoch)

    def _next_for(self, worker: str, lane: str) -> list[int]:
        """The run that a worker which ended a lane's head goes on with."""
        runs = list(self.live.values())
        waiting = [run for run in runs if run.lane == lane and run.state is LiveState.WAITING]
        is_ready = any(run.state is LiveState.READY for run in runs)
        if not waiting or is_ready or not self._is_alive(worker):
            return []
        return [min(waiting, key=lambda run: run.seq).id]

    def _held(self, run_id: int, epoch: int) -> Run | None:
        run = self.live.get(run_id)
        return run if run is not None and run.epoch == epoch else None

    def _is_alive(self, worker: str | None) -> bool:
        expires = self.workers.get(worker or "")
        return expires is not None and expires > self.now

    def _number(self, lane: str) -> int:
        self.numbers[lane] += 1
        return self.numbers[lane]

    def _require_ended(self, run_id: int) -> None:
        if run_id not in self.ended:
            raise NotFound("", reason="RUN_NOT_FOUND")

    def _check_parent(self, run_id: int, epoch: int) -> None:
        run = self.live.get(run_id)
        was_cancelled = run_id in self.ended and self.ended[run_id][1] is Outcome.CANCELLED
        if was_cancelled or (run is not None and run.cancel):
            raise FailedPrecondition("", reason="CANCELLED")
        if run is None or run.epoch != epoch:
            raise FailedPrecondition("", reason="STALE")

    def _give_up(self, run_id: int, epoch: int) -> tuple[Run | None, WriteResult]:
        run = self._held(run_id, epoch)
        if run is None:
            return None, WriteResult.STALE
        if run.cancel:
            self._end({run_id: Outcome.CANCELLED})
            return None, WriteResult.CANCELLED
        run.left = max(0, run.deadline - self.now)
        run.epoch, run.worker = 0, None
        return run, WriteResult.WRITTEN

    def _end(self, outcomes: dict[int, Outcome], epoch: int = 0, keep: str = "") -> None:
        """End runs together, then their children, wave by wave; then wake parents and promote.

        The lane `keep` is left without a head.
        """
        gone: list[Run] = []
        while outcomes:
            wave = [self.live.pop(run_id) for run_id in outcomes]
            for run in wave:
                outcome = Outcome.CANCELLED if run.cancel else outcomes[run.id]
                self.ended[run.id] = (run, outcome, epoch)
            epoch = 0
            gone += wave
            outcomes = {}
            for child in self.live.values():
                if child.parent not in {run.id for run in wave}:
                    continue
                if child.state is LiveState.LEASED:
                    child.cancel = True
                else:
                    outcomes[child.id] = Outcome.CANCELLED
        self._wake({run.parent for run in gone if run.parent in self.live})
        self._promote(run.lane for run in gone if run.lane != keep)

    def _wake(self, run_ids: Iterable[int | None]) -> None:
        for run_id in list(run_ids):
            run = self.live[run_id or 0]
            run.wake_seq += 1
            if run.state is LiveState.PARKED:
                run.state, run.wake_at = LiveState.READY, None

    def _promote(self, lanes: Iterable[str]) -> None:
        for lane in set(lanes):
            runs = [run for run in self.live.values() if run.lane == lane]
            waiting = [run for run in runs if run.state is LiveState.WAITING]
            if waiting and not any(run.state in HEADS for run in runs):
                min(waiting, key=lambda run: run.seq).state = LiveState.READY


def answer(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call answers, an error by its reason."""
    try:
        return call(*args, **kwargs)
    except FasedError as exc:
        return exc.reason
