"""Many concurrent calls in one round trip. Decides who goes together, not what they do."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fased.store import transient

Call = TypeVar("Call")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Call, Answer]):
    """A call that waits. A flush runs in the context, so in the trace, of its first call."""

    call: Call
    size: int
    answer: "asyncio.Future[Answer]"
    context: Context = field(default_factory=copy_context)


class Coalescer(Generic[Call, Answer]):
    """Hands calls that wait to `flush` together, in their order, one flush at a time.

    A call that comes while a flush is under way waits for the next one: under load batches grow by
    themselves, and a lone call never waits for company. A caller that went away before its flush
    began is left out. A flush that fails for good is repeated call by call, so that each fails for
    itself only; what `is_transient` says may pass is raised to all of them.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]],
        *,
        max_calls: int,
        size: Callable[[Call], int] = lambda _: 0,
        max_size: int = 0,
        is_transient: Callable[[Exception], bool] = transient.is_transient,
    ) -> None:
        """`max_size` bounds the sum of what `size` says of the calls of a flush of several."""
        self._flush = flush
        self._max_calls = max_calls
        self._size = size
        self._max_size = max_size
        self._is_transient = is_transient
        self._waiting: deque[_Waiting[Call, Answer]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def call(self, call: Call) -> Answer:
        """The answer to this call; raises what its flush raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, self._size(call), future))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="coalescer")
        return await future

    async def close(self) -> None:
        """Wait until what was called is done."""
        if self._draining is not None:
            await asyncio.wait({self._draining})

    async def _drain(self) -> None:
        try:
            while batch := self._next_batch():
                await asyncio.create_task(self._answer(batch), context=batch[0].context)
        finally:
            self._draining = None

    def _next_batch(self) -> list[_Waiting[Call, Answer]]:
        batch: list[_Waiting[Call, Answer]] = []
        size = 0
        while self._waiting and len(batch) < self._max_calls:
            size += self._waiting[0].size
            if batch and size > self._max_size:
                break
            each = self._waiting.popleft()
            if not each.answer.done():
                batch.append(each)
        return batch

    async def _answer(self, batch: list[_Waiting[Call, Answer]]) -> None:
        try:
            answers = await self._flush([each.call for each in batch])
        except Exception as exc:
            if len(batch) > 1 and not self._is_transient(exc):
                # One call is at fault; the others must not fail for it.
                for each in batch:
                    await self._answer([each])
                return
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(exc)
            return
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
