"""Rows of the queue as core values, and back. Decides the encoding, and what is too large."""

from functools import lru_cache
from typing import Any
from uuid import UUID

from fased.core.names import Namespace, RunId, SessionKey, TaskId
from fased.core.queue import RunView
from fased.core.runs import (
    LiveState,
    NewRun,
    Outcome,
    RunBody,
    RunClass,
    RunResult,
    session_lane,
    shown_state,
)
from fased.store import codec

Row = Any
# A call of an enumeration costs more than all else that a hot row needs.
RUN_CLASSES = {int(each): each for each in RunClass}
OUTCOMES = {each.value: each for each in Outcome}
# The state of a row: a claim leaves the column at ready, and so writes no index (leases.py).
LIVE_STATE = f"CASE WHEN worker IS NULL THEN state ELSE {int(LiveState.LEASED)} END"
# Of a run's row: whether a claim that is so lists it. An array reaches the runs by primary key.
LISTED = "id = ANY(ARRAY(SELECT unnest(run_ids) FROM scheduler.claim WHERE {}))"
# A larger body leaves the hot row for run_payload (performance §3, law 13).
MAX_HOT_BODY_BYTES = 4096


def is_large(body: str) -> bool:
    """Whether a body, as JSON, is too large for the hot row."""
    return len(body) > MAX_HOT_BODY_BYTES or (
        not body.isascii() and len(body.encode()) > MAX_HOT_BODY_BYTES
    )


@lru_cache(maxsize=2048)
def run_body(text: str) -> RunBody:
    """A body from its JSON; remembered, since the end of a run reads what its claim read."""
    return codec.load(RunBody, text)


def own_lane(run: NewRun) -> str | None:
    """The name of a run's lane as rows hold it: None where it is its session's own."""
    return None if run.lane == session_lane(run.body.session_key) else run.lane


def lane_name(own: str | None, session_key: SessionKey) -> str:
    """The name of a lane from what `own_lane` gave."""
    return session_lane(session_key) if own is None else own


def task_id(value: UUID | None) -> TaskId | None:
    """A task's id, as the driver gives it."""
    return None if value is None else TaskId(str(value))


def uuid_or_none(text: str | None) -> UUID | None:
    """A task's id as the driver wants it."""
    return None if text is None else UUID(text)


def live_view(row: Row) -> RunView:
    """A live run, with its body joined in."""
    return RunView(
        state=shown_state(LiveState(row["state"])),
        cancel_requested=row["cancel"],
        deadline_at=row["deadline_at"],
        **_shared(row),
    )


def ended_view(row: Row) -> RunView:
    """A run of history."""
    return RunView(
        state=row["outcome"],
        cancel_requested=False,
        deadline_at=None,
        result=codec.load(RunResult, row["result"]),
        ended_at=row["ended_at"],
        slot_count=row["slot_count"],
        first_slot=row["first_slot"],
        last_slot=row["last_slot"],
        **_shared(row),
    )


def _shared(row: Row) -> dict[str, Any]:
    body = run_body(row["body"])
    return {
        "run_id": RunId(row["id"]),
        "namespace": Namespace(row["namespace"]),
        "run_class": RunClass(row["class"]),
        "lane": lane_name(row["lane"], body.session_key),
        "task_id": task_id(row["task_id"]),
        "body": body,
        "attempts": row["attempts"],
        "crashes": row["crashes"],
        "worker_id": str(row["worker"] or ""),
        "last_reason": row["last_reason"],
        "created_at": row["created_at"],
        "run_at": row["run_at"],
        "leased_at": row["leased_at"],
    }
