"""Tasks as values: saved work owned by an Agent and a Session.

Decides a task's shape, which changes are allowed and what a fire, an overlap and an end do to it.
It does not decide when slots fall (`schedule.py`).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from fased.core.errors import InvalidArgument
from fased.core.messages import Target
from fased.core.names import AgentId, Namespace, SessionKey, TaskId
from fased.core.runs import DEFAULT_RUN_FOR, ExecutionMode

MAX_NAME_CHARS = 80
MAX_PROMPT_CHARS = 16_000
# A task that fails for good this often in a row is disabled, with a notice (behaviour §5).
FAILURES_TO_DISABLE = 5


class TriggerKind(StrEnum):
    """What starts a task's runs."""

    MANUAL = "manual"
    AT = "at"
    EVERY = "every"
    CRON = "cron"


class Overlap(StrEnum):
    """What a slot does while a run of the task still lives."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class MissedPolicy(StrEnum):
    """What becomes of slots that passed while nobody could fire them."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"
    WITHIN = "within"


class TaskState(StrEnum):
    """Whether a task fires: only `active` ones do."""

    ACTIVE = "active"
    PAUSED = "paused"
    BLOCKED = "blocked"
    DISABLED = "disabled"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class TriggerSpec:
    """When a task fires. `expr` is a cron expression, a duration or an instant, as written.

    `anchor_at` pins the grid of `every`; `timezone` is an IANA name, empty for UTC.
    """

    kind: TriggerKind
    expr: str = ""
    timezone: str = ""
    anchor_at: datetime | None = None
    stagger: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Task:
    """A saved task. `target` None keeps results internal; `reason` and `message` explain a state
    that does not fire, `setup_target` names what to set up.
    """

    namespace: Namespace
    id: TaskId
    name: str
    agent_id: AgentId
    session_key: SessionKey
    prompt: str
    trigger: TriggerSpec
    mode: ExecutionMode = ExecutionMode.AGENT_TURN
    model: str = ""
    target: Target | None = None
    overlap: Overlap = Overlap.SKIP
    missed: MissedPolicy = MissedPolicy.ONCE
    missed_limit: int = 0
    missed_within: timedelta = timedelta(0)
    run_for: timedelta = DEFAULT_RUN_FOR
    state: TaskState = TaskState.ACTIVE
    reason: str = ""
    message: str = ""
    setup_target: str = ""
    failures_in_row: int = 0
    generation: int = 1
    managed_by: str = ""
    zone_data: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    next_at: datetime | None = None
    last_slot: datetime | None = None
    last_outcome: str = ""
    last_run_id: int | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)


def checked_name(name: str) -> str:
    """A task's name, trimmed; raises InvalidArgument when empty or too long."""
    trimmed = " ".join(name.split())
    if not trimmed or len(trimmed) > MAX_NAME_CHARS:
        raise InvalidArgument(
            f"a task's name has 1 to {MAX_NAME_CHARS} characters",
            reason="INVALID_NAME",
            metadata={"field": "name"},
        )
    return trimmed


def checked_prompt(prompt: str) -> str:
    """A task's prompt; raises InvalidArgument when empty or too long."""
    if not prompt.strip() or len(prompt) > MAX_PROMPT_CHARS:
        raise InvalidArgument(
            f"a task's prompt has 1 to {MAX_PROMPT_CHARS} characters",
            reason="INVALID_PROMPT",
            metadata={"field": "prompt"},
        )
    return prompt
