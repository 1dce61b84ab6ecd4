"""How a command that could not do its work says so. Decides words and exit codes only.

0 done · 1 refused or failed · 2 wrong usage · 3 no gateway to ask · 130 interrupted
"""

import json
import sys

from cli.options import Format
from fased.core import errors
from fased.core.errors import FasedError

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 3

_NEXT_BY_REASON = {
    "TOKEN_INVALID": "set FASED_TOKEN to a valid token; fased up prints its own",
    "ROLE_TOO_LOW": "use a token of that role, made by an admin with: fased token create",
    "NAMESPACE_DENIED": "choose another --namespace, or use a token made for this one",
}
_NEXT_BY_CLASS: tuple[tuple[type[FasedError], str], ...] = (
    (errors.Unauthenticated, "set FASED_TOKEN to a valid token"),
    (errors.Aborted, "run the command again"),
    (errors.Unavailable, "try again in a moment"),
    (errors.DeadlineExceeded, "try again in a moment"),
    (errors.ResourceExhausted, "try again later, or ask for less"),
)


class GatewayUnreachable(FasedError):
    """There is no gateway to ask, or it does not answer."""


def report(error: FasedError, output: Format) -> int:
    """Print `error` on standard error, one line or JSON; gives the exit code."""
    print(as_json(error) if output is Format.JSON else one_line(error), file=sys.stderr)
    return EXIT_UNREACHABLE if isinstance(error, GatewayUnreachable) else EXIT_REFUSED


def as_json(error: FasedError) -> str:
    """`{"error": {"reason", "message", "metadata"}}`."""
    return json.dumps({"error": error_fields(error)})


def error_fields(error: FasedError) -> dict[str, object]:
    """The error as JSON fields."""
    return {"reason": error.reason, "message": error.message, "metadata": error.metadata}


def one_line(error: FasedError) -> str:
    """`error: <message> (REASON)`, then the field and the next step where they are known."""
    parts = [f"error: {' '.join(error.message.split())} ({error.reason})"]
    if field := error.metadata.get("field"):
        parts.append(f"field: {field}")
    if step := next_step(error):
        parts.append(f"next: {step}")
    return "; ".join(parts)


def next_step(error: FasedError) -> str:
    """What a person can do about it; empty where the message says it already."""
    if step := error.metadata.get("next"):
        return step
    if target := error.metadata.get("setup_target"):
        return f"set up {target}"
    if error.reason in _NEXT_BY_REASON:
        return _NEXT_BY_REASON[error.reason]
    return next((step for cls, step in _NEXT_BY_CLASS if isinstance(error, cls)), "")
