"""An HTTP server inside the process's own loop. Decides its socket and how it ends; signals are the
process's.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

KEEP_ALIVE_S = 30
GRACE_S = 3
BACKLOG = 2048


class WebServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: it would take the process's away."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 takes a free one. Raises OSError, OverflowError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError):
        bound.close()
        raise
    return bound


async def serve(app: Any, bound: socket.socket, stop: asyncio.Event, *, http: Any) -> None:
    """Serve until `stop`, with uvicorn's protocol `http`; requests under way get `GRACE_S` to end
    in.
    """
    server = WebServer(
        uvicorn.Config(
            app,
            backlog=BACKLOG,
            lifespan="off",
            http=http,
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
