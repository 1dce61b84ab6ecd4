"""Errors over HTTP: the one table from our errors to status codes, and their JSON.

`{"error": {"reason", "message", "metadata"}}`, whatever went wrong; never a traceback.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fased.core import errors
from fased.core.errors import FasedError
from fased.wire.plain import camel


class BodyTooLarge(errors.InvalidArgument):
    """The request's body is larger than the gateway reads."""


class HostRefused(errors.PermissionDenied):
    """The request was sent to a name that this gateway does not go by."""


# The first that fits decides.
_STATUS: tuple[tuple[type[FasedError], int], ...] = (
    (BodyTooLarge, 413),
    (HostRefused, 421),
    (errors.InvalidArgument, 400),
    (errors.Unauthenticated, 401),
    (errors.PermissionDenied, 403),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.FailedPrecondition, 409),
    (errors.Aborted, 409),
    (errors.ResourceExhausted, 429),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
)
# A full disk is the server's trouble, not the caller's pace.
_STATUS_BY_REASON = {"DATABASE_EXHAUSTED": 503}
_REASONS = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def status_of(error: FasedError) -> int:
    """The HTTP status of one of our errors; 500 for one without a place in the table."""
    by_class = next((status for cls, status in _STATUS if isinstance(error, cls)), 500)
    return _STATUS_BY_REASON.get(error.reason, by_class)


def response_of(error: FasedError) -> Response:
    """An error as a response."""
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status in (429, 503):
        headers["Retry-After"] = "1"
    return _response(status, error.reason, error.message, error.metadata, headers)


async def on_fased_error(request: Request, exc: Exception) -> Response:
    """Starlette's hook for our own errors."""
    assert isinstance(exc, FasedError)
    return response_of(exc)


async def on_http_exception(request: Request, exc: Exception) -> Response:
    """Starlette's hook for its own: no such path, no such method."""
    assert isinstance(exc, HTTPException)
    reason = _REASONS.get(exc.status_code, "HTTP_ERROR")
    return _response(exc.status_code, reason, exc.detail, {}, dict(exc.headers or {}))


def internal(error_id: str) -> Response:
    """What is said of a failure that only the log explains."""
    return _response(500, "INTERNAL", f"internal error {error_id}", {}, {})


def _response(
    status: int, reason: str, message: str, metadata: dict[str, str], headers: dict[str, str]
) -> Response:
    if "field" in metadata:
        metadata = {**metadata, "field": camel(metadata["field"])}
    content = {"error": {"reason": reason, "message": message, "metadata": metadata}}
    return JSONResponse(content, status, headers)
