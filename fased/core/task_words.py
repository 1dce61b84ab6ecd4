"""The words after `/task new`: when, with which flags, under which name, and the prompt.

Decides how they are read into drafts; not whether an expression, a zone, a model or a channel
exists, nor what an absent flag means.

    [flags] <schedule> [flags] [--] [<name>:] <prompt> [flags]
    [flags] [<name>:] <prompt> <hourly | daily | weekly | every ...> [flags]

A schedule is `every <duration>`, `at <ISO time>`, `cron <expr> --`, `hourly`, `daily`, `weekly` or
`manual`. After a bare `--` nothing is read as a flag or a schedule. Further lines belong to the
prompt, unless every line carries a schedule of its own: then each is a task, and a first line of
nothing but flags is shared by all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fased.core import chunking, durations, schedule_text, task_flags
from fased.core.errors import InvalidArgument
from fased.core.tasks import MAX_NAME_CHARS, TriggerKind, TriggerSpec

MAX_TASKS_PER_MESSAGE = 20
MAX_DERIVED_NAME_CHARS = 48
MAX_CRON_FIELDS = 6

_ONE_UNIT = r"(?:second|minute|hour|day|week)(?!\w)"
_LEADING_UNCOUNTED = re.compile(rf"every\s+(?={_ONE_UNIT})", re.I)
_TRAILING_UNCOUNTED = re.compile(rf"(?<!\S)every\s+(?={_ONE_UNIT}\Z)", re.I)
_TRIGGER_WORD = re.compile(
    r"(?:(?P<every>every)\s+(?=\d)|(?P<at>at)\s|(?P<cron>cron)\s|(?P<manual>manual)(?=[\s:,]|\Z)"
    r"|(?P<period>hourly|daily|weekly)(?=[\s:,]|\Z))",
    re.I,
)
# What begins a further task: prose often begins with "Every" or "At", rarely with a number after.
_TASK_LINE = re.compile(
    rf"(?:every\s+(?:\d|{_ONE_UNIT})|at\s+\d|cron\s|(?:manual|hourly|daily|weekly)(?=[\s:,]|\Z))",
    re.I,
)
_INSTANT = re.compile(r"\S+(?:[ \t]+\d{1,2}:\d\d\S*)?")
_SEPARATOR = re.compile(r"(?:--|—)(?:\s+|\Z)")
_NAME = re.compile(r"(?P<name>[^:\n]*[^:\s])\s*:(?:\s+|\Z)")
_LEAD = " \t\r\n:,"


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """A task somebody asks for, its trigger read but unchecked (`schedule_text.from_trigger`).

    `flags` maps names without hyphens to values, `true` for a switch; `tz` is in the trigger and
    not among them.
    """

    name: str
    prompt: str
    trigger: TriggerSpec
    flags: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_task_drafts(words: str) -> tuple[TaskDraft, ...]:
    """The tasks that the words after `/task new` ask for, at least one, in order.

    Raises InvalidArgument with reason UNKNOWN_FLAG, INVALID_FLAG, DUPLICATE_FLAG, INVALID_SCHEDULE,
    INVALID_EVERY, INVALID_INSTANT, INVALID_DURATION, MISSING_SCHEDULE, MISSING_PROMPT or
    TOO_MANY_TASKS; of several tasks it names the one that is wrong.
    """
    shared: dict[str, str] = {}
    words = words.strip()
    first, _, further = words.partition("\n")
    if further and task_flags.trailing_flags_at(first) == 0:
        task_flags.take_flags(first, shared)
        words = further.strip()
    lines = [line.strip() for line in words.split("\n") if line.strip()]
    if len(lines) < 2 or not _each_carries_a_schedule(lines):
        return (_draft(words, shared),)
    if len(lines) > MAX_TASKS_PER_MESSAGE:
        raise _invalid(
            "TOO_MANY_TASKS",
            f"{len(lines)} tasks in one message: send at most {MAX_TASKS_PER_MESSAGE}",
            "prompt",
        )
    return tuple(_numbered_draft(number, line, shared) for number, line in enumerate(lines, 1))


def _each_carries_a_schedule(lines: list[str]) -> bool:
    if _TASK_LINE.match(lines[0]):
        return all(_TASK_LINE.match(line) for line in lines)
    return all(_TASK_LINE.match(line) or _ends_in_a_schedule(line) for line in lines)


def _ends_in_a_schedule(line: str) -> bool:
    trigger, _ = _trailing_trigger(line[: task_flags.trailing_flags_at(line)])
    return trigger is not None


def _numbered_draft(number: int, line: str, shared: Mapping[str, str]) -> TaskDraft:
    try:
        return _draft(line, shared)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"task {number}: {error.message}",
            reason=error.reason,
            metadata=error.metadata | {"task": str(number)},
        ) from error


def _draft(words: str, shared: Mapping[str, str]) -> TaskDraft:
    flags: dict[str, str] = {}
    rest = task_flags.take_flags(words, flags)
    trigger, rest = _leading_trigger(rest)
    rest = task_flags.take_flags(rest, flags)
    if separator := _SEPARATOR.match(rest):
        rest = rest[separator.end() :]
    else:
        at = task_flags.trailing_flags_at(rest)
        task_flags.take_flags(rest[at:], flags)
        rest = rest[:at]
        if trigger is None:
            trigger, rest = _trailing_trigger(rest)
    if trigger is None:
        raise _invalid(
            "MISSING_SCHEDULE",
            "the task has no schedule: begin with every 1h, at 2026-01-31T09:00,"
            " cron 0 9 * * * --, hourly, daily, weekly or manual",
            "schedule",
        )
    name, prompt = _named(rest.strip())
    flags = {**shared, **flags}
    timezone = flags.pop("tz", "")
    return TaskDraft(name, prompt, replace(trigger, timezone=timezone), flags)


def _leading_trigger(words: str) -> tuple[TriggerSpec | None, str]:
    """The trigger that begins `words` and the words after it, or None and all of them."""
    words = _LEADING_UNCOUNTED.sub("every 1 ", words, count=1) if _TASK_LINE.match(words) else words
    match = _TRIGGER_WORD.match(words)
    if match is None:
        return None, words
    rest = words[match.end() :].lstrip(_LEAD)
    if match["at"]:
        return _at(rest)
    if match["cron"]:
        return _cron(rest)
    if match["manual"]:
        return TriggerSpec(TriggerKind.MANUAL), rest
    if match["every"] and durations.split_duration(rest) is None:
        raise _invalid(
            "INVALID_SCHEDULE",
            f"'every {rest[:40]}' names no duration: write every 5s, 90m, 1h30m or 10 minutes",
            "schedule",
        )
    return _interval(words)


def _trailing_trigger(words: str) -> tuple[TriggerSpec | None, str]:
    """The trigger that ends `words` and the words before it, or None and all of them."""
    trigger, rest = _interval(_TRAILING_UNCOUNTED.sub("every 1 ", words.rstrip(" \t\r\n.")))
    return (trigger, rest) if trigger else (None, words)


def _interval(words: str) -> tuple[TriggerSpec | None, str]:
    # The anchor is the task's creation, which is not known here, and no part of the trigger yet.
    found = schedule_text.take_interval(words, durations.EPOCH)
    if found is None:
        return None, words
    return TriggerSpec(TriggerKind.EVERY, durations.format_duration(found[0].every)), found[1]


def _at(words: str) -> tuple[TriggerSpec, str]:
    match = _INSTANT.match(words)
    instant = match[0].rstrip(_LEAD) if match else ""
    durations.parse_wall_or_instant(instant, field="schedule")
    rest = words[match.end() :] if match else ""
    return TriggerSpec(TriggerKind.AT, instant), rest.lstrip(_LEAD)


def _cron(words: str) -> tuple[TriggerSpec, str]:
    """A quoted expression, or all words up to `--` or a flag."""
    fields: list[str] = []
    for token in task_flags.TOKEN.finditer(words):
        if _SEPARATOR.fullmatch(token[0]) or task_flags.is_flag(token[0]):
            return TriggerSpec(TriggerKind.CRON, " ".join(fields)), words[token.start() :]
        bare = task_flags.unquoted(token[0])
        if not fields and bare != token[0]:
            return TriggerSpec(TriggerKind.CRON, bare), words[token.end() :].lstrip(_LEAD)
        fields.append(token[0])
        if len(fields) > MAX_CRON_FIELDS:
            break
    raise _invalid(
        "INVALID_SCHEDULE",
        "the cron expression does not end: write cron <five or six fields> -- <name>: <prompt>",
        "schedule",
    )


def _named(words: str) -> tuple[str, str]:
    """The name before a colon, or one made of the first words, and the prompt."""
    match = _NAME.match(words)
    name = match["name"] if match and len(match["name"]) <= MAX_NAME_CHARS else ""
    prompt = words[match.end() :].strip() if match and name else words
    if not prompt:
        raise _invalid(
            "MISSING_PROMPT",
            "the task has no prompt: write what it shall do after the schedule",
            "prompt",
        )
    return name or _first_words(prompt), prompt


def _first_words(prompt: str) -> str:
    first_line = " ".join(prompt.split("\n", 1)[0].split())
    words = chunking.chunk_text(first_line, MAX_DERIVED_NAME_CHARS)[0]
    return words.rstrip(".:,;") or words


def _invalid(reason: str, message: str, field_name: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, metadata={"field": field_name})
