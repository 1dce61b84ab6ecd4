"""Deliveries: what becomes of a result on its way to a chat. Decides states and refusals; does
not send, and does not cut texts (`chunking.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from fased.core.messages import OutboundMessage, Target
from fased.core.names import Namespace, RunId


class DeliveryState(StrEnum):
    """What became of a delivery, or of one chunk of it."""

    PENDING = "pending"
    SENT = "sent"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a delivery. `receipt` is the platform's id of the message, `""` until sent."""

    ordinal: int
    state: DeliveryState
    text: str = ""
    receipt: str = ""


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


def sent(receipts: tuple[str, ...]) -> Outcome:
    """Every chunk was sent, and the platform said so."""
    chunks = tuple(
        Chunk(ordinal, DeliveryState.SENT, receipt=receipt)
        for ordinal, receipt in enumerate(receipts)
    )
    return Outcome(DeliveryState.SENT, chunks)


def refused(reason: str, message: str, texts: tuple[str, ...]) -> Outcome:
    """None of these texts will be sent, for a reason."""
    chunks = tuple(Chunk(ordinal, DeliveryState.FAILED, text) for ordinal, text in enumerate(texts))
    return Outcome(DeliveryState.FAILED, chunks, reason, message)


def unknown_channel(message: OutboundMessage, texts: tuple[str, ...]) -> Outcome:
    """The refusal of a message to a channel that nothing here serves."""
    channel = message.target.channel
    return refused("UNKNOWN_CHANNEL", f"No channel {channel!r} is set up here.", texts)


def is_expired(message: OutboundMessage, now: datetime) -> bool:
    """Whether it comes too late to be worth sending."""
    return message.expires_at is not None and now >= message.expires_at


def expired(texts: tuple[str, ...]) -> Outcome:
    """The refusal of a message that came too late."""
    return refused("EXPIRED", "It could not be delivered in time.", texts)
