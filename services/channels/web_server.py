"""The HTTP server that platforms call, inside the process's own loop. Decides its socket and how
it ends; signals are the process's.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fased.core.errors import FasedError

KEEP_ALIVE_S = 30
GRACE_S = 3
BACKLOG = 2048
MAX_HEAD_BYTES = 64 * 1024


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's faster parser, with a bound that it lacks: on the head of a request."""

    _head_bytes: int | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came; hangs up on a head that does not end."""
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request, whose head is counted."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Take the head; whoever reads the body bounds it."""
        self._head_bytes = None
        super().on_headers_complete()


class WebServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: it would take the process's away."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(address: str) -> socket.socket:
    """A socket bound to host:port; port 0 takes a free one. Raises FasedError with what to do."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
    except (OSError, ValueError, OverflowError) as exc:
        bound.close()
        raise FasedError(
            f"cannot listen on {address}; choose another with FASED_WEBHOOK_LISTEN",
            reason="LISTEN_FAILED",
            metadata={"field": "webhook_listen"},
        ) from exc
    return bound


async def serve(app: Any, bound: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; requests under way get `GRACE_S` to end in."""
    server = WebServer(
        uvicorn.Config(
            app,
            backlog=BACKLOG,
            lifespan="off",
            http=BoundedHttp,
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
