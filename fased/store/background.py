"""A loop that runs beside a block of code. Decides when it starts, and that neither outlives the
other.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(loop: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run `loop` while the block runs, cancel it after.

    When it fails, the block is cancelled and the failure raised: a member of a group without its
    heartbeat must not go on as though it had one.
    """
    block = asyncio.current_task()
    assert block is not None
    task = asyncio.create_task(loop, name=name)
    has_failed = False

    def note_failure(ended: "asyncio.Task[None]") -> None:
        nonlocal has_failed
        if not ended.cancelled() and ended.exception() is not None:
            has_failed = True
            block.cancel()

    task.add_done_callback(note_failure)
    try:
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        if not has_failed or block.uncancel() > 0:
            raise
    if not task.cancelled():
        task.result()
