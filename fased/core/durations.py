"""Durations and instants as people and JSON write them. Decides spelling; not what they are for."""

import re
from datetime import UTC, datetime, timedelta

from fased.core.errors import InvalidArgument

MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Far enough from both ends of `datetime` that adding a zone's offset never overflows.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=36_525)

_UNITS = (
    ("w", timedelta(weeks=1), "weeks?|w"),
    ("d", timedelta(days=1), "days?|d"),
    ("h", timedelta(hours=1), "hours?|hrs?|h"),
    ("m", timedelta(minutes=1), "minutes?|mins?|m"),
    ("s", timedelta(seconds=1), "seconds?|secs?|s"),
    ("ms", MILLISECOND, "milliseconds?|ms"),
)
_DURATION = re.compile(
    "".join(
        rf"(?:\s*(?P<{name}>[0-9]{{1,13}})\s*(?:{words})(?![a-z]))?" for name, _, words in _UNITS
    ),
    re.IGNORECASE,
)
# Eleven digits up: shorter numbers are a basic ISO date (20260112) or seconds, which are refused.
_MILLISECONDS = re.compile(r"[0-9]{11,15}\Z")


def parse_duration(text: str, *, field: str = "duration") -> timedelta:
    """`5s`, `90m`, `1h30m`, `1 hour 30 minutes`, `250ms`: whole units, largest first.

    Zero is a duration. Raises InvalidArgument INVALID_DURATION for anything else, for a bare
    number (its unit would be a guess), and above 100 years.
    """
    leading = split_duration(text)
    if leading is None or leading[1]:
        raise _invalid_duration(text, field)
    return leading[0]


def split_duration(text: str) -> tuple[timedelta, str] | None:
    """The duration that `text` begins with and the words after it, or None without one.

    None also above 100 years, which is no duration here.
    """
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        return None
    rest = text[match.end() :]
    if rest[:1].isalnum():
        return None
    total_ms = sum(int(match[name] or 0) * (unit // MILLISECOND) for name, unit, _ in _UNITS)
    if total_ms > LONGEST // MILLISECOND:
        return None
    return total_ms * MILLISECOND, rest.strip()


def format_duration(duration: timedelta) -> str:
    """The shortest spelling that `parse_duration` reads back: `1h30m`, `0s`; cut at milliseconds.

    Raises ValueError below zero: no spelling says that.
    """
    if duration < timedelta(0):
        raise ValueError(f"a negative duration has no spelling: {duration}")
    words = []
    left = duration
    for name, unit, _ in _UNITS:
        count, left = divmod(left, unit)
        if count:
            words.append(f"{count}{name}")
    return "".join(words) or "0s"


def parse_instant(text: str, *, field: str = "at") -> datetime:
    """An ISO 8601 instant as aware UTC; without a zone it is UTC. Also epoch milliseconds.

    Raises InvalidArgument INVALID_INSTANT, also outside the years 1900 to 9000.
    """
    wall = parse_wall_or_instant(text, field=field)
    return wall if wall.tzinfo else wall.replace(tzinfo=UTC)


def parse_wall_or_instant(text: str, *, field: str = "at") -> datetime:
    """As `parse_instant`, but naive where the text names no zone: the caller knows whose."""
    stripped = text.strip()
    if _MILLISECONDS.match(stripped):
        return instant_from_ms(int(stripped), field=field)
    try:
        parsed = datetime.fromisoformat(stripped.upper())
        as_utc = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise _invalid_instant(text, field) from exc
    if not EARLIEST <= as_utc < LATEST:
        raise _invalid_instant(text, field)
    return as_utc if parsed.tzinfo else parsed


def format_instant(instant: datetime) -> str:
    """The instant as ISO 8601 in UTC with `Z`, with as many fractional digits as it has."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def instant_from_ms(milliseconds: int, *, field: str = "at") -> datetime:
    """The instant of Unix epoch milliseconds; raises InvalidArgument outside 1900 to 9000."""
    if not milliseconds_of(EARLIEST) <= milliseconds < milliseconds_of(LATEST):
        raise _invalid_instant(str(milliseconds), field)
    return EPOCH + milliseconds * MILLISECOND


def milliseconds_of(instant: datetime) -> int:
    """Unix epoch milliseconds of an aware instant, cut (not rounded) at the millisecond."""
    return (instant - EPOCH) // MILLISECOND


def _invalid_duration(text: str, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{text[:60]!r} is not a duration: write whole units as in 5s, 90m, 1h30m or 10 minutes"
        " (w, d, h, m, s, ms), at most 100 years",
        reason="INVALID_DURATION",
        metadata={"field": field},
    )


def _invalid_instant(text: str, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{text[:60]!r} is not a time: write ISO 8601 as in 2026-01-31T09:00:00Z or"
        " 2026-01-31T09:00+01:00 (without a zone it is UTC), between the years 1900 and 9000",
        reason="INVALID_INSTANT",
        metadata={"field": field},
    )
