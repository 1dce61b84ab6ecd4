"""An HTTP server whose answer may also be none: for vendors that hang up.

Decides nothing about what is answered. A caller that hangs up ends the work on its call.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read to its end. `target` is path and query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after_s: int = 0


# None closes the connection without an answer.
Respond = Callable[[Request], Awaitable[Answer | None]]


class _Connection(asyncio.Protocol):
    def __init__(self, respond: Respond, open_ones: set["_Connection"]) -> None:
        self._respond = respond
        self._open_ones = open_ones
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._head: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._advance()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        try:
            while self._step(self._http.next_event()):
                pass
        except h11.RemoteProtocolError:
            self.abort()

    def _step(self, event: object) -> bool:
        """Take one event; whether there may be another at once."""
        if isinstance(event, h11.Request):
            self._head, self._body = event, bytearray()
            return True
        if isinstance(event, h11.Data):
            self._body += event.data
            return True
        if isinstance(event, h11.EndOfMessage) and self._head is not None:
            head = self._head
            headers = {name.decode(): value.decode() for name, value in head.headers}
            target = head.target.decode()
            request = Request(head.method.decode(), target, headers, bytes(self._body))
            self._task = asyncio.get_running_loop().create_task(self._answer(request))
        return False

    async def _answer(self, request: Request) -> None:
        answer = await self._respond(request)
        if answer is None or self._transport is None or self._transport.is_closing():
            self.abort()
            return
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        if answer.retry_after_s:
            headers.append(("Retry-After", str(answer.retry_after_s)))
        head = h11.Response(status_code=answer.status, headers=headers)
        parts = [self._http.send(event) for event in (head, h11.Data(answer.body))]
        self._transport.write(b"".join(part for part in parts if part))
        self._http.send(h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()
            self._advance()


@asynccontextmanager
async def serving(
    respond: Respond, port: int = 0, address: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """A server on this machine while the context lasts; gives its port, a free one for 0."""
    connections: set[_Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(respond, connections), address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()
        await server.wait_closed()
