"""What a task's due slots come to: the runs to start, the rows for those that do not run.

Decides missed slots (by `missed.py`), overlap with live runs, and the end of a schedule. It does
not decide when slots fall (`schedule.py`), and neither locks nor stores anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from fased.core import missed, runs, schedule, schedule_text, task_text
from fased.core.errors import InvalidArgument
from fased.core.names import RunId, SessionId
from fased.core.runs import LiveState, NewRun, Outcome, RunBody, RunClass, Trigger
from fased.core.schedule import Schedule
from fased.core.tasks import Overlap, Task

_NOT_STARTED = frozenset({LiveState.WAITING, LiveState.READY, LiveState.DELAYED})


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A live run of the task, as overlap looks at it."""

    run_id: RunId
    state: LiveState
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Contiguous slots that do not run: `outcome` is MISSED or SKIPPED, both ends inclusive.

    `after` is the slot before the first: a row of the same outcome that ends there is extended.
    """

    outcome: Outcome
    first_slot: datetime
    last_slot: datetime
    count: int
    after: datetime | None


@dataclass(frozen=True, slots=True)
class FirePlan:
    """What a fire does: `starts` are the slots that run, ascending.

    `cancel` is not empty where live runs must be asked to end first; then nothing else is done
    yet, and the slots are planned again. `next_at` None ends the schedule.
    """

    starts: tuple[datetime, ...] = ()
    gaps: tuple[Gap, ...] = ()
    cancel: tuple[RunId, ...] = ()
    last_slot: datetime | None = None
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Disable:
    """The task cannot fire until somebody mends it; `reason` is UPPER_SNAKE."""

    reason: str
    message: str


def plan_fire(
    task: Task,
    due_at: datetime,
    last_slot: datetime | None,
    live: Sequence[LiveRun],
    now: datetime,
) -> FirePlan | Disable:
    """Deals with `due_at`, the slot that was waited for, and with all after it up to `now`.

    `last_slot` is the last one dealt with: no slot up to it fires again, whatever the clock says.
    """
    try:
        planned = schedule_of(task)
        if planned is None:
            return Disable("NO_SCHEDULE", "it has no schedule.")
        if last_slot is not None and due_at <= last_slot:
            again = schedule.first_slot(planned, now, last_slot=last_slot, task_id=task.id)
            return FirePlan(last_slot=last_slot, next_at=again)
        return _plan(task, planned, due_at, last_slot, live, now)
    except InvalidArgument as error:
        return Disable(error.reason, f"its next run cannot be computed: {error.message}.")


def schedule_of(task: Task) -> Schedule | None:
    """The task's schedule, None for a manual one; raises InvalidArgument where it is unreadable."""
    if task.created_at is None:
        raise ValueError("a stored task has a time of creation")
    return schedule_text.from_trigger(task.trigger, task.created_at)


def run_of(
    task: Task, run_class: RunClass, trigger: Trigger, *, slot: datetime | None = None
) -> NewRun:
    """A run of the task. Its session id is empty: the executor resolves it when the run starts."""
    return NewRun(
        namespace=task.namespace,
        lane=runs.lane_of(task.mode, task.session_key, task.id),
        run_class=run_class,
        body=RunBody(
            agent_id=task.agent_id,
            session_key=task.session_key,
            session_id=SessionId(""),
            mode=task.mode,
            trigger=trigger,
            prompt=task.prompt,
            target=task.target,
            model=task.model,
            task_name=task.name,
            slot=slot,
        ),
        run_for=task.run_for,
        task_id=task.id,
    )


def slot_key(task: Task, slot: datetime) -> str:
    """The enqueue key of a slot: one for each task and slot, whoever fires it."""
    return f"task:{task.id}@{slot.isoformat()}"


def disabled_sentence(task: Task, why: str) -> str:
    """The line that tells a chat that its task no longer runs, and how to resume it."""
    return (
        f"Task **{task.name}** was disabled: {why} "
        f"Mend it, then /task resume {task_text.short_id(task.id)}."
    )


def _plan(
    task: Task,
    planned: Schedule,
    due_at: datetime,
    last_slot: datetime | None,
    live: Sequence[LiveRun],
    now: datetime,
) -> FirePlan:
    dealt = missed.catch_up(
        planned, due_at, now, task.missed,
        limit=task.missed_limit, within=task.missed_within, task_id=task.id,
    )  # fmt: skip
    room = _room(task.overlap, live, len(dealt.fires))
    cancel = _to_cancel(task.overlap, live) if dealt.fires else ()
    if cancel:
        return FirePlan(cancel=cancel, last_slot=last_slot, next_at=due_at)
    cut = len(dealt.fires) - room
    gaps = []
    if dealt.missed is not None:
        lost = dealt.missed
        gaps.append(
            Gap(Outcome.MISSED, lost.first_slot, lost.last_slot, lost.count, after=last_slot)
        )
    if skipped := dealt.fires[:cut]:
        before = gaps[-1].last_slot if gaps else last_slot
        gaps.append(Gap(Outcome.SKIPPED, skipped[0], skipped[-1], cut, after=before))
    return FirePlan(dealt.fires[cut:], tuple(gaps), (), dealt.last_slot, dealt.next_slot)


def _room(overlap: Overlap, live: Sequence[LiveRun], wanted: int) -> int:
    """How many of the slots may start a run, the newest ones.

    Slots that are caught up together do not overlap one another: their lane puts them in a row.
    """
    if not live:
        return wanted
    match overlap:
        case Overlap.SKIP:
            return 0
        case Overlap.QUEUE:
            return 0 if any(run.state in _NOT_STARTED for run in live) else min(wanted, 1)
        case Overlap.REPLACE:
            return wanted
    assert_never(overlap)


def _to_cancel(overlap: Overlap, live: Sequence[LiveRun]) -> tuple[RunId, ...]:
    if overlap is not Overlap.REPLACE:
        return ()
    return tuple(run.run_id for run in live if not run.cancel_requested)
