"""Keeps a worker's leases from a thread of its own, so that a busy event loop loses none.

Decides when to beat and passes on what it is told; only the queue decides that a lease is lost.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import grpc
import structlog

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import queue_service_pb2_grpc
from fased.rpc import status
from fased.rpc.client import OPTIONS
from fased.rpc.interceptors import AUTHORIZATION
from fased.wire.times import to_duration

# The longest that a claim's answer may be on its way before its runs are given back.
CLAIM_DEADLINE = timedelta(seconds=10)
JOIN_S = 10.0

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears what the queue says; called in the event loop's thread.

    `on_stop` gets the runs to stop and the monotonic time at which the question was asked.
    """

    held_ids: Callable[[], Sequence[int]]
    on_stop: Callable[[Sequence[int], float], None]
    on_lost: Callable[[str], None]


class Heartbeat:
    """The beat of one worker process; `worker_id` may change while it runs."""

    def __init__(
        self,
        target: str,
        token: str,
        listener: Listener,
        *,
        every_s: float,
        lease_for: timedelta,
    ) -> None:
        """`target` and `token` reach the scheduler: this thread has a channel of its own."""
        self.worker_id = ""
        self._target = target
        self._metadata = ((AUTHORIZATION, f"Bearer {token}"),)
        self._listener = listener
        self._every_s = every_s
        # Half a lease: a call that hangs leaves time for the next one.
        self._timeout_s = lease_for.total_seconds() / 2
        self._lease_for = lease_for
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, one interval from now: the first claim makes the worker known."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join, JOIN_S)

    def _run(self) -> None:
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            stub = queue_service_pb2_grpc.QueueServiceStub(channel)
            while not self._stopped.wait(self._every_s):
                self._beat(stub)

    def _beat(self, stub: queue_service_pb2_grpc.QueueServiceStub) -> None:
        worker_id, asked_at_s = self.worker_id, time.monotonic()
        request = pb.HeartbeatRequest(
            worker_id=worker_id,
            lease_for=to_duration(self._lease_for),
            run_ids=self._listener.held_ids(),
            claim_deadline=to_duration(CLAIM_DEADLINE),
        )
        try:
            answer = stub.Heartbeat(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as exc:
            # What a synchronous call raises has the same methods as the other kind's error.
            error = status.error_from(cast(grpc.aio.AioRpcError, exc))
            if error.reason == "LEASE_LOST":
                self._tell(self._listener.on_lost, worker_id)
            else:
                logger.warning("heartbeat_failed", reason=error.reason, error=error.message)
            return
        if answer.cancel_run_ids:
            self._tell(self._listener.on_stop, list(answer.cancel_run_ids), asked_at_s)

    def _tell(self, hear: Callable[..., None], *words: object) -> None:
        assert self._loop is not None, "started"
        self._loop.call_soon_threadsafe(hear, *words)
