"""Many concurrent calls in one round trip. Decides who goes together, not what they do."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from fased.store import transient

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class Coalescer(Generic[Call, Answer]):
    """Hands calls that wait to `flush` together, in their order, one flush at a time.

    A call that comes while a flush is under way waits for the next one: under load batches grow by
    themselves, and a lone call never waits for company.
    """

    def __init__(
        self, flush: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]], *, max_calls: int
    ) -> None:
        self._flush = flush
        self._max_calls = max_calls
        self._waiting: deque[tuple[Call, asyncio.Future[Answer]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def call(self, call: Call) -> Answer:
        """The answer to this call; raises what its flush raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="coalescer")
        return await future

    async def close(self) -> None:
        """Wait until what was called is done."""
        if self._draining is not None:
            await asyncio.wait({self._draining})

    async def _drain(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._max_calls)
                await self._answer([self._waiting.popleft() for _ in range(count)])
        finally:
            self._draining = None

    async def _answer(self, calls: list[tuple[Call, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._flush([call for call, _ in calls])
        except Exception as exc:
            if len(calls) > 1 and not transient.is_transient(exc):
                # One call is at fault; the others must not fail for it.
                for each in calls:
                    await self._answer([each])
                return
            for _, future in calls:
                if not future.done():
                    future.set_exception(exc)
            return
        for (_, future), answer in zip(calls, answers, strict=True):
            if not future.done():
                future.set_result(answer)
