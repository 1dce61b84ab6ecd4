"""Buses for the contract suite: each kind opened alike. Decides none of their behaviour."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fased.bus import kafka, kafka_topics, pglog, topics
from fased.bus.kafka_access import Timing as KafkaTiming
from fased.bus.pglog_consumer import Timing
from fased.bus.port import Bus
from fased.store import notify

PARTITIONS = 4
# Long enough that a busy machine does not end a living member's session.
SESSION_S = 3.0
_ROOT = Path(__file__).parents[2]
_DEAD_LETTER = next(topic for topic in topics.ALL if topic.name == topics.DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bus is: its kind, its server's address, and the topic of the test."""

    kind: str
    address: str
    topic: str

    @property
    def group(self) -> str:
        """A consumer group of this test's own."""
        return f"group-of-{self.topic}"

    @property
    def known(self) -> tuple[topics.Topic, ...]:
        """The test's topic and the dead letters."""
        return (topics.Topic(self.topic, PARTITIONS, timedelta(days=1)), _DEAD_LETTER)


class Server(Protocol):
    """The server behind a bus, to crash."""

    async def stop_immediate(self) -> None:
        """End it as a crash does."""
        ...

    async def restart(self) -> None:
        """Start it again with what it had made durable; returns when it answers."""
        ...


async def make_topics(place: Place) -> None:
    """Make what must be there before a bus is opened at the place."""
    if place.kind == "kafka":
        await kafka_topics.ensure_topics(place.address, place.known, replicas=1)


@asynccontextmanager
async def open_bus(place: Place, *, session_s: float = SESSION_S) -> AsyncIterator[Bus]:
    """The bus at a place, with the topics of `Place.known`."""
    if place.kind == "kafka":
        # No shorter and no longer sessions than a broker takes unless told otherwise.
        kafka_timing = KafkaTiming(session_s=min(max(session_s, 6.0), 1800.0))
        async with kafka.open_kafka(
            place.address, client_id="test", known=place.known, timing=kafka_timing
        ) as kafka_bus:
            yield kafka_bus
        return
    timing = Timing(session_s=session_s, heartbeat_s=session_s / 3, poll_s=0.5)
    async with (
        notify.open_hints(place.address) as hints,
        pglog.open_pglog(place.address, hints, known=place.known, timing=timing) as bus,
    ):
        yield bus


class Peer:
    """A consumer in a process of its own (`bus_peer.py`), to kill and to freeze."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> Mapping[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        text = await self._process.stdout.readline()
        assert text, "the peer ended"
        said: Mapping[str, Any] = json.loads(text)
        return said

    def tell(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def peer(place: Place, mode: str, group: str) -> AsyncIterator[Peer]:
    """Start a peer; killed after the block. The modes are told in `bus_peer.py`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.bus_peer"),
        *(mode, place.kind, place.address, place.topic, group),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; the test's own timeout is the bound."""
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return
        await asyncio.sleep(0.01)
