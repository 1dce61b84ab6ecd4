"""The run queue's words: what is put in, what a worker holds, what a write is answered with.

Decides their shapes, how a claim is shared out and when a late tick is skipped. It does not
decide what a run is (`runs.py`) and stores nothing. What is made anew at each step of each run is
a named tuple: a frozen dataclass of as many fields takes four times as long to make.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fased.core.names import Namespace, RunId, TaskId
from fased.core.runs import MAX_CRASHES, NewRun, Outcome, RunBody, RunClass, RunResult

OLDEST_SHARE = 5
# A tick this many periods after the one before came late: the process itself stood still.
LATE_PERIODS = 2

Source = tuple[RunClass, Namespace]


class WriteResult(StrEnum):
    """How a fenced write ended. `CANCELLED`: the run was asked to stop and has ended so."""

    WRITTEN = "written"
    CANCELLED = "cancelled"
    STALE = "stale"


class CancelResult(StrEnum):
    """What a cancel did: the run ended, or the worker that holds it was asked to stop."""

    ENDED = "ended"
    FLAGGED = "flagged"


class HeldRun(NamedTuple):
    """A run and the epoch it is held under."""

    run_id: RunId
    epoch: int


@dataclass(frozen=True, slots=True)
class EnqueueItem:
    """All that one event asks for. `key` stands for the event and outlives its runs.

    `parent` is set for children: the run that asks, as its worker holds it.
    """

    namespace: Namespace
    key: str
    runs: tuple[NewRun, ...]
    parent: HeldRun | None = None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What one item made, in its order. `known`: the key had made them before.

    `behind_parked` are the new runs whose lane's head is parked (waits for an approval or for
    children), so that their senders can be told.
    """

    run_ids: tuple[RunId, ...]
    known: bool
    behind_parked: tuple[RunId, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one finished step left, as JSON text; the first write of a step stands."""

    step: str
    value_json: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """What a step of a run left, as JSON text, from who holds the run under that epoch."""

    run_id: RunId
    epoch: int
    step: str
    value_json: str


class LeasedRun(NamedTuple):
    """A run as a worker holds it, by the queue's clock. `wake_seq` is named again when it parks."""

    run_id: RunId
    namespace: Namespace
    epoch: int
    run_class: RunClass
    body: RunBody
    task_id: TaskId | None
    attempts: int
    wake_seq: int
    leased_at: datetime
    deadline_at: datetime
    checkpoints: tuple[Checkpoint, ...] = ()


class Completion(NamedTuple):
    """How a run is to end, if its epoch still is `epoch`: its worker's words, or the queue's."""

    run_id: RunId
    epoch: int
    outcome: Outcome
    result: RunResult
    deliver: bool = False


class CompletionResult(NamedTuple):
    """What became of a completion; `outcome` is what history holds, None when STALE."""

    run_id: RunId
    result: WriteResult
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker is told: runs to stop, and leases of its that it does not know.

    `unknown` were claimed by an answer that never arrived; the service releases them.
    """

    cancel_run_ids: tuple[RunId, ...]
    unknown: tuple[HeldRun, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as people read it, live or ended. `state` is the shown word (design §6).

    `slot_count`, `first_slot` and `last_slot` tell which slots a skipped or missed row stands for.
    """

    run_id: RunId
    namespace: Namespace
    state: str
    run_class: RunClass
    lane: str
    task_id: TaskId | None
    body: RunBody
    attempts: int
    crashes: int
    worker_id: str
    cancel_requested: bool
    last_reason: str
    created_at: datetime
    run_at: datetime
    leased_at: datetime | None
    deadline_at: datetime | None
    result: RunResult | None = None
    ended_at: datetime | None = None
    slot_count: int = 0
    first_slot: datetime | None = None
    last_slot: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunDelivery:
    """What became of one delivery of a result: `state` is pending, sent, unknown or failed."""

    delivery_id: str
    state: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RunCursor:
    """Where a page of runs ended: at a live run (`ended_at` None), or at one of history."""

    run_id: RunId
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Live runs of a namespace by shown state, and the workers of the whole queue."""

    queued: int
    running: int
    parked: int
    delayed: int
    workers: int
    oldest_ready_age_s: float


def claim_quotas(
    ready: Mapping[Source, Sequence[int]],
    max_runs: int,
    message_only: int,
    draw: float,
    order: Sequence[Source],
) -> dict[Source, int]:
    """How many runs a claim takes from each class and namespace (performance §3, law 11).

    `ready` holds the first ready runs of each by number, at most `max_runs`; of a single source
    only how many counts. A fifth goes to the oldest outside the first class; what a fifth leaves
    over is decided by `draw` in [0, 1), so that claims of one run give every class its fifth too.
    Then class by class, one run for each namespace in turn, in `order`, shuffled by the caller:
    an old backlog gains nothing by its age. `message_only` slots take messages only.
    """
    if not ready:
        return {}
    if len(ready) == 1:
        return _of_one(*next(iter(ready.items())), max_runs, message_only)
    taken: Counter[Source] = Counter()
    general = max_runs - message_only
    first_class = min(run_class for run_class, _ in ready)
    oldest = min(int(max_runs / OLDEST_SHARE + draw), general)
    others = sorted(
        (run_id, source)
        for source, ids in ready.items()
        if source[0] > first_class
        for run_id in ids
    )
    for _, source in others[:oldest]:
        taken[source] += 1
    general -= taken.total()
    left = max_runs - taken.total()
    for source in _in_turn(ready, order, taken):
        if left == 0:
            break
        if source[0] is not RunClass.MESSAGE:
            if general == 0:
                break
            general -= 1
        taken[source] += 1
        left -= 1
    return dict(taken)


def _of_one(
    source: Source, ids: Sequence[int], max_runs: int, message_only: int
) -> dict[Source, int]:
    """What `claim_quotas` gives when nobody else has ready runs."""
    slots = max_runs if source[0] is RunClass.MESSAGE else max_runs - message_only
    quota = min(slots, len(ids))
    return {source: quota} if quota else {}


def _in_turn(
    ready: Mapping[Source, Sequence[int]], order: Sequence[Source], taken: Counter[Source]
) -> list[Source]:
    """The runs that are left as their sources: by class, then by turn, then in `order`."""
    turns = [
        (source[0], turn, place, source)
        for place, source in enumerate(order)
        for turn in range(len(ready[source]) - taken[source])
    ]
    return [source for *_, source in sorted(turns)]


def tick_is_late(since_last_s: float, period_s: float) -> bool:
    """Whether a reaper's tick came so late that its process stood still, and must be skipped.

    A process that stood still has not seen the heartbeats of the others in that time.
    """
    return since_last_s > LATE_PERIODS * period_s


def is_lost_for_good(crashes: int) -> bool:
    """Whether a run whose worker was lost, after `crashes` others, is ended as WORKER_LOST."""
    return crashes >= MAX_CRASHES
