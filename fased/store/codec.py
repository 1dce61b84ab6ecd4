"""Frozen dataclasses of the core as JSON in rows, and back. Decides the encoding only."""

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def dump(value: Any) -> str:
    """JSON text of a core dataclass; values that equal their default are left out."""
    # The serializer itself: around it, an adapter's own method costs three times as much.
    return _adapter_of(type(value)).serializer.to_json(value, exclude_defaults=True).decode()


def load(cls: type[T], text: str) -> T:
    """The core dataclass that `dump` wrote; raises ValueError on text of another shape."""
    loaded: T = _adapter_of(cls).validator.validate_json(text)
    return loaded


def to_jsonable(value: Any) -> Any:
    """JSON values (dicts, lists, texts) of a core dataclass, for a driver that encodes them."""
    return _adapter_of(type(value)).dump_python(value, mode="json", exclude_defaults=True)


def from_jsonable(cls: type[T], value: Any) -> T:
    """The core dataclass that `to_jsonable` took apart; raises ValueError on another shape."""
    adapter: TypeAdapter[T] = _adapter_of(cls)
    return adapter.validate_python(value)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _adapter_of(cls: Any) -> TypeAdapter[Any]:
    # The checker takes a type object for unhashable, which `cache` needs: `Any` says nothing.
    return _adapter(cls)
