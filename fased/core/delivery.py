"""Deliveries: what becomes of a result on its way to a chat. Decides states, what follows a call
to a platform, and refusals; does not send, and does not cut texts (`chunking.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from fased.core.messages import OutboundMessage, Target
from fased.core.names import Namespace, RunId

# What is not delivered by then is not worth sending, where a message does not say itself.
LONGEST_WAIT = timedelta(hours=24)
FIRST_RETRY = timedelta(seconds=1)
LAST_RETRY = timedelta(seconds=60)
# A send that nobody answers again and again is no longer repeated under RESEND.
MAX_UNKNOWNS = 5


class DeliveryState(StrEnum):
    """What became of a delivery, or of one chunk of it. SENDING: a call was begun."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    UNKNOWN = "unknown"
    FAILED = "failed"


class UnknownPolicy(StrEnum):
    """What follows a send whose outcome nobody knows: none, or another, which may double it."""

    HOLD = "hold"
    RESEND = "resend"


class CallEnd(StrEnum):
    """How a call to a platform ended.

    LATER was not carried out and may be; UNFORMATTED was refused for its formatting; MOVED is a
    chat that has another id; UNKNOWN may have been carried out; REFUSED never will be.
    """

    SENT = "sent"
    LATER = "later"
    UNFORMATTED = "unformatted"
    MOVED = "moved"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call came to: `receipt` for SENT, `moved_to` for MOVED, else a reason and sentence.

    `wait` is how long the platform asks to wait for LATER; None leaves it to us.
    """

    end: CallEnd
    receipt: str = ""
    reason: str = ""
    message: str = ""
    wait: timedelta | None = None
    moved_to: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a delivery. `receipt` is the platform's id of the message, `""` until sent.

    `plain` is what is sent where `text` is refused for its formatting. `attempts` counts the
    sends that were begun, `unknowns` those of them whose end nobody saw.
    """

    ordinal: int
    state: DeliveryState
    text: str = ""
    receipt: str = ""
    plain: str = ""
    is_plain: bool = False
    attempts: int = 0
    unknowns: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a chunk becomes after a call: PENDING is to be sent again at `retry_at`."""

    state: DeliveryState
    receipt: str = ""
    reason: str = ""
    message: str = ""
    retry_at: datetime | None = None
    is_plain: bool = False
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message when it was taken in; `reason` and `message` where it failed."""

    state: DeliveryState
    chunks: tuple[Chunk, ...] = ()
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One logical result on its way to a chat, as stored."""

    namespace: Namespace
    id: UUID
    target: Target
    outcome: Outcome
    run_id: RunId | None
    created_at: datetime
    updated_at: datetime


def after_call(
    chunk: Chunk,
    result: CallResult,
    policy: UnknownPolicy,
    *,
    now: datetime,
    deadline: datetime,
    jitter: float,
) -> Step:
    """What becomes of a chunk in SENDING once its call ended so; `jitter` is from 0 to 1.

    Nothing is tried again past `deadline`.
    """
    match result.end:
        case CallEnd.SENT:
            return Step(DeliveryState.SENT, result.receipt, is_plain=chunk.is_plain)
        case CallEnd.UNKNOWN:
            return _after_unknown(chunk, result, policy, now, deadline, jitter)
        case CallEnd.UNFORMATTED if chunk.plain and not chunk.is_plain:
            return Step(DeliveryState.PENDING, retry_at=now, is_plain=True)
        case CallEnd.MOVED if chunk.attempts == 1:
            return Step(DeliveryState.PENDING, retry_at=now, is_plain=chunk.is_plain)
        case CallEnd.LATER | CallEnd.MOVED:
            wait = backoff(chunk.attempts, jitter) if result.wait is None else result.wait
            return _again(chunk, result, now + wait, deadline)
        case _:
            return _failed(chunk, result.reason, result.message)


def backoff(failures: int, jitter: float) -> timedelta:
    """How long to wait after so many failures in a row: doubling, at most a minute, less jitter."""
    doubled = FIRST_RETRY * (1 << min(failures - 1, 16))
    return min(doubled, LAST_RETRY) * (1 - jitter / 2)


def final_state(states: Iterable[DeliveryState]) -> DeliveryState:
    """The state of a delivery whose chunks are in these: PENDING while one of them has no end."""
    found = set(states)
    if found & {DeliveryState.PENDING, DeliveryState.SENDING}:
        return DeliveryState.PENDING
    for state in (DeliveryState.FAILED, DeliveryState.UNKNOWN):
        if state in found:
            return state
    return DeliveryState.SENT


def deadline_of(created_at: datetime, expires_at: datetime | None) -> datetime:
    """Until when a delivery is tried."""
    return expires_at or created_at + LONGEST_WAIT


def sent(receipts: tuple[str, ...]) -> Outcome:
    """Every chunk was sent, and the platform said so."""
    chunks = tuple(
        Chunk(ordinal, DeliveryState.SENT, receipt=receipt)
        for ordinal, receipt in enumerate(receipts)
    )
    return Outcome(DeliveryState.SENT, chunks)


def to_send(texts: Iterable[tuple[str, str]]) -> Outcome:
    """Chunks to send one after the other, each formatted and plain."""
    chunks = tuple(
        Chunk(ordinal, DeliveryState.PENDING, text, plain=plain)
        for ordinal, (text, plain) in enumerate(texts)
    )
    return Outcome(DeliveryState.PENDING, chunks)


def refused(reason: str, message: str, texts: tuple[str, ...]) -> Outcome:
    """None of these texts will be sent, for a reason."""
    chunks = tuple(Chunk(ordinal, DeliveryState.FAILED, text) for ordinal, text in enumerate(texts))
    return Outcome(DeliveryState.FAILED, chunks, reason, message)


def unknown_channel(message: OutboundMessage, texts: tuple[str, ...]) -> Outcome:
    """The refusal of a message to a channel that nothing here serves."""
    channel = message.target.channel
    return refused("UNKNOWN_CHANNEL", f"No channel {channel!r} is set up here.", texts)


def unknown_account(message: OutboundMessage, texts: tuple[str, ...]) -> Outcome:
    """The refusal of a message to an account that is not there."""
    target = message.target
    return refused(
        "ACCOUNT_MISSING", f"No account {target.channel}:{target.account_id} is set up here.", texts
    )


def is_expired(message: OutboundMessage, now: datetime) -> bool:
    """Whether it comes too late to be worth sending."""
    return message.expires_at is not None and now >= message.expires_at


def expired(texts: tuple[str, ...]) -> Outcome:
    """The refusal of a message that came too late."""
    return refused("EXPIRED", "It could not be delivered in time.", texts)


def _after_unknown(
    chunk: Chunk,
    result: CallResult,
    policy: UnknownPolicy,
    now: datetime,
    deadline: datetime,
    jitter: float,
) -> Step:
    retry_at = now + backoff(chunk.unknowns + 1, jitter)
    may_repeat = policy is UnknownPolicy.RESEND and chunk.unknowns + 1 < MAX_UNKNOWNS
    if may_repeat and retry_at < deadline:
        return Step(
            DeliveryState.PENDING, retry_at=retry_at, is_plain=chunk.is_plain, is_unknown=True
        )
    return Step(
        DeliveryState.UNKNOWN,
        reason=result.reason,
        message=result.message,
        is_plain=chunk.is_plain,
        is_unknown=True,
    )


def _again(chunk: Chunk, result: CallResult, retry_at: datetime, deadline: datetime) -> Step:
    if retry_at >= deadline:
        return _failed(chunk, "EXPIRED", f"It could not be delivered in time. {result.message}")
    return Step(
        DeliveryState.PENDING,
        reason=result.reason,
        message=result.message,
        retry_at=retry_at,
        is_plain=chunk.is_plain,
    )


def _failed(chunk: Chunk, reason: str, message: str) -> Step:
    return Step(
        DeliveryState.FAILED, reason=reason, message=message.strip(), is_plain=chunk.is_plain
    )
