"""The gateway's HTTP server (`fased/web.py`): decides what is said of a port that is taken, and
which parser reads what browsers send.
"""

import asyncio
import socket

from starlette.types import ASGIApp

from fased import web
from fased.core.errors import FasedError


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises FasedError with what to do."""
    try:
        return web.bound_socket(host, port)
    except OSError as exc:
        raise FasedError(
            f"cannot listen on {host}:{port} ({exc.strerror}); choose another with "
            "FASED_HTTP_PORT, or with --port of fased up",
            reason="LISTEN_FAILED",
            metadata={"field": "http_port"},
        ) from exc


async def serve(app: ASGIApp, bound: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    # h11 bounds the head of a request, which the faster parser does not.
    await web.serve(app, bound, stop, http="h11")
