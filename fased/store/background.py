"""A loop that runs beside a block of code. Decides when it starts and that it ends."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(loop: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run `loop` while the block runs, cancel it after; its own failure is raised then."""
    task = asyncio.create_task(loop, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
