"""Frozen dataclasses of the core as JSON in rows, and back. Decides the encoding only."""

from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(cls)


def dump(value: object) -> str:
    """JSON text of a core dataclass; values that equal their default are left out."""
    return _adapter(type(value)).dump_json(value, exclude_defaults=True).decode()


def load(cls: type[T], text: str) -> T:
    """The core dataclass that `dump` wrote; raises ValueError on text of another shape."""
    return _adapter(cls).validate_json(text)
