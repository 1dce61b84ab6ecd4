"""Calls that must get through: tries again while a service is away. Decides only how often."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from fased.core.errors import DeadlineExceeded, ResourceExhausted, Unavailable

T = TypeVar("T")

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 3.0
TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted)

logger = structlog.get_logger()


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a call that may be repeated, however long the service is away.

    The caller's deadline ends it, by cancelling. Raises what waiting does not mend.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await call()
        except TRANSIENT as exc:
            logger.warning("call_repeated", reason=exc.reason, error=exc.message)
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)
