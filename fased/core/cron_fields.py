"""The text of a cron expression, read into sets of numbers. Decides what may be written.

Not decided here: when an expression fires (`cron.py`). Sets are integers whose bit n says that n
is in the set.

    second (optional)  0-59
    minute             0-59
    hour               0-23
    day-of-month       1-31   ?   L (the last day)   L-2 (two before it)   15W LW (nearest weekday)
    month              1-12   jan-dec
    day-of-week        0-7 (0 and 7 are Sunday)   sun-sat   ?   fri#2 (the second)   friL (the last)

Every field takes `*`, lists `1,2`, ranges `1-5` that may wrap (`fri-mon`, `22-2`), and steps
`*/15`, `1-30/5`, `5/15` (from 5 to the end). `@hourly` and its like stand for a whole expression.
"""

import re
from dataclasses import dataclass

from fased.core.errors import InvalidArgument

MAX_EXPRESSION_CHARS = 1000

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class DayRules:
    """Which days of a month match, before the month is known.

    `from_last` holds days counted back from the last one (`L` is 0). `nearest` holds the `n` of
    `nW`, 0 for `LW`. `nth` holds (weekday, n) of `#`, with n = 0 for the last. Weekdays count from
    Sunday = 0. A field is restricted unless it is written `*`, `*/1` or `?`: where both are, a
    day that matches either one matches.
    """

    days: int
    from_last: tuple[int, ...]
    nearest: tuple[int, ...]
    weekdays: int
    nth: tuple[tuple[int, int], ...]
    month_day_restricted: bool
    weekday_restricted: bool


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A cron expression as sets."""

    seconds: int
    minutes: int
    hours: int
    months: int
    days: DayRules

    @property
    def takes_every_hour(self) -> bool:
        """Whether it follows the passing hours rather than the hours of a day."""
        return self.hours == (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    allowed: str
    names: tuple[str, ...] = ()
    also: int | None = None
    """A second number for `first`, past `last`: Sunday's 7."""

    @property
    def size(self) -> int:
        return self.last - self.first + 1


_SECOND = _Field("second", 0, 59, "0-59")
_MINUTE = _Field("minute", 0, 59, "0-59")
_HOUR = _Field("hour", 0, 23, "0-23")
_MONTH_DAY = _Field("day-of-month", 1, 31, "1-31, ?, L, L-2, 15W, LW")
_MONTH = _Field("month", 1, 12, "1-12 or jan-dec", _MONTHS)
_WEEKDAY = _Field("day-of-week", 0, 6, "0-7 or sun-sat, ?, fri#2, friL", _DAYS, also=7)

_ITEM = re.compile(r"(?:\*|(?P<start>\w{1,9})(?:-(?P<end>\w{1,9}))?)(?:/(?P<step>[0-9]{1,3}))?\Z")
_FROM_LAST = re.compile(r"l(?:-(?P<back>[0-9]{1,2}))?\Z")
_NEAREST = re.compile(r"(?P<day>[0-9]{1,2}|l)w\Z")
_NTH = re.compile(r"(?P<day>[0-7]|[a-z]{3,9}?)(?:#(?P<nth>[1-5])|#?l)\Z")


def read_expression(expr: str) -> CronExpression:
    """The sets of a cron expression; raises InvalidArgument INVALID_CRON naming the field."""
    text = " ".join(expr.lower().split())
    if not text:
        raise _refusal("a cron expression is needed, as in 0 9 * * 1-5")
    if len(text) > MAX_EXPRESSION_CHARS:
        raise _refusal(f"the cron expression is longer than {MAX_EXPRESSION_CHARS} characters")
    if text.startswith("@") and text not in _NAMED:
        raise _refusal(f"{text[:30]!r} is no cron name: allowed are {', '.join(_NAMED)}")
    parts = _NAMED.get(text, text).split(" ")
    if len(parts) not in (5, 6):
        raise _refusal(
            f"the cron expression {text[:60]!r} has {len(parts)} fields: it takes 5 (minute hour"
            " day-of-month month day-of-week) or 6 (second first)"
        )
    second, minute, hour, month_day, month, weekday = ["0", *parts][-6:]
    return CronExpression(
        seconds=_read_set(_SECOND, second),
        minutes=_read_set(_MINUTE, minute),
        hours=_read_set(_HOUR, hour),
        months=_read_set(_MONTH, month),
        days=_read_days(month_day, weekday),
    )


def _read_days(month_day: str, weekday: str) -> DayRules:
    days, weekdays = 0, 0
    from_last: list[int] = []
    nearest: list[int] = []
    nth: list[tuple[int, int]] = []
    for item in _items(_MONTH_DAY, month_day):
        if match := _FROM_LAST.match(item):
            from_last.append(int(match["back"] or 0))
        elif match := _NEAREST.match(item):
            nearest.append(0 if match["day"] == "l" else _number(_MONTH_DAY, match["day"]))
        else:
            days |= _read_item(_MONTH_DAY, item)
    for item in _items(_WEEKDAY, weekday):
        if match := _NTH.match(item):
            nth.append((_number(_WEEKDAY, match["day"]) % 7, int(match["nth"] or 0)))
        else:
            weekdays |= _read_item(_WEEKDAY, item)
    return DayRules(
        days=days,
        from_last=tuple(from_last),
        nearest=tuple(nearest),
        weekdays=weekdays,
        nth=tuple(nth),
        month_day_restricted=month_day not in ("*", "*/1", "?"),
        weekday_restricted=weekday not in ("*", "*/1", "?"),
    )


def _items(field: _Field, text: str) -> list[str]:
    return ["*"] if text == "?" and field in (_MONTH_DAY, _WEEKDAY) else text.split(",")


def _read_set(field: _Field, text: str) -> int:
    found = 0
    for item in text.split(","):
        found |= _read_item(field, item)
    return found


def _read_item(field: _Field, item: str) -> int:
    """The set of one `*`, number, range or step."""
    match = _ITEM.match(item)
    if match is None:
        raise _item_refusal(field, item)
    step = int(match["step"] or 1)
    if not 1 <= step <= field.size:
        raise _item_refusal(field, item, f"a step is 1 to {field.size}")
    if match["start"] is None:
        numbers = list(range(field.first, field.last + 1))
    else:
        start = _number(field, match["start"])
        end = _number(field, match["end"]) if match["end"] else None
        if end is None:
            end = start if match["step"] is None else field.last
        numbers = _wrapping_range(field, start, end)
    found = 0
    for number in numbers[::step]:
        found |= 1 << (field.first if number == field.also else number)
    return found


def _wrapping_range(field: _Field, start: int, end: int) -> list[int]:
    """start to end in the field's order, past its end and on from its beginning if need be."""
    if start == end:
        return [start]
    if start <= end:
        return list(range(start, end + 1))
    return [*range(start, field.last + 1), *range(field.first, end + 1)]


def _number(field: _Field, word: str) -> int:
    if word.isascii() and word.isdigit():
        number = int(word)
        if field.first <= number <= field.last or number == field.also:
            return number
    for index, name in enumerate(field.names):
        if word in (name, name[:3]):
            return field.first + index
    raise _item_refusal(field, word)


def _item_refusal(field: _Field, item: str, step_rule: str = "") -> InvalidArgument:
    return _refusal(
        f"{item[:30]!r} is not a {field.name}: "
        + (step_rule or f"allowed are {field.allowed}, and *, lists 1,2, ranges 1-5, steps */2"),
        part=field.name,
    )


def _refusal(message: str, part: str = "") -> InvalidArgument:
    metadata = {"field": "expr", "part": part} if part else {"field": "expr"}
    return InvalidArgument(message, reason="INVALID_CRON", metadata=metadata)
