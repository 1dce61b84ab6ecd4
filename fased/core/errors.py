"""The errors every layer speaks. Decides names and meaning; not how they travel (`rpc/status.py`).

FasedError
├── InvalidArgument      the caller's words are wrong, whatever the state
├── NotFound             the named thing is not there, or not for this caller
├── AlreadyExists        the name is taken
├── FailedPrecondition   right words, wrong state: mend the state, then ask again
├── Aborted              lost a race (compare-and-swap, stale epoch): read again
├── Unauthenticated      nobody known is asking
├── PermissionDenied     known, and not allowed
├── ResourceExhausted    a bound was reached: later, or less
├── DeadlineExceeded     not done in the time given
└── Unavailable          a part that is needed is down: try again
"""

from collections.abc import Mapping


class FasedError(Exception):
    """An error with a machine reason (UPPER_SNAKE) and one sentence a person can act on.

    `metadata` names what the sentence is about (field, setup target), as strings.
    """

    def __init__(
        self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})


class InvalidArgument(FasedError):
    """The caller's words are wrong, whatever the state."""


class NotFound(FasedError):
    """The named thing is not there, or not for this caller."""


class AlreadyExists(FasedError):
    """The name is taken."""


class FailedPrecondition(FasedError):
    """Right words, wrong state."""


class Aborted(FasedError):
    """Lost a race: read again and decide again."""


class Unauthenticated(FasedError):
    """Nobody known is asking."""


class PermissionDenied(FasedError):
    """The caller is known, and not allowed."""


class ResourceExhausted(FasedError):
    """A bound was reached."""


class DeadlineExceeded(FasedError):
    """Not done in the time given."""


class Unavailable(FasedError):
    """A part that is needed is down: the same call may succeed later."""
