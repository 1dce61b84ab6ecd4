"""The HTTP server inside the process's own loop. Decides its socket and how it ends; signals are
the process's.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from fased.core.errors import FasedError

KEEP_ALIVE_S = 30
GRACE_S = 3
BACKLOG = 2048


class WebServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: it would take the process's away."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises FasedError with what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as exc:
        bound.close()
        raise FasedError(
            f"cannot listen on {host}:{port} ({exc.strerror}); choose another with "
            "FASED_HTTP_PORT, or with --port of fased up",
            reason="LISTEN_FAILED",
            metadata={"field": "http_port"},
        ) from exc
    return bound


async def serve(app: ASGIApp, bound: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; requests under way get `GRACE_S` to end in."""
    server = WebServer(
        uvicorn.Config(
            app,
            backlog=BACKLOG,
            lifespan="off",
            # It bounds the head of a request, which the faster parser does not.
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving
