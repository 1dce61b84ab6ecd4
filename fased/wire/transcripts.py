"""Transcript entries between core and protobuf; nothing else."""

from fased.api.executor.v1 import transcript_pb2
from fased.core.errors import InvalidArgument
from fased.core.names import RunId, SessionId, SessionKey
from fased.core.transcripts import Role, TranscriptEntry
from fased.wire.times import from_timestamp, to_timestamp


def entry_to_pb(entry: TranscriptEntry) -> transcript_pb2.TranscriptEntry:
    """One line of a conversation."""
    return transcript_pb2.TranscriptEntry(
        session_key=entry.session_key,
        session_id=entry.session_id,
        run_id=entry.run_id,
        step=entry.step,
        ordinal=entry.ordinal,
        role=entry.role,
        text=entry.text,
        sender=entry.sender,
        event_id=entry.event_id,
        create_time=to_timestamp(entry.created_at),
        sequence=entry.sequence,
        undelivered=entry.undelivered,
    )


def entry_from_pb(entry: transcript_pb2.TranscriptEntry) -> TranscriptEntry:
    """One line of a conversation; raises InvalidArgument for an unknown role."""
    return TranscriptEntry(
        session_key=SessionKey(entry.session_key),
        session_id=SessionId(entry.session_id),
        run_id=RunId(entry.run_id),
        step=entry.step,
        ordinal=entry.ordinal,
        role=_role(entry.role),
        text=entry.text,
        sender=entry.sender,
        event_id=entry.event_id,
        created_at=from_timestamp(entry, "create_time"),
        sequence=entry.sequence,
        undelivered=entry.undelivered,
    )


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise InvalidArgument(
            f"role {text[:40]!r} is none of {', '.join(Role)}",
            reason="INVALID_ROLE",
            metadata={"field": "entries.role"},
        ) from None
