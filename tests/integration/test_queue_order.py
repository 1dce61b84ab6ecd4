"""The order of claims: classes, the oldest's fifth, message slots, namespaces (law 11)."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

from fased.core.runs import RunClass
from tests.support.queues import new_run, put, take

WORKER = uuid4()


async def fill(conn: Any, run_class: RunClass, count: int, namespace: str = "default") -> None:
    await put(
        conn,
        *(new_run(f"{run_class.name}-{n}", run_class, namespace=namespace) for n in range(count)),
    )


async def test_messages_go_first_and_a_fifth_goes_to_the_oldest_of_the_others(
    conns: list[Any],
) -> None:
    for run_class in (RunClass.SCHEDULED, RunClass.CHILD, RunClass.MANUAL, RunClass.MESSAGE):
        await fill(conns[0], run_class, 20)

    taken = Counter(run.run_class for run in await take(conns[0], WORKER, 10))

    assert taken == {RunClass.MESSAGE: 8, RunClass.SCHEDULED: 2}


async def test_classes_follow_one_another_when_the_first_runs_out(conns: list[Any]) -> None:
    for run_class in (RunClass.SCHEDULED, RunClass.CHILD, RunClass.MANUAL):
        await fill(conns[0], run_class, 4)

    taken = Counter(run.run_class for run in await take(conns[0], WORKER, 10))

    assert taken == {RunClass.MANUAL: 4, RunClass.CHILD: 4, RunClass.SCHEDULED: 2}


async def test_slots_kept_for_messages_take_nothing_else(conns: list[Any]) -> None:
    await fill(conns[0], RunClass.MANUAL, 10)

    assert len(await take(conns[0], WORKER, 5, message_only=1)) == 4
    await fill(conns[0], RunClass.MESSAGE, 10)
    taken = Counter(run.run_class for run in await take(conns[0], WORKER, 5, message_only=5))
    assert taken == {RunClass.MESSAGE: 5}


async def test_each_namespace_with_ready_runs_gets_an_equal_share(conns: list[Any]) -> None:
    await fill(conns[0], RunClass.MESSAGE, 200, "loud")
    await fill(conns[0], RunClass.MESSAGE, 40, "calm")
    await fill(conns[0], RunClass.MESSAGE, 40, "quiet")

    taken = Counter(run.namespace for run in await take(conns[0], WORKER, 90))

    assert taken == {"loud": 30, "calm": 30, "quiet": 30}


async def test_claims_of_one_run_share_out_among_namespaces_too(conns: list[Any]) -> None:
    await fill(conns[0], RunClass.MESSAGE, 200, "loud")
    await fill(conns[0], RunClass.MESSAGE, 200, "calm")

    taken: Counter[str] = Counter()
    for _ in range(120):
        taken.update(run.namespace for run in await take(conns[0], WORKER))

    # Drawn at random: less than a quarter of 120 fair draws comes once in ten million times.
    assert min(taken.values()) > 30


async def test_claims_at_once_take_different_runs(conns: list[Any]) -> None:
    await fill(conns[0], RunClass.MESSAGE, 100)

    batches = await asyncio.gather(*(take(conn, uuid4(), 25) for conn in conns))

    taken = [run.run_id for batch in batches for run in batch]
    assert len(taken) == len(set(taken)) == 100
