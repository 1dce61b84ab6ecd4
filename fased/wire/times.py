"""Times between core and protobuf. Unset on the wire is None in core."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from fased.core.durations import EPOCH
from fased.core.errors import InvalidArgument

# Every message passes here many times: protobuf's own conversions take several times as long.
_DAY_S = 86_400
_NANOS = 1_000
_SECOND_NANOS = 1_000_000_000


def to_timestamp(at: datetime | None) -> Timestamp | None:
    """A timestamp; None stays None, which leaves a protobuf field unset."""
    if at is None:
        return None
    since = at - EPOCH
    return Timestamp(seconds=since.days * _DAY_S + since.seconds, nanos=since.microseconds * _NANOS)


def from_timestamp(message: Message, field: str) -> datetime | None:
    """The aware UTC instant in `field` of `message`, None when unset; raises InvalidArgument."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    if not 0 <= stamp.nanos < _SECOND_NANOS:
        raise _out_of_range(field)
    try:
        return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // _NANOS)
    except (ValueError, OverflowError) as exc:
        raise _out_of_range(field) from exc


def to_duration(length: timedelta | None) -> Duration | None:
    """A duration; None stays None."""
    if length is None:
        return None
    duration = Duration()
    duration.FromTimedelta(length)
    return duration


def from_duration(message: Message, field: str) -> timedelta | None:
    """The length in `field` of `message`, None when unset; raises InvalidArgument."""
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    try:
        return duration.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise _out_of_range(field) from exc


def _out_of_range(field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} is out of range", reason="OUT_OF_RANGE", metadata={"field": field}
    )
