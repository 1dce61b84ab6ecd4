"""Calls that go together: how many, which, and what one of them means for the others."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from fased.bus.coalesce import Coalescer

place: ContextVar[str] = ContextVar("place", default="")


class Flushes:
    """Answers each call with itself, one flush for each time that `go_on` lets one through."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.places: list[str] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Semaphore(0)

    async def __call__(self, calls: Sequence[int]) -> Sequence[int]:
        self.seen.append(list(calls))
        self.places.append(place.get())
        self.begun.set()
        await self.go_on.acquire()
        if 13 in calls:
            raise ValueError("thirteen")
        if 99 in calls:
            raise ConnectionError("gone")
        return calls


def started(coalescer: Coalescer[int, int], *numbers: int) -> list["asyncio.Task[int]"]:
    """Calls that are made, in this order."""
    return [asyncio.create_task(coalescer.call(number)) for number in numbers]


async def first_alone(coalescer: Coalescer[int, int], flushes: Flushes) -> "asyncio.Task[int]":
    """A call whose flush is under way, so that those after it wait."""
    [first] = started(coalescer, 1)
    await flushes.begun.wait()
    return first


async def test_calls_that_wait_for_a_flush_go_together_in_the_next_one() -> None:
    flushes = Flushes()
    coalescer: Coalescer[int, int] = Coalescer(flushes, max_calls=3)
    first = await first_alone(coalescer, flushes)
    others = started(coalescer, 2, 3, 4, 5)
    for _ in range(3):
        flushes.go_on.release()
    assert await asyncio.gather(first, *others) == [1, 2, 3, 4, 5]
    assert flushes.seen == [[1], [2, 3, 4], [5]]


async def test_a_flush_of_several_is_no_larger_than_its_bound() -> None:
    flushes = Flushes()
    coalescer: Coalescer[int, int] = Coalescer(
        flushes, max_calls=10, size=lambda call: call, max_size=10
    )
    first = await first_alone(coalescer, flushes)
    others = started(coalescer, 4, 6, 5, 50, 2)
    for _ in range(5):
        flushes.go_on.release()
    await asyncio.gather(first, *others)
    assert flushes.seen == [[1], [4, 6], [5], [50], [2]]


async def test_a_caller_that_went_away_while_it_waited_is_left_out() -> None:
    flushes = Flushes()
    coalescer: Coalescer[int, int] = Coalescer(flushes, max_calls=10)
    first = await first_alone(coalescer, flushes)
    two, three = started(coalescer, 2, 3)
    await asyncio.sleep(0)
    two.cancel()
    await asyncio.wait({two})
    flushes.go_on.release()
    flushes.go_on.release()
    assert (await first, await three) == (1, 3)
    assert flushes.seen == [[1], [3]]


async def test_what_may_pass_is_told_to_all_and_what_may_not_only_to_whom_it_is_about() -> None:
    flushes = Flushes()
    coalescer: Coalescer[int, int] = Coalescer(
        flushes, max_calls=10, is_transient=lambda exc: isinstance(exc, ConnectionError)
    )
    for _ in range(10):
        flushes.go_on.release()
    lost = await asyncio.gather(*started(coalescer, 2, 99, 3), return_exceptions=True)
    assert [type(each) for each in lost] == [ConnectionError] * 3
    refused = await asyncio.gather(*started(coalescer, 4, 13, 5), return_exceptions=True)
    assert (refused[0], type(refused[1]), refused[2]) == (4, ValueError, 5)
    assert flushes.seen == [[2, 99, 3], [4, 13, 5], [4], [13], [5]]


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_flush_is_in_the_context_of_its_first_call(where: str) -> None:
    flushes = Flushes()
    coalescer: Coalescer[int, int] = Coalescer(flushes, max_calls=10)
    first = await first_alone(coalescer, flushes)
    place.set(where)
    [second] = started(coalescer, 2)
    place.set("elsewhere")
    [third] = started(coalescer, 3)
    flushes.go_on.release()
    flushes.go_on.release()
    await asyncio.gather(first, second, third)
    assert flushes.places == ["", where]
