"""Wall clocks and instants: which instant a wall time means where clocks jump or repeat.

Decides the one rule for both clock changes; not what is scheduled. A wall time is a naive
`datetime`, an instant is aware UTC; both at whole seconds.

The rule: a wall time begins at the first instant at which the zone's clock shows it or a later
one. That is the first of two occurrences where the clock is turned back, and the first valid
instant after the gap where it is turned forward.
"""

import difflib
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from fased.core.errors import InvalidArgument

SECOND = timedelta(seconds=1)

_DAY = timedelta(days=1)
# Files that may lie beside the database and are no zones of it: the host's own, other clocks.
_NOT_IANA = ("posix/", "right/", "posixrules", "localtime")


@dataclass(frozen=True, slots=True)
class Change:
    """A clock change: the first instant of the new offset, and the offsets around it."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def wall_before(self) -> datetime:
        """What the clock would show at the change without it (it never quite did)."""
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def wall_after(self) -> datetime:
        """What the clock shows at the change."""
        return (self.at + self.after).replace(tzinfo=None)


# `ZoneInfo` itself keeps only eight zones alive, and reads a file for each of the others.
@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo:
    """The IANA zone of that exact name; blank is UTC.

    Raises InvalidArgument INVALID_ZONE with the closest names.
    """
    wanted = name.strip() or "UTC"
    try:
        if not wanted.startswith(_NOT_IANA):
            return ZoneInfo(wanted)
    except (KeyError, ValueError, OSError):
        # KeyError: no such zone; ValueError: not a relative path; OSError: a folder of zones.
        pass
    close = _close_names(wanted)
    hint = f"; did you mean {' or '.join(close)}?" if close else ", as in Europe/Berlin or UTC"
    raise InvalidArgument(
        f"{wanted[:60]!r} is not a zone of the IANA database{hint}",
        reason="INVALID_ZONE",
        metadata={"field": "tz", "suggestion": close[0] if close else ""},
    )


def wall_at(instant: datetime, zone: ZoneInfo) -> datetime:
    """What the zone's clock shows, to the second; `fold` is 1 in the second pass of a repeat."""
    return instant.astimezone(zone).replace(tzinfo=None, microsecond=0)


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which the zone's clock shows `wall` or later."""
    early, late = _offsets(wall, zone)
    if early < late:
        return _change_between(zone, _utc(wall, late), _utc(wall, early)).at
    return _utc(wall, early)


def last_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """As `first_instant`, but the second occurrence where `wall` occurs twice."""
    early, late = _offsets(wall, zone)
    return _utc(wall, late) if early > late else first_instant(wall, zone)


def repeat_around(wall: datetime, zone: ZoneInfo) -> Change | None:
    """The change that makes `wall` occur twice: walls from `wall_after` up to `wall_before` do."""
    early, late = _offsets(wall, zone)
    if early <= late:
        return None
    return _change_between(zone, _utc(wall, early), _utc(wall, late))


def changes(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Change]:
    """The zone's clock changes in (after, until], in order.

    Two changes inside one day that cancel are not seen; the database has none.
    """
    start = after
    while start < until:
        end = min(start + _DAY, until)
        if _offset(start, zone) != _offset(end, zone):
            yield _change_between(zone, start, end)
        start = end


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The offsets of both folds (PEP 495): equal but in a gap (grows) or a repeat (shrinks)."""
    local = wall.replace(tzinfo=zone, fold=0)
    return _known(local.utcoffset()), _known(local.replace(fold=1).utcoffset())


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return _known(instant.astimezone(zone).utcoffset())


def _known(offset: timedelta | None) -> timedelta:
    if offset is None:
        raise AssertionError("a ZoneInfo always knows the offset of a date")
    return offset


def _utc(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC, fold=0)


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> Change:
    """The change in (before, after], by bisection to the second; the offsets must differ."""
    old, new = _offset(before, zone), _offset(after, zone)
    low, high = 0, -((before - after) // SECOND)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(before + middle * SECOND, zone) == old:
            low = middle
        else:
            high = middle
    return Change((before + high * SECOND).replace(microsecond=0), old, new)


def _close_names(wanted: str) -> list[str]:
    """At most three names of the database that a person may have meant."""
    names = [name for name in zoneinfo.available_timezones() if not name.startswith(_NOT_IANA)]
    by_folded = {name.casefold(): name for name in sorted(names)}
    folded = wanted[:60].casefold().replace(" ", "_")
    if folded in by_folded:
        return [by_folded[folded]]
    cities = [name for key, name in by_folded.items() if key.rpartition("/")[2] == folded]
    close = difflib.get_close_matches(folded, by_folded, n=3, cutoff=0.6)
    return (cities or [by_folded[key] for key in close])[:3]
