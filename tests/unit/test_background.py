"""A loop beside a block: neither outlives the other."""

import asyncio

import pytest

from fased.store.background import beside


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_loop_ends_with_the_block() -> None:
    ended = asyncio.Event()

    async def loop() -> None:
        try:
            await forever()
        finally:
            ended.set()

    async with beside(loop(), "loop"):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_a_loop_that_fails_ends_the_block_and_its_failure_is_raised() -> None:
    async def loop() -> None:
        raise ValueError("a mistake of ours")

    with pytest.raises(ValueError, match="a mistake of ours"):
        async with beside(loop(), "loop"):
            await forever()
    await asyncio.sleep(0)  # nothing is left that would cancel what comes after


async def test_a_loop_that_fails_while_the_block_ends_is_told_too() -> None:
    async def loop() -> None:
        try:
            await forever()
        finally:
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        async with beside(loop(), "loop"):
            await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_the_blocks_own_failure_comes_first() -> None:
    with pytest.raises(KeyError):
        async with beside(forever(), "loop"):
            raise KeyError


async def test_a_cancelled_block_stays_cancelled() -> None:
    async def block() -> None:
        async with beside(forever(), "loop"):
            await forever()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_loop_that_ends_by_itself_leaves_the_block_alone() -> None:
    async def loop() -> None:
        pass

    async with beside(loop(), "loop"):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
