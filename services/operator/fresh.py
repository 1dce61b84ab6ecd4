"""A value of another service, read when it is needed and kept for a while. Decides when it is read
again: when it is old, or when somebody knows that it has changed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """One value. Those who ask while it is read wait for the one answer."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        changed: Callable[[T | None, T], None],
        *,
        max_age_s: float,
        settle_s: float = 0.0,
    ) -> None:
        """`changed` is told each value that is another than before; `settle_s` is waited before
        each read, for more that changes it at the same time.
        """
        self._fetch = fetch
        self._changed = changed
        self._max_age_s = max_age_s
        self._settle_s = settle_s
        self._value: T | None = None
        self._read_at = float("-inf")
        self._wanted = 1
        self._have = 0
        self._lock = asyncio.Lock()

    def invalidate(self) -> None:
        """What was read, or is being read, may have changed."""
        self._wanted += 1

    async def get(self) -> T:
        """The value, not older than its age and than the last `invalidate`; raises FasedError."""
        wanted = self._wanted
        async with self._lock:
            if self._value is None or self._have < wanted or self._is_old():
                await self._read()
            assert self._value is not None
            return self._value

    def _is_old(self) -> bool:
        return asyncio.get_running_loop().time() - self._read_at > self._max_age_s

    async def _read(self) -> None:
        if self._settle_s:
            await asyncio.sleep(self._settle_s)
        version, at = self._wanted, asyncio.get_running_loop().time()
        value = await self._fetch()
        before, self._value = self._value, value
        self._have, self._read_at = version, at
        if value != before:
            self._changed(before, value)
