"""Ends runs in batches: one call for all that end within a few milliseconds.

Decides what goes together; what becomes of each is the queue's word.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.core.queue import Completion
from fased.wire.work import completion_to_pb
from services.executor.worker.calls import persistently

if TYPE_CHECKING:
    from fased.api.scheduler.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

COLLECT_FOR_S = 0.005
MAX_BATCH = 100
# Well under what one gRPC message may hold, at four bytes a character.
MAX_BATCH_CHARS = 2_000_000


@dataclass(slots=True, eq=False)
class _Batch:
    completions: list[Completion] = field(default_factory=list)
    chars: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)
    sent: "asyncio.Task[pb.CompleteRunsResponse] | None" = None


class Completions:
    """The way by which a worker's runs end."""

    def __init__(self, queue: "QueueServiceAsyncStub") -> None:
        self._queue = queue
        self._open: _Batch | None = None

    async def complete(self, completion: Completion) -> pb.CompletionResult:
        """End one run; WRITTEN, STALE and CANCELLED are all ends. Raises what the queue refuses."""
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            batch.sent = asyncio.create_task(self._send(batch))
        batch.completions.append(completion)
        place = len(batch.completions) - 1
        batch.chars += len(completion.result.text)
        if len(batch.completions) == MAX_BATCH or batch.chars >= MAX_BATCH_CHARS:
            self._open = None
            batch.full.set()
        assert batch.sent is not None, "set with the batch"
        return (await asyncio.shield(batch.sent)).results[place]

    async def _send(self, batch: _Batch) -> pb.CompleteRunsResponse:
        with suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_FOR_S):
                await batch.full.wait()
        if self._open is batch:
            self._open = None
        request = pb.CompleteRunsRequest(completions=map(completion_to_pb, batch.completions))
        return await persistently(lambda: self._queue.CompleteRuns(request))
