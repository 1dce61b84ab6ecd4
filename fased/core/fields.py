"""Typed fields out of decoded JSON: names the path where the shape is wrong.

Decides what counts as text, a flag, a number, a list, an object. It does not decide which fields
there are (`configuration.py`). A missing field and `null` are the same everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence

from fased.core.errors import InvalidArgument
from fased.core.findings import Finding


def object_at(value: object, path: str) -> Mapping[str, object]:
    """An object's fields; none for null. Raises InvalidArgument for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_shape(path, "an object", value)
    return {str(key): field for key, field in value.items()}


def list_at(value: object, path: str) -> Sequence[object]:
    """A list's items; none for null. Raises InvalidArgument for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise wrong_shape(path, "a list", value)
    return value


def text_at(value: object, path: str) -> str:
    """Text as written, numbers as text, `""` for null. Raises InvalidArgument for anything else.

    Ids of platforms are numbers in many a file; 123 and 123.0 are the same id.
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_shape(path, "text", value)
    return str(value)


def texts_at(value: object, path: str) -> tuple[str, ...]:
    """A list of texts, as `text_at` reads them; nulls are left out."""
    items = list_at(value, path)
    return tuple(
        text_at(item, f"{path}[{at}]") for at, item in enumerate(items) if item is not None
    )


def flag_at(value: object, path: str) -> bool:
    """A boolean, False for null. Raises InvalidArgument for anything else."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_shape(path, "true or false", value)
    return value


def whole_at(value: object, path: str, low: int, high: int) -> int | None:
    """A whole number in [low, high], None for null. Raises InvalidArgument for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong_shape(path, f"a whole number from {low} to {high}", value)
    return value


def unknown_keys(fields: Mapping[str, object], known: Iterable[str], path: str) -> list[Finding]:
    """A finding for each key that nothing here reads."""
    prefix = f"{path}." if path else ""
    return [
        Finding(
            "UNKNOWN_KEY",
            f"{prefix}{key} is not known here and has no effect.",
            f"{prefix}{key}",
        )
        for key in sorted(set(fields) - set(known))
    ]


def wrong_shape(path: str, wanted: str, value: object) -> InvalidArgument:
    """The error for a field that is not what it must be; it does not repeat the value."""
    found = _TYPE_WORDS.get(type(value), "something else")
    return InvalidArgument(
        f"{path} must be {wanted}, not {found}",
        reason="INVALID_CONFIGURATION",
        metadata={"field": path},
    )


_TYPE_WORDS: Mapping[type, str] = {
    bool: "a boolean",
    int: "this number",
    float: "this number",
    str: "this text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
