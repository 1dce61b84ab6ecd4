"""The operator's queue and the values that it keeps fresh. Time is the loop's own: nothing waits
longer than a turn of it.
"""

import asyncio
from collections.abc import Callable

from fased.core.errors import Unavailable
from services.operator import work_queue
from services.operator.fresh import Fresh
from services.operator.work_queue import WorkQueue


class Work:
    """Notes what is worked on; each piece ends when it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.together = 0
        self.most_together = 0
        self.gate = asyncio.Semaphore(0)
        self.failing: set[str] = set()

    async def __call__(self, key: str) -> None:
        self.begun.append(key)
        self.together += 1
        self.most_together = max(self.together, self.most_together)
        try:
            await self.gate.acquire()
        finally:
            self.together -= 1
        if key in self.failing:
            self.failing.discard(key)
            raise Unavailable("not now", reason="UNAVAILABLE")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0)
            if is_so():
                return


async def worked(queue: WorkQueue[str], work: Work, workers: int = 1) -> "asyncio.Task[None]":
    return asyncio.create_task(queue.run(work, workers))


async def ended(running: "asyncio.Task[None]") -> None:
    running.cancel()
    await asyncio.wait({running})


async def test_a_key_is_in_the_queue_once() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=1000)
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1
    work = Work()
    running = await worked(queue, work, 2)
    await until(lambda: bool(work.begun))
    work.gate.release()
    await until(lambda: queue.is_idle)
    assert work.begun == ["a"]
    await ended(running)


async def test_a_key_under_way_comes_again_after_it_and_never_beside_it() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=1000)
    work = Work()
    running = await worked(queue, work, 4)
    queue.add("a")
    await until(lambda: work.begun == ["a"])
    for _ in range(3):
        queue.add("a")
    work.gate.release()
    await until(lambda: work.begun == ["a", "a"])
    work.gate.release()
    await until(lambda: queue.is_idle)
    assert (work.begun, work.most_together) == (["a", "a"], 1)
    await ended(running)


async def test_what_somebody_changed_goes_before_what_changed_by_itself() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=1_000_000)
    queue.add("run-ended", urgent=False)
    queue.add("edited")
    queue.add("both", urgent=False)
    queue.add("both")
    queue.add("both", urgent=False)
    work = Work()
    running = await worked(queue, work)
    for _ in range(3):
        work.gate.release()
    await until(lambda: len(work.begun) == 3)
    assert work.begun == ["edited", "both", "run-ended"]
    await ended(running)


async def test_the_pace_holds_back_what_is_not_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=0.001)
    for number in range(5):
        queue.add(f"poll-{number}", urgent=False)
    work = Work()
    running = await worked(queue, work)
    for _ in range(9):
        work.gate.release()
    await until(lambda: work.begun == ["poll-0"])
    queue.add("edited")
    await until(lambda: "edited" in work.begun)
    assert work.begun == ["poll-0", "edited"]
    assert len(queue) == 4
    await ended(running)


async def test_what_failed_comes_again() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=1000)
    work = Work()
    work.failing.add("a")
    running = await worked(queue, work)
    queue.add("a")
    for _ in range(2):
        work.gate.release()
    await until(lambda: work.begun == ["a", "a"] and queue.is_idle)
    await ended(running)


async def test_of_two_delays_the_earlier_counts() -> None:
    queue: WorkQueue[str] = WorkQueue(paced_per_s=1000)
    queue.add_after("a", 3600)
    queue.add_after("a", 0)
    queue.add_after("a", 3600)
    work = Work()
    work.gate.release()
    running = await worked(queue, work)
    await until(lambda: work.begun == ["a"] and queue.is_idle)
    await ended(running)


def test_retries_are_bounded() -> None:
    assert work_queue.FIRST_RETRY_S < work_queue.LAST_RETRY_S <= 60


class Source:
    """A value that is read in a moment of its own."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.changes: list[tuple[int | None, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> int:
        self.reads += 1
        value = self.value
        await self.gate.wait()
        return value

    def changed(self, before: int | None, now: int) -> None:
        self.changes.append((before, now))


def fresh(source: Source) -> Fresh[int]:
    return Fresh(source.read, source.changed, max_age_s=3600)


async def test_those_who_ask_together_share_one_read() -> None:
    source = Source()
    value = fresh(source)
    assert await asyncio.gather(*(value.get() for _ in range(5))) == [0] * 5
    assert source.reads == 1


async def test_a_change_is_read_and_told_once() -> None:
    source = Source()
    value = fresh(source)
    await value.get()
    source.value = 1
    assert await value.get() == 0
    value.invalidate()
    assert await value.get() == 1
    value.invalidate()
    assert await value.get() == 1
    assert source.changes == [(None, 0), (0, 1)]


async def test_what_changes_while_it_is_read_is_read_again() -> None:
    source = Source()
    value = fresh(source)
    source.gate.clear()
    first = asyncio.create_task(value.get())
    await until(lambda: source.reads == 1)
    source.value = 1
    value.invalidate()
    second = asyncio.create_task(value.get())
    source.gate.set()
    assert (await first, await second) == (0, 1)
