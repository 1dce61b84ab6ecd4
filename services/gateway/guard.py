"""What every HTTP request passes first. Decides which names and origins may ask, and what every
answer tells the browser to refuse.

A page of another site reaches a loopback port through the reader's browser, by a name of its own
that resolves to 127.0.0.1; the Host and Origin headers give both away.
"""

import uuid
from urllib.parse import parse_qs, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fased.core.errors import FasedError, InvalidArgument, PermissionDenied
from services.gateway import errors

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A probe asks by address, and learns nothing.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN_PARAMETERS = frozenset({"token", "access_token"})
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

logger = structlog.get_logger(__name__)


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names | LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; nothing leaves without the security headers or as a traceback."""
        if scope["type"] != "http":
            return
        began = False

        async def guarded_send(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except FasedError as exc:
            await errors.response_of(exc)(scope, receive, guarded_send)
            return
        try:
            await self._app(scope, receive, guarded_send)
        except Exception as exc:
            error_id = uuid.uuid4().hex
            logger.error("request_crashed", path=scope["path"], error_id=error_id, exc_info=exc)
            if not began:
                await errors.internal(error_id)(scope, receive, guarded_send)

    def _check(self, scope: Scope) -> None:
        if scope["path"] in OPEN_PATHS:
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name_of(host) not in self._names:
            raise errors.HostRefused(
                "this gateway does not go by that name; add it to FASED_HTTP_NAMES",
                reason="HOST_REFUSED",
                metadata={"field": "host"},
            )
        origin = headers.get("origin")
        if scope["method"] not in _SAFE_METHODS and origin is not None:
            _check_origin(origin, host)
        if "\0" in scope["path"]:
            raise InvalidArgument("a path holds no NUL", reason="INVALID_PATH")
        _check_query(scope["query_string"].decode("latin-1"))


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _check_origin(origin: str, host: str) -> None:
    if urlsplit(origin).netloc.lower() != host.lower():
        raise PermissionDenied(
            "a page of another site may not do this",
            reason="ORIGIN_REFUSED",
            metadata={"field": "origin"},
        )


def _check_query(query: str) -> None:
    if _TOKEN_PARAMETERS & parse_qs(query, keep_blank_values=True).keys():
        raise InvalidArgument(
            "a token in an address ends up in logs; send it as `Authorization: Bearer`",
            reason="TOKEN_IN_QUERY",
            metadata={"field": "token"},
        )
