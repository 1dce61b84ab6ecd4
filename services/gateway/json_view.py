"""Protobuf messages as JSON for people: field names as in the protos, numbers as numbers, enums as
lower-case words, times in RFC 3339. Decides the spelling only.
"""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def as_json(message: Message) -> dict[str, Any]:
    """Every field of a message; an unset message field is null."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_value(field, each) for each in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if isinstance(value, Message):
        return as_json(value)
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    return value


def _enum(enum: Any, number: int) -> str:
    """POST_STATE_QUEUED of PostState as `queued`; the zero value as `""`."""
    if number == 0:
        return ""
    if number not in enum.values_by_number:
        return str(number)
    prefix = str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
    return str(enum.values_by_number[number].name).removeprefix(prefix).lower()
