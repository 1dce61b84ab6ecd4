"""Transcripts as values: what a run's answer leaves in its conversation.

Decides which lines a turn writes, what text may be stored and which answers stay unspoken. It does
not decide what a model is shown of them (`context.py`).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fased.core.errors import InvalidArgument
from fased.core.names import RunId, SessionId, SessionKey
from fased.core.runs import RunBody

MAX_TEXT_CHARS = 200_000

# The word alone, in white space, Markdown or HTML emphasis, quotes or closing punctuation.
_AROUND = r"(?:</?[a-z]{1,6}>|[\s*_`~\"'.!-])*"
_SILENT = re.compile(rf"{_AROUND}(?:HEARTBEAT_OK|NO_REPLY){_AROUND}")
_SILENT_MAX_CHARS = 80
# What a PostgreSQL text, a JSON value or a protobuf string cannot hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Role(StrEnum):
    """Who speaks in a line of a transcript."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One line of a conversation; `run_id`, `step` and `ordinal` are its key in a namespace.

    `sequence` is its place in the session's transcript and 0 until it is stored. `undelivered`
    says that its run ended without success, so that nobody was shown it.
    """

    session_key: SessionKey
    session_id: SessionId
    run_id: RunId
    step: str
    ordinal: int
    role: Role
    text: str
    sender: str = ""
    event_id: str = ""
    created_at: datetime | None = None
    sequence: int = 0
    undelivered: bool = False


def turn_entries(
    body: RunBody, run_id: RunId, step: str, answer: str, *, asked: bool
) -> tuple[TranscriptEntry, ...]:
    """The lines of a finished turn: what was asked, unless `asked` is False, then the answer.

    A task's prompt is a line of its own only where a model was asked it.
    """
    lines = _asked_lines(body) if asked else []
    lines.append((Role.ASSISTANT, answer, "", ""))
    return tuple(
        TranscriptEntry(
            body.session_key, body.session_id, run_id, step, at, role, text, sender, event_id
        )
        for at, (role, text, sender, event_id) in enumerate(lines)
    )


def checked_entry(entry: TranscriptEntry) -> TranscriptEntry:
    """The entry, when it may be stored; raises InvalidArgument naming the field."""
    if not entry.session_key or not entry.step or entry.run_id <= 0 or entry.ordinal < 0:
        raise InvalidArgument(
            "an entry has a session key, a run, a step and an ordinal of 0 or more",
            reason="INVALID_ENTRY",
            metadata={"field": "entries"},
        )
    if len(entry.text) > MAX_TEXT_CHARS or _UNSTORABLE.search(entry.text):
        raise InvalidArgument(
            f"an entry's text has at most {MAX_TEXT_CHARS} characters, and none that is NUL",
            reason="INVALID_TEXT",
            metadata={"field": "entries.text"},
        )
    return entry


def storable(text: str) -> str:
    """The text without what no database, JSON value or message can hold, cut at the longest."""
    return _UNSTORABLE.sub("", text)[:MAX_TEXT_CHARS]


def is_silent(answer: str) -> bool:
    """Whether an answer says only that there is nothing to say (behaviour §5)."""
    if len(answer) > _SILENT_MAX_CHARS:
        return False
    return not answer.strip() or _SILENT.fullmatch(answer) is not None


def _asked_lines(body: RunBody) -> list[tuple[Role, str, str, str]]:
    if body.inputs:
        return [
            (Role.USER, each.text, each.sender.display_name or each.sender.id, each.event_id)
            for each in body.inputs
        ]
    return [(Role.USER, body.prompt, f"task:{body.task_name}" if body.task_name else "", "")]
