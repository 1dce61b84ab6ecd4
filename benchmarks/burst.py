"""Sends prepared HTTP requests over connections that are open already, and times each answer.

A program of its own, so that its work is on another core than what it measures:
`python -m benchmarks.burst` reads JSON from its standard input (`host`, `port`, `connections`,
`requests` as whole requests in text) and prints JSON (`seconds` from writing a request to the last
byte of its answer, `statuses`, `took_s`, `cpu_s` of its own). Each connection has one request
under way and writes the next when that is answered, as Telegram's do.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from typing import Any

_END_OF_HEAD = b"\r\n\r\n"


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, waiting: deque[bytes], seconds: list[float]) -> None:
        self.statuses: Counter[str] = Counter()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        self._seconds = seconds
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # The answers have no body.
        self._received += data
        if not self._received.endswith(_END_OF_HEAD):
            return
        self._seconds.append(time.perf_counter() - self._sent_at)
        self.statuses[self._received[9:12].decode()] += 1
        self._received = b""
        self.write_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the server hung up"))

    def write_next(self) -> None:
        """Write a request that waits, if there is one."""
        if not self._waiting:
            self.ended.set_result(None)
            return
        assert self._transport is not None
        request = self._waiting.popleft()
        self._sent_at = time.perf_counter()
        self._transport.write(request)


async def _burst(asked: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    waiting = deque(request.encode() for request in asked["requests"])
    seconds: list[float] = []
    lines = []
    for _ in range(asked["connections"]):
        _, line = await loop.create_connection(
            lambda: _Line(waiting, seconds), asked["host"], asked["port"]
        )
        lines.append(line)
    began_at, began_cpu_s = time.perf_counter(), time.process_time()
    for line in lines:
        line.write_next()
    await asyncio.gather(*(line.ended for line in lines))
    return {
        "took_s": time.perf_counter() - began_at,
        "cpu_s": time.process_time() - began_cpu_s,
        "seconds": seconds,
        "statuses": sum((line.statuses for line in lines), Counter()),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_burst(json.load(sys.stdin)))))
