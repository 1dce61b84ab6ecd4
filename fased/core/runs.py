"""Runs as values: their classes, states, outcomes, lanes and retries.

Decides which lane a run waits in, when a failed attempt is tried again and which sentence an end
is told with. It does not decide when a run is due (`schedule.py`) and stores nothing.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from fased.core.errors import InvalidArgument
from fased.core.messages import ReplyTo, Sender, Target
from fased.core.names import AgentId, Namespace, RunId, SessionId, SessionKey, TaskId

MAX_CRASHES = 3
MESSAGE_TRIES = 2
MESSAGE_RETRY_CAP = timedelta(seconds=30)
DEFAULT_RUN_FOR = timedelta(minutes=10)
# Behaviour §5: transient failures of task runs; the last step repeats no further.
TASK_BACKOFF = tuple(timedelta(seconds=s) for s in (30, 60, 300, 900, 3600))


class RunClass(IntEnum):
    """What a run is to the order of claims: a lower class goes first (performance §3, law 11)."""

    MESSAGE = 0
    MANUAL = 1
    CHILD = 2
    SCHEDULED = 3


class LiveState(IntEnum):
    """Where a live run stands in the queue; the numbers are the ones the table holds."""

    WAITING = 0
    READY = 1
    LEASED = 2
    PARKED = 3
    DELAYED = 4


class Outcome(StrEnum):
    """How a run ended, as history shows it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    MERGED = "merged"
    MISSED = "missed"


class ExecutionMode(StrEnum):
    """How a run is carried out (behaviour §6)."""

    NO_MODEL = "no-model"
    SKILL_ONLY = "skill-only"
    AGENT_TURN = "agent-turn"
    AUTO = "auto"


class Trigger(StrEnum):
    """What made a run."""

    MESSAGE = "message"
    SCHEDULE = "schedule"
    HEARTBEAT = "heartbeat"
    WEBHOOK = "webhook"
    CHANNEL = "channel"
    MANUAL = "manual"
    EVENT = "event"
    CHILD = "child"


class FailureClass(StrEnum):
    """What a failed attempt says about the next one."""

    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    NETWORK = "network"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    PERMANENT = "permanent"

    @property
    def is_transient(self) -> bool:
        """Whether waiting alone may mend it."""
        return self is not FailureClass.PERMANENT


@dataclass(frozen=True, slots=True)
class RunInput:
    """One message a run answers. `text` is the raw body, `event_id` the inbound event's key."""

    event_id: str
    text: str
    sender: Sender
    received_at: datetime
    reply_to: ReplyTo | None = None


@dataclass(frozen=True, slots=True)
class RunBody:
    """What a run is about, fixed when it is made; it never changes while the run lives.

    `prompt` is the task's text and empty for a message run, whose words are its `inputs`.
    `target` is where the result goes; None keeps it internal. `model` is an explicit choice,
    empty for the Agent's own. `trace` carries W3C trace context. `context_lines` are what was said
    in the group before and not to the Agent, oldest first: untrusted.
    """

    agent_id: AgentId
    session_key: SessionKey
    session_id: SessionId
    mode: ExecutionMode
    trigger: Trigger
    inputs: tuple[RunInput, ...] = ()
    prompt: str = ""
    target: Target | None = None
    model: str = ""
    task_name: str = ""
    slot: datetime | None = None
    parent_run: RunId | None = None
    correlation_id: str = ""
    trace: dict[str, str] = field(default_factory=dict, hash=False)
    context_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to enqueue. `run_at` None means now; a later instant makes it delayed."""

    namespace: Namespace
    lane: str
    run_class: RunClass
    body: RunBody
    run_for: timedelta = DEFAULT_RUN_FOR
    task_id: TaskId | None = None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run ended with. `text` is the answer; `reason` (UPPER_SNAKE), `message` and
    `setup_target` explain an end that is not a success.
    """

    text: str = ""
    reason: str = ""
    message: str = ""
    setup_target: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class EndedRun(NamedTuple):
    """A run at the moment of its end, whatever ended it: what its events are made of.

    `deliver` says whether the result's text goes to the body's target.
    """

    run_id: RunId
    namespace: Namespace
    run_class: RunClass
    task_id: TaskId | None
    epoch: int
    body: RunBody
    outcome: Outcome
    result: RunResult
    deliver: bool
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this long."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again; `reason` is UPPER_SNAKE."""

    reason: str


def session_lane(session_key: SessionKey) -> str:
    """The lane of an agent turn: one turn at a time in a conversation."""
    return f"session:{session_key}"


def task_lane(task_id: TaskId) -> str:
    """The lane of a no-model or skill-only run: it must not wait for a conversation."""
    return f"task:{task_id}"


def child_lane(request_id: str) -> str:
    """A lane of a child's own: in its parent's lane it could never start."""
    return f"child:{request_id}"


def lane_of(mode: ExecutionMode, session_key: SessionKey, task_id: TaskId | None) -> str:
    """The lane a run waits in (performance §3, law 3)."""
    if task_id is not None and mode in (ExecutionMode.NO_MODEL, ExecutionMode.SKILL_ONLY):
        return task_lane(task_id)
    return session_lane(session_key)


def next_task_attempt(failure: FailureClass, attempts: int, jitter: float) -> Retry | GiveUp:
    """Whether a task run that failed for the `attempts`-th time is tried again, and when.

    `jitter` in [0, 1) spreads the wait over +0 to 20 %, so that a thousand tasks that failed
    together do not come back together.
    """
    if not failure.is_transient:
        return GiveUp("PERMANENT_FAILURE")
    if attempts > len(TASK_BACKOFF):
        return GiveUp("RETRIES_EXHAUSTED")
    return Retry(TASK_BACKOFF[attempts - 1] * (1 + 0.2 * jitter))


def next_message_try(
    failure: FailureClass, tries: int, left: timedelta, asked: timedelta | None
) -> Retry | GiveUp:
    """Whether a message run tries its model again inside its lease (≤ 2 tries, ≤ 30 s).

    `left` is what remains of its deadline; `asked` the wait a provider asked for.
    """
    if not failure.is_transient:
        return GiveUp("PERMANENT_FAILURE")
    after = asked if asked is not None else timedelta(seconds=1)
    if tries >= MESSAGE_TRIES:
        return GiveUp("RETRIES_EXHAUSTED")
    if after > min(MESSAGE_RETRY_CAP, left):
        return GiveUp("DEADLINE_TOO_NEAR")
    return Retry(after)


def checked_mode(text: str) -> ExecutionMode:
    """An execution mode, `""` meaning agent-turn; raises InvalidArgument on any other word."""
    try:
        return ExecutionMode(text) if text else ExecutionMode.AGENT_TURN
    except ValueError:
        raise InvalidArgument(
            f"mode {text[:40]!r} is none of {', '.join(ExecutionMode)}",
            reason="INVALID_MODE",
            metadata={"field": "mode"},
        ) from None


def shown_state(state: LiveState) -> str:
    """The word people read for a live run's state (design §6)."""
    return {
        LiveState.WAITING: "queued",
        LiveState.READY: "queued",
        LiveState.LEASED: "running",
        LiveState.PARKED: "parked",
        LiveState.DELAYED: "delayed",
    }[state]


def end_sentence(outcome: Outcome, reason: str, detail: str) -> str:
    """The one line that tells a chat how its message's run ended without an answer."""
    match outcome:
        case Outcome.TIMED_OUT:
            return "No answer: the run reached its deadline and was stopped."
        case Outcome.CANCELLED:
            return "Stopped."
        case Outcome.BLOCKED:
            return detail or f"Blocked: {reason}."
        case _ if reason == "WORKER_LOST":
            return "No answer: the worker was lost four times in a row (WORKER_LOST)."
        case _:
            return f"No answer: {detail or reason}"
