"""Which database failures mend themselves. Decides that only; what to do then is the caller's."""

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes 08 connection, 40 rollback, 53 resources, 57P shutdown; 55P03 lock and 57014 statement
# timeout, 25P03 idle in transaction.
_CLASSES = ("08", "40", "53", "57P")
# asyncpg's word for a statement on a connection that the server is just about to end.
_ENDING = asyncpg.InternalClientError
# What asyncpg raises when a statement or the connection fails.
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, _ENDING)
_STATES = frozenset({"55P03", "57014", "25P03"})


def is_transient(exc: BaseException) -> bool:
    """Whether the same statement may succeed later: the server is away, full, or in a lock."""
    if isinstance(exc, DBAPIError) and exc.orig is not None:
        return exc.connection_invalidated or is_transient(exc.orig.__cause__ or exc.orig)
    if isinstance(exc, OSError | TimeoutError | PoolTimeout | asyncpg.InterfaceError | _ENDING):
        return not isinstance(exc, ValueError)  # asyncpg's word for an argument it cannot encode
    state = getattr(exc, "sqlstate", None) or ""
    return state.startswith(_CLASSES) or state in _STATES
