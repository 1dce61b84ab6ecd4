"""The queue of keys to reconcile. Decides order, retries and pace; not what reconciling is.

Each key is in it once, and is worked on by one at a time: what arrives for a key under way comes
again after it. Keys that are urgent (somebody changed something) go before those that are not (a
run ended), whose pace is limited.
"""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from fased.core.errors import FasedError

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 60.0
# The pace may be caught up with by this much at once.
_BURST_S = 0.2

K = TypeVar("K")
logger = structlog.get_logger(__name__)


class WorkQueue(Generic[K]):
    """Keys that wait, are delayed, or are worked on."""

    def __init__(self, *, paced_per_s: float) -> None:
        self._urgent: dict[K, None] = {}
        self._paced: dict[K, None] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._running: set[K] = set()
        self._again: dict[K, bool] = {}
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()
        self._sequence = 0
        self._per_s = paced_per_s
        self._tokens_at = 0.0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._paced) + len(self._again)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is worked on; what is delayed does not count."""
        return not (len(self) or self._running)

    def add(self, key: K, *, urgent: bool = True) -> None:
        """Let a key be worked on, at once if it is not already under way."""
        if key in self._running:
            self._again[key] = urgent or self._again.get(key, False)
            return
        if urgent:
            self._paced.pop(key, None)
            self._urgent[key] = None
        elif key not in self._urgent:
            self._paced[key] = None
        self._changed.set()

    def add_after(self, key: K, delay_s: float) -> None:
        """Let a key be worked on in about this time, or earlier if it was said before."""
        due = _now() + delay_s * random.uniform(0.8, 1.2)
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        self._changed.set()

    async def run(self, work: Callable[[K], Awaitable[None]], workers: int) -> None:
        """Work on keys, this many at a time, until cancelled.

        A key whose work raises a FasedError comes again, each time later.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(work))

    async def _work(self, work: Callable[[K], Awaitable[None]]) -> None:
        while True:
            key = await self._next()
            self._running.add(key)
            try:
                await work(key)
                self._failures.pop(key, None)
            except FasedError as exc:
                self._retry(key, exc)
            finally:
                self._running.discard(key)
                if key in self._again:
                    self.add(key, urgent=self._again.pop(key))

    async def _next(self) -> K:
        while True:
            self._take_due()
            if self._urgent:
                return _first(self._urgent)
            wait_s = self._wait_for_pace() if self._paced else None
            if wait_s == 0:
                return _first(self._paced)
            await self._wait(wait_s)

    async def _wait(self, pace_s: float | None) -> None:
        self._changed.clear()
        waits = [] if pace_s is None else [pace_s]
        if self._delayed:
            waits.append(max(0.0, self._delayed[0][0] - _now()))
        try:
            async with asyncio.timeout(min(waits, default=None)):
                await self._changed.wait()
        except TimeoutError:
            return

    def _take_due(self) -> None:
        while self._delayed and self._delayed[0][0] <= _now():
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def _wait_for_pace(self) -> float:
        """Seconds until one more is within the pace; 0 when it is, and counts as taken."""
        now = _now()
        at = max(self._tokens_at, now - _BURST_S)
        if at > now:
            return at - now
        self._tokens_at = at + 1 / self._per_s
        return 0

    def _retry(self, key: K, exc: FasedError) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures, 20))
        logger.warning(
            "reconcile_put_off", key=str(key), reason=exc.reason, message=exc.message, in_s=delay_s
        )
        self.add_after(key, delay_s)


def _first(keys: dict[K, None]) -> K:
    key = next(iter(keys))
    del keys[key]
    return key


def _now() -> float:
    return asyncio.get_running_loop().time()
