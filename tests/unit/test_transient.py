"""Which database failures mend themselves."""

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fased.store import database, transient


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError(),
        FileNotFoundError("the socket is gone"),
        TimeoutError(),
        PoolTimeout(),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.TooManyConnectionsError("sorry"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.InterfaceError("connection is closed"),
        # A statement on a connection that the server is just about to end.
        asyncpg.InternalClientError("cannot switch to state 12; another operation is in progress"),
        DBAPIError("SELECT 1", None, ConnectionResetError(), connection_invalidated=True),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_a_lost_or_full_server_raises_may_pass(failure: Exception) -> None:
    assert transient.is_transient(failure)


@pytest.mark.parametrize(
    "failure",
    [
        asyncpg.UniqueViolationError("duplicate"),
        asyncpg.UndefinedTableError("no such table"),
        asyncpg.DataError("invalid input"),
        ValueError("a mistake of ours"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_a_mistake_raises_does_not(failure: Exception) -> None:
    assert not transient.is_transient(failure)
    assert database.log_fields(failure) == {"exc_info": failure}


def test_a_log_line_of_what_may_pass_has_a_reason_and_no_trace() -> None:
    fields = database.log_fields(asyncpg.DiskFullError("could not extend file"))
    assert fields["reason"] == "DATABASE_EXHAUSTED"
    assert "exc_info" not in fields
