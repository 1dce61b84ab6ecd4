"""The flags of `/task new`: which there are, and how they and their values are read from words.

Decides spelling and the shape of values; not what a flag does, nor what an absent one means.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import assert_never

from fased.core import durations
from fased.core.errors import InvalidArgument
from fased.core.runs import ExecutionMode

# What ends the flags; phones write a dash where two hyphens were typed.
SEPARATORS = ("--", "—")
# One word, or words in quotes. A quoted stretch is bounded so that many unmatched quotes cannot
# cost quadratic time.
TOKEN = re.compile(
    r"""(?:--[^\s="]+=)?(?:"[^"\n]{0,2000}"|“[^”\n]{0,2000}”|'[^'\n]{0,2000}')(?=\s|\Z)|\S+"""
)

_QUOTED = re.compile(r"""(?:"([^"]*)"|“([^”]*)”|'([^']*)')\Z""")
_COUNT = re.compile(r"[1-9][0-9]{0,11}")
_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_FLAG = re.compile(r"(?P<dashes>--|—)(?P<name>[^\W_][^\s=]*)(?:=(?P<value>.*))?\Z", re.S)


class _Wants(StrEnum):
    """What a flag's value must be, in the words of the error."""

    WORDS = "words"
    SWITCH = "nothing, or =true or =false"
    COUNT = "a whole number above 0"
    AMOUNT = "an amount such as 0.50"
    DURATION = "a duration such as 90s or 10m"


FLAGS: Mapping[str, _Wants | tuple[str, ...]] = {
    "objective": _Wants.WORDS,
    "success": _Wants.WORDS,
    "mode": tuple(ExecutionMode),
    "memory": ("none", "session-summary", "pinned", "search", "agent"),
    "skills": _Wants.WORDS,
    "tool": _Wants.WORDS,
    "input": _Wants.WORDS,
    "model": _Wants.WORDS,
    "escalate": _Wants.WORDS,
    "coordinate": ("consult", "parallel"),
    "ask-agent": _Wants.WORDS,
    "max-tokens": _Wants.COUNT,
    "max-cost": _Wants.AMOUNT,
    "max-runs-hour": _Wants.COUNT,
    "timeout": _Wants.DURATION,
    "stop-on-success": _Wants.SWITCH,
    "stop-text": _Wants.WORDS,
    "max-successes": _Wants.COUNT,
    "max-total-runs": _Wants.COUNT,
    "delivery": ("internal", "announce", "webhook"),
    "channel": _Wants.WORDS,
    "to": _Wants.WORDS,
    "best-effort": _Wants.SWITCH,
    "tz": _Wants.WORDS,
}


def first_word(words: str) -> tuple[str, str]:
    """The first word, or quoted words without their quotes, and what follows; both may be empty."""
    token = TOKEN.search(words)
    return (unquoted(token[0]), words[token.end() :].strip()) if token else ("", "")


def unquoted(words: str) -> str:
    """`words` without the quotes that may stand around all of them."""
    match = _QUOTED.match(words)
    return next(part for part in match.groups() if part is not None) if match else words


def is_flag(token: str) -> bool:
    """Whether `token` has the shape of a flag, known or not."""
    return _flag(token) is not None


def take_flags(words: str, flags: dict[str, str]) -> str:
    """Adds the flags that `words` begin with to `flags`; gives the words after them.

    Raises InvalidArgument UNKNOWN_FLAG, INVALID_FLAG or DUPLICATE_FLAG, naming the flag.
    """
    waiting = ""
    for token in TOKEN.finditer(words):
        flag = _flag(token[0])
        if waiting and (flag or token[0] in SEPARATORS):
            break
        if waiting:
            _set_flag(flags, waiting, unquoted(token[0]))
            waiting = ""
        elif flag is None:
            return words[token.start() :]
        elif flag["value"] is not None:
            _set_flag(flags, flag["name"].lower(), unquoted(flag["value"]))
        elif _takes_a_word(flag):
            waiting = _known(flag["name"].lower())
        else:
            _set_flag(flags, flag["name"].lower(), "true")
    if waiting:
        raise _invalid("INVALID_FLAG", f"--{waiting} needs a value after it", f"--{waiting}")
    return ""


def trailing_flags_at(words: str) -> int:
    """Where the flags that end the last line begin; the length of `words` where there are none."""
    tokens = list(TOKEN.finditer(words, words.rfind("\n") + 1))
    at = len(tokens)
    while at:
        last, before = _flag(tokens[at - 1][0]), _flag(tokens[at - 2][0]) if at > 1 else None
        if last:
            at -= 1
        elif before and _takes_a_word(before) and tokens[at - 1][0] not in SEPARATORS:
            at -= 2
        else:
            break
    return tokens[at].start() if at < len(tokens) else len(words)


def _flag(token: str) -> re.Match[str] | None:
    match = _FLAG.match(token)
    # A dash may begin ordinary words too.
    is_prose = match and match["dashes"] != "--" and match["name"].lower() not in FLAGS
    return None if is_prose else match


def _takes_a_word(flag: re.Match[str]) -> bool:
    return flag["value"] is None and FLAGS.get(flag["name"].lower()) is not _Wants.SWITCH


def _known(name: str) -> str:
    if name in FLAGS:
        return name
    shown = f"--{name[:40]}"
    near = difflib.get_close_matches(name[:40], FLAGS, n=3)
    hint = "did you mean" if near else "known are"
    raise _invalid(
        "UNKNOWN_FLAG",
        f"unknown flag {shown}: {hint} {', '.join(f'--{other}' for other in near or FLAGS)}"
        " (a prompt that ends in such words goes after a bare --)",
        shown,
    )


def _set_flag(flags: dict[str, str], name: str, value: str) -> None:
    wants = FLAGS[_known(name)]
    if name in flags:
        raise _invalid("DUPLICATE_FLAG", f"--{name} is given twice: keep one", f"--{name}")
    if isinstance(wants, tuple):
        value, accepted = value.lower(), value.lower() in wants
    else:
        accepted = _is_acceptable(wants, value)
    if not accepted:
        wanted = wants if isinstance(wants, _Wants) else f"one of {', '.join(wants)}"
        raise _invalid("INVALID_FLAG", f"--{name} takes {wanted}, not {value[:40]!r}", f"--{name}")
    flags[name] = value


def _is_acceptable(wants: _Wants, value: str) -> bool:
    match wants:
        case _Wants.WORDS:
            return bool(value.strip())
        case _Wants.SWITCH:
            return value in ("true", "false")
        case _Wants.COUNT:
            return _COUNT.fullmatch(value) is not None
        case _Wants.AMOUNT:
            return _AMOUNT.fullmatch(value) is not None
        case _Wants.DURATION:
            return _is_duration(value)
        case _:
            assert_never(wants)


def _is_duration(value: str) -> bool:
    try:
        return durations.parse_duration(value) > timedelta(0)
    except InvalidArgument:
        return False


def _invalid(reason: str, message: str, field: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, metadata={"field": field})
