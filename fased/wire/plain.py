"""API messages as plain JSON values: the one shape of HTTP and of `-o json`.

As the JSON form of protobuf, but that numbers stay numbers, enum values lose their prefix
(`TASK_STATE_ACTIVE` is `"active"`), and every field is there: `null` for an unset message.
"""

from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

# Descriptors are Any: the classes that the library's types name and those it gives differ.
Plain = dict[str, Any]


def plain(message: Message) -> Plain:
    """The message as dicts, lists, texts, numbers and booleans, keys in lowerCamelCase."""
    return {field.json_name: _field(message, field) for field in message.DESCRIPTOR.fields}


def id_of(name: str) -> str:
    """The id at the end of a resource name, for kinds whose ids hold no `/`."""
    return name.rpartition("/")[2]


def enum_word(enum: Any, number: int) -> str:
    """An enum's value as one lower-case word; empty when unspecified or unknown here."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value and number else ""


def camel(name: str) -> str:
    """A field name, possibly dotted, as JSON spells it: `reply_to.id` is `replyTo.id`."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {str(key): _value(each, of) for key, each in sorted(value.items())}
    if field.is_repeated:
        return [_value(each, field) for each in value]
    if field.message_type and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if isinstance(value, timestamp_pb2.Timestamp | duration_pb2.Duration):
        return value.ToJsonString()
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type:
        return enum_word(field.enum_type, value)
    return value
