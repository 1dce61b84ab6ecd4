"""Pairing: how a stranger asks to be let in, and is (behaviour §3).

Decides codes, how long they hold, how many wait and what the stranger is told; not who is a
stranger (`gate.py`), nor who may approve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fased.core.errors import InvalidArgument
from fased.core.gate import GateReason
from fased.core.messages import Sender
from fased.core.names import DEFAULT_NAMESPACE, AccountId, ChannelId, Namespace

# A-Z and 2-9 without the letters that are read as digits: 32 signs, five bits each.
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CODE_CHARS = 8
CODE_RANDOM_BYTES = 5
VALID_FOR = timedelta(hours=1)
MAX_PENDING = 3
MAX_SENDER_ID_CHARS = 256
MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """A stranger who waits for approval on one account until the code expires."""

    code: str
    channel: ChannelId
    account_id: AccountId
    sender: Sender
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AllowedSender:
    """Somebody who may write directly to one account."""

    channel: ChannelId
    account_id: AccountId
    sender: Sender
    created_at: datetime | None = None


def pairing_code(random: bytes) -> str:
    """The code of CODE_RANDOM_BYTES bytes, which must come from a source nobody can guess."""
    if len(random) != CODE_RANDOM_BYTES:
        raise ValueError(f"a pairing code takes {CODE_RANDOM_BYTES} random bytes")
    number = int.from_bytes(random, "big")
    return "".join(ALPHABET[number >> 5 * at & 31] for at in reversed(range(CODE_CHARS)))


def checked_code(text: str) -> str:
    """A code as it is kept, from how a person typed it; raises InvalidArgument for no code."""
    code = text.strip().upper()
    if len(code) != CODE_CHARS or not set(code) <= set(ALPHABET):
        raise InvalidArgument(
            f"{text[:40]!r} is no pairing code: it has {CODE_CHARS} letters and digits, without "
            "0, O, 1 and I",
            reason="INVALID_PAIRING_CODE",
            metadata={"field": "name"},
        )
    return code


def request_pairing(
    known: Sequence[PairingRequest],
    channel: ChannelId,
    account_id: AccountId,
    sender: Sender,
    *,
    now: datetime,
    random: bytes,
) -> PairingRequest | GateReason:
    """The request to keep for a stranger who wrote to an account, or why there is none.

    `known` are requests of that account; those that have expired do not count.
    """
    try:
        sender = checked_sender(sender)
    except InvalidArgument:
        return GateReason.SENDER_UNKNOWN
    pending = [each for each in known if is_pending(each, now)]
    if any(each.sender.id == sender.id for each in pending):
        return GateReason.PAIRING_PENDING
    if len(pending) >= MAX_PENDING:
        return GateReason.PAIRING_FULL
    return PairingRequest(
        pairing_code(random), channel, account_id, sender, now, expires_at=now + VALID_FOR
    )


def is_pending(request: PairingRequest, now: datetime) -> bool:
    """Whether a request may still be approved."""
    return now < request.expires_at


def checked_sender(sender: Sender) -> Sender:
    """A sender that may be allowed; raises InvalidArgument for one without a usable id."""
    sender_id = sender.id.strip()
    if not sender_id or len(sender_id) > MAX_SENDER_ID_CHARS or "\0" in sender_id:
        raise InvalidArgument(
            f"a sender's id has 1 to {MAX_SENDER_ID_CHARS} characters",
            reason="INVALID_SENDER",
            metadata={"field": "sender.id"},
        )
    if sender_id == "*":
        raise InvalidArgument(
            "everybody is let in by the policy open, as in: fased pairing policy --channel "
            "telegram --account default --dm open --allow-from '*'",
            reason="INVALID_SENDER",
            metadata={"field": "sender.id"},
        )
    name = " ".join(sender.display_name.replace("\0", " ").split())
    return Sender(sender_id, name[:MAX_NAME_CHARS])


def notice(request: PairingRequest, namespace: Namespace) -> str:
    """What the stranger is told, once a request."""
    where = "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
    return (
        "I do not know you yet, so your message was not read.\n\n"
        f"Your id on {request.channel}: {request.sender.id}\n"
        f"Pairing code: {request.code}\n\n"
        "Within an hour, ask whoever runs this bot to enter:\n"
        f"`fased pairing approve {request.code}{where}`\n"
        "Then write again."
    )
