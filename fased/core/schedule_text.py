"""How schedules are written: JSON, a chat's words, a task's trigger; and preview rows.

Decides which spellings mean which schedule; not when it is due (`schedule.py`).

    {"kind": "at", "at": ISO time [, "tz": zone of a time that names none]}
    {"kind": "every", "everyMs": n [, "anchorMs": n]}
    {"kind": "cron", "expr": text [, "tz": zone]}        all but `at`: [, "staggerMs": n]

Read leniently: numbers may be strings, `cron` stands for `expr`, `atMs` for `at`, and a `kind`
that is left out follows from the other keys. Unknown keys are left alone.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never

from fased.core import durations, zones
from fased.core.durations import MILLISECOND
from fased.core.errors import FasedError, InvalidArgument
from fased.core.schedule import (
    NO_STAGGER,
    At,
    Cron,
    Every,
    Schedule,
    check,
    check_new,
    next_fires,
)
from fased.core.tasks import TriggerKind, TriggerSpec

MAX_PREVIEW_COUNT = 10_000

_WORDS = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
}
_KEYS_BY_KIND = {"at": ("at", "atMs"), "every": ("everyMs",), "cron": ("expr", "cron")}
_LEADING_WORD = re.compile(rf"({'|'.join(_WORDS)})(?![\w-])", re.IGNORECASE)
_TRAILING_WORD = re.compile(rf"(?<![\w-])({'|'.join(_WORDS)})\Z", re.IGNORECASE)
_EVERY = re.compile(r"every\s+(?=[0-9])", re.IGNORECASE)
_TRAILING_EVERY = re.compile(r"(?<!\S)every\s+(?P<duration>[0-9][0-9a-z\s]{0,60})\Z", re.IGNORECASE)


def from_json(form: Mapping[str, object], default_anchor: datetime) -> Schedule:
    """The schedule of a JSON form, its expression and zone not looked at (see `schedule.check`).

    `default_anchor`, the task's creation, anchors an `every` that names no anchor. Raises
    InvalidArgument for an unknown kind, and for what is missing or no number or time.
    """
    kind = form.get("kind") or _implied_kind(form)
    match kind:
        case "at":
            return At(_at_of(form))
        case "every":
            anchor_ms = _number(form, "anchorMs")
            return every(
                MILLISECOND * _required_number(form, "everyMs"),
                default_anchor if anchor_ms is None else _instant(anchor_ms, "anchor"),
                stagger=_stagger_of(form),
            )
        case "cron":
            expr = _text(form, "expr") or _text(form, "cron")
            return _cron(expr, _text(form, "tz"), _stagger_of(form))
    raise InvalidArgument(
        f"{str(kind)[:40]!r} is no kind of schedule: allowed are at, every and cron",
        reason="UNKNOWN_SCHEDULE_KIND",
        metadata={"field": "kind"},
    )


def parse(form: Mapping[str, object], default_anchor: datetime) -> Schedule:
    """As `from_json`, and checked to have slots."""
    parsed = from_json(form, default_anchor)
    check(parsed)
    return parsed


def to_json(schedule: Schedule) -> dict[str, object]:
    """The canonical JSON form, which `from_json` reads back to an equal schedule."""
    match schedule:
        case At():
            return {"kind": "at", "at": durations.format_instant(schedule.at)}
        case Every():
            form: dict[str, object] = {
                "kind": "every",
                "everyMs": schedule.every // MILLISECOND,
                "anchorMs": durations.milliseconds_of(schedule.anchor),
            }
        case Cron():
            form = {"kind": "cron", "expr": schedule.expr, "tz": schedule.tz}
        case _:
            assert_never(schedule)
    if schedule.stagger:
        form["staggerMs"] = schedule.stagger // MILLISECOND
    return form


def every(interval: timedelta, anchor: datetime, *, stagger: timedelta = NO_STAGGER) -> Every:
    """A grid whose anchor is cut to the millisecond, as it is stored."""
    whole = durations.EPOCH + durations.milliseconds_of(anchor) * MILLISECOND
    return Every(interval, whole, stagger)


def from_trigger(trigger: TriggerSpec, created_at: datetime) -> Schedule | None:
    """The schedule of a task's trigger, unchecked as in `from_json`; None for a manual one."""
    match trigger.kind:
        case TriggerKind.MANUAL:
            return None
        case TriggerKind.AT:
            return At(_in_zone(trigger.expr, trigger.timezone))
        case TriggerKind.EVERY:
            interval = durations.parse_duration(trigger.expr, field="every")
            return every(interval, trigger.anchor_at or created_at, stagger=trigger.stagger)
        case TriggerKind.CRON:
            return _cron(trigger.expr, trigger.timezone, trigger.stagger)
    assert_never(trigger.kind)


def to_trigger(schedule: Schedule) -> TriggerSpec:
    """The canonical trigger, which `from_trigger` reads back to an equal schedule."""
    match schedule:
        case At():
            return TriggerSpec(TriggerKind.AT, durations.format_instant(schedule.at))
        case Every():
            return TriggerSpec(
                TriggerKind.EVERY,
                durations.format_duration(schedule.every),
                anchor_at=schedule.anchor,
                stagger=schedule.stagger,
            )
        case Cron():
            return TriggerSpec(
                TriggerKind.CRON, schedule.expr, schedule.tz, stagger=schedule.stagger
            )
    assert_never(schedule)


def schedule_from_words(text: str, anchor: datetime, *, tz: str = "") -> Schedule | None:
    """A whole text as a checked schedule, or None where it is none.

    `every 1h30m`, `hourly`, `daily`, `weekly` (a grid from `anchor`), `at <ISO time>`,
    `cron <expression>`, `@daily`; `tz` is the zone of a cron or of a time that names none.
    """
    words = text.strip()
    head, _, rest = words.partition(" ")
    parsed: Schedule
    match head.lower():
        case "at" if rest:
            parsed = At(_in_zone(rest, tz))
        case "cron" if rest:
            parsed = _cron(rest, tz, NO_STAGGER)
        case name if name.startswith("@"):
            parsed = _cron(words, tz, NO_STAGGER)
        case _:
            found = take_interval(words, anchor)
            return found[0] if found and not found[1] else None
    check(parsed)
    return parsed


def take_interval(text: str, anchor: datetime) -> tuple[Every, str] | None:
    """The interval that a prompt begins or ends with, and the prompt without it; None without one.

    `every 10 minutes check mail`, `weekly: report`, `check mail every 30m`, `report daily`. Raises
    InvalidArgument for an interval out of bounds.
    """
    words = text.strip()
    if match := _LEADING_WORD.match(words):
        return every(_WORDS[match[1].lower()], anchor), _unled(words[match.end() :])
    if (match := _EVERY.match(words)) and (found := durations.split_duration(words[match.end() :])):
        return every(found[0], anchor), _unled(found[1])
    if match := _TRAILING_WORD.search(words):
        return every(_WORDS[match[1].lower()], anchor), words[: match.start()].rstrip(" ,")
    if (match := _TRAILING_EVERY.search(words)) and (
        found := durations.split_duration(match["duration"])
    ):
        return None if found[1] else (every(found[0], anchor), words[: match.start()].rstrip(" ,"))
    return None


def preview(row: object) -> dict[str, object]:
    """A row {"schedule": form, "fromMs": n, "count": k} answered with its next slots.

    {"next": [milliseconds, …]}, strictly after `fromMs`, or {"error": {"reason", "message"}}. The
    schedule is judged as one that is being set at `fromMs`; no task, hence no stagger. `count`
    is 1 unless given, at most MAX_PREVIEW_COUNT.
    """
    try:
        if not (isinstance(row, Mapping) and isinstance(form := row.get("schedule"), Mapping)):
            raise _refusal("schedule", "a row needs a schedule, as an object")
        start = _instant(_required_number(row, "fromMs"), "fromMs")
        count = _number(row, "count")
        count = 1 if count is None else count
        if not 0 <= count <= MAX_PREVIEW_COUNT:
            raise _refusal("count", f"count is 0 to {MAX_PREVIEW_COUNT}")
        schedule = from_json(form, start)
        check_new(schedule, start)
        slots = next_fires(schedule, start, count)
    except FasedError as refused:
        return {"error": {"reason": refused.reason, "message": refused.message}}
    return {"next": [durations.milliseconds_of(slot) for slot in slots]}


def _implied_kind(form: Mapping[str, object]) -> str:
    for kind, keys in _KEYS_BY_KIND.items():
        if any(key in form for key in keys):
            return kind
    return ""


def _at_of(form: Mapping[str, object]) -> datetime:
    value = form.get("at") if form.get("at") is not None else form.get("atMs")
    if isinstance(value, str):
        return _in_zone(value, _text(form, "tz"))
    milliseconds = _number({"at": value}, "at")
    if milliseconds is None:
        raise _refusal("at", "a schedule of kind at needs its time, at")
    return _instant(milliseconds, "at")


def _in_zone(text: str, tz: str) -> datetime:
    """A time as an instant; one that names no zone is of `tz`, or UTC where that is blank."""
    parsed = durations.parse_wall_or_instant(text)
    if parsed.tzinfo:
        return parsed
    whole = parsed.replace(microsecond=0)
    return zones.first_instant(whole, zones.find_zone(tz)) + (parsed - whole)


def _cron(expr: str, tz: str, stagger: timedelta) -> Cron:
    return Cron(" ".join(expr.split()), tz.strip() or "UTC", stagger)


def _stagger_of(form: Mapping[str, object]) -> timedelta:
    return MILLISECOND * (_number(form, "staggerMs") or 0)


def _text(form: Mapping[str, object], key: str) -> str:
    value = form.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _refusal(key, f"{key} is a text")
    return value


def _instant(milliseconds: int, field: str) -> datetime:
    return durations.instant_from_ms(milliseconds, field=field)


def _required_number(form: Mapping[str, object], key: str) -> int:
    number = _number(form, key)
    if number is None:
        raise _refusal(key, f"{key} is needed, in milliseconds")
    return number


def _number(form: Mapping[str, object], key: str) -> int | None:
    """A whole number, a decimal cut to one, or a text that writes either; None where absent."""
    value = form.get(key)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(key)
        number = value if isinstance(value, int) else int(float(value))
        if abs(number) > 10**15:
            raise ValueError(key)
    except (ValueError, OverflowError) as exc:
        raise _refusal(key, f"{key} is no number: {str(value)[:40]!r}") from exc
    return number


def _refusal(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="INVALID_SCHEDULE", metadata={"field": field})


def _unled(rest: str) -> str:
    """What follows a leading interval, without the punctuation that set it apart."""
    return rest.strip().removeprefix(":").removeprefix(",").strip()
