"""The HTTP server that platforms call (`fased/web.py`): decides what is said of an address that is
taken, and the bound on the head of a request.
"""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fased import web
from fased.core.errors import FasedError

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


def listen(address: str) -> socket.socket:
    """A socket bound to host:port; port 0 takes a free one. Raises FasedError with what to do."""
    host, _, port = address.rpartition(":")
    try:
        return web.bound_socket(host.strip("[]") or "127.0.0.1", int(port))
    except (OSError, ValueError, OverflowError) as exc:
        raise FasedError(
            f"cannot listen on {address}; choose another with FASED_WEBHOOK_LISTEN",
            reason="LISTEN_FAILED",
            metadata={"field": "webhook_listen"},
        ) from exc


async def serve(app: Any, bound: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    await web.serve(app, bound, stop, http=BoundedHttp)
