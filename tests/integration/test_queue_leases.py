"""What a claim leaves behind: leases that last, claims that are over, and nothing in an index."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from fased.core.queue import Completion, HeldRun
from fased.core.runs import LiveState, Outcome, RunResult
from fased.store.queue import claim, enqueue, finish, history, lanes, leases, recover, workers
from tests.support.queues import (
    LEASE,
    NAMESPACE,
    announce,
    finish_run,
    held,
    item,
    new_run,
    outcomes,
    put,
    states,
    take,
    turn_clock,
)

NOW = timedelta(0)
SECOND = timedelta(seconds=1)
_COLUMN = "SELECT id, state FROM scheduler.run"
_CLAIMS = "SELECT run_ids FROM scheduler.claim ORDER BY id"
_WRITTEN = """SELECT pg_stat_get_xact_tuples_updated('scheduler.run'::regclass) AS rows,
  pg_stat_get_xact_tuples_hot_updated('scheduler.run'::regclass) AS without_index"""


async def blocks(work: asyncio.Task[Any], conn: Any) -> bool:
    """Whether `work` waits for a lock before it ends."""
    while not work.done():
        if await conn.fetchval("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)"):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_claim_writes_no_index(conns: list[Any]) -> None:
    await put(conns[0], *(new_run(f"l{n}") for n in range(100)))
    async with conns[0].transaction():
        runs = await take(conns[0], uuid4(), 100)
        written = await conns[0].fetchrow(_WRITTEN)

    assert len(runs) == 100
    assert tuple(written) == (100, 100)


async def test_what_is_leased_still_leaves_what_is_ready_and_keeps_its_worker(
    conns: list[Any],
) -> None:
    worker = uuid4()
    first, second, third = await put(conns[0], *(new_run(f"l{n}") for n in range(3)))
    short, long = await take(conns[0], worker, 2)
    await finish_run(conns[0], short)

    assert await leases.settle(conns[1], SECOND) == 0
    await turn_clock(conns, 2 * SECOND)
    assert await leases.settle(conns[1], SECOND) == 1
    assert await leases.settle(conns[1], SECOND) == 0

    assert dict(await conns[0].fetch(_COLUMN)) == {second: LiveState.LEASED, third: LiveState.READY}
    assert [run.run_id for run in await take(conns[1], uuid4(), 5)] == [third]
    assert (await history.get(conns[0], NAMESPACE, second)).worker_id == str(worker)
    await finish_run(conns[0], long)
    assert await outcomes(conns[0]) == {first: "succeeded", second: "succeeded"}


async def test_a_claim_is_forgotten_once_its_worker_holds_none_of_it(conns: list[Any]) -> None:
    worker = uuid4()
    await put(conns[0], *(new_run(f"l{n}") for n in range(3)))
    first, second, third = await take(conns[0], worker, 3)
    await finish_run(conns[0], first)
    await finish.release(conns[0], [held(second)], announce)
    await leases.settle(conns[0], NOW)

    assert await leases.forget_claims(conns[0], SECOND) == 0
    assert await leases.forget_claims(conns[0], NOW) == 0
    await finish_run(conns[0], third)
    assert await leases.forget_claims(conns[0], SECOND) == 0
    assert await leases.forget_claims(conns[0], NOW) == 1
    assert await conns[0].fetch(_CLAIMS) == []


async def test_a_run_that_came_back_to_its_worker_is_listed_by_the_later_claim(
    conns: list[Any],
) -> None:
    worker = uuid4()
    await put(conns[0], new_run())
    [run] = await take(conns[0], worker)
    await finish.release(conns[0], [held(run)], announce)
    [again] = await take(conns[0], worker)
    await leases.settle(conns[0], NOW)
    # Its worker holds it by either: both stay until it does not.
    assert await leases.forget_claims(conns[0], NOW) == 0

    await turn_clock(conns, 2 * LEASE)
    assert (await recover.recover(conns[1], announce)).ready == 1
    assert await leases.forget_claims(conns[0], NOW) == 2
    assert await states(conns[0]) == {again.run_id: LiveState.READY}


@pytest.mark.parametrize("settled", [False, True])
async def test_a_lost_answer_is_found_by_its_worker_whether_settled_or_not(
    conns: list[Any], settled: bool
) -> None:
    worker = uuid4()
    await put(conns[0], new_run("a"), new_run("b"))
    known, lost = await take(conns[0], worker, 2)
    if settled:
        await leases.settle(conns[0], NOW)
        await leases.forget_claims(conns[0], NOW)
    beat = await workers.heartbeat(conns[0], worker, LEASE, [known.run_id], NOW)

    assert beat.cancel_run_ids == ()
    assert beat.unknown == (HeldRun(lost.run_id, lost.epoch),)


@pytest.mark.parametrize("settled", [False, True])
async def test_a_deadline_ends_a_lease_whether_settled_or_not(
    conns: list[Any], settled: bool
) -> None:
    short, long = await put(conns[0], new_run("a", run_for=SECOND), new_run("b"))
    await take(conns[0], uuid4(), 2, lease=timedelta(hours=1))
    if settled:
        await leases.settle(conns[0], NOW)
    await turn_clock(conns, 2 * SECOND)

    assert (await recover.recover(conns[1], announce)).timed_out == 1
    assert await outcomes(conns[0]) == {short: "timed_out"}
    assert await states(conns[0]) == {long: LiveState.LEASED}


async def test_a_lease_that_another_writes_is_settled_by_the_next_tick(conns: list[Any]) -> None:
    await put(conns[0], new_run("a"), new_run("b"))
    first, _ = await take(conns[0], uuid4(), 2)
    async with conns[1].transaction():
        await conns[1].execute("UPDATE scheduler.run SET cancel = true WHERE id = $1", first.run_id)
        assert await leases.settle(conns[0], NOW) == 1
    assert await leases.settle(conns[0], NOW) == 1


async def test_a_run_that_goes_on_is_settled_from_the_start(conns: list[Any]) -> None:
    worker = uuid4()
    _, second = await put(conns[0], new_run("a"), new_run("a"))
    [run] = await take(conns[0], worker)
    done = Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, RunResult())
    _, [following] = await finish.complete_and_go_on(conns[0], [done], announce, worker)

    assert following.run_id == second
    assert dict(await conns[0].fetch(_COLUMN)) == {second: LiveState.LEASED}
    assert [row["run_ids"] for row in await conns[0].fetch(_CLAIMS)] == [[run.run_id], [second]]


async def test_a_child_enqueued_while_its_parent_waits_to_end_ends_with_it(
    conns: list[Any],
) -> None:
    await put(conns[0], new_run("p"))
    [parent] = await take(conns[0], uuid4())
    async with conns[0].transaction():
        [made] = await enqueue.enqueue(conns[0], [item(new_run("c"), parent=held(parent))])
        ending = asyncio.create_task(finish_run(conns[1], parent))
        assert await blocks(ending, conns[2])
    await ending

    [child] = made.run_ids
    assert await outcomes(conns[0]) == {parent.run_id: "succeeded", child: "cancelled"}


async def test_a_child_ends_under_the_lane_of_its_parent(conns: list[Any]) -> None:
    await put(conns[0], new_run("p"))
    [parent] = await take(conns[0], uuid4())
    [child] = await put(conns[0], new_run("c"), parent=held(parent))
    [run] = await take(conns[0], uuid4())
    async with conns[0].transaction():
        await lanes.advance(conns[0], {lanes.key_of(NAMESPACE, "p"): 0})
        ending = asyncio.create_task(finish_run(conns[1], run))
        assert await blocks(ending, conns[2])
    await ending

    assert await outcomes(conns[0]) == {child: "succeeded"}


async def test_a_claim_that_gets_nothing_leaves_nothing(conns: list[Any]) -> None:
    assert await claim.claim(conns[0], uuid4(), 5, 0, LEASE, []) == []
    await put(conns[0], new_run())
    async with conns[0].transaction():
        await take(conns[0], uuid4())
        # All that is ready is locked by another.
        assert await claim.claim(conns[1], uuid4(), 5, 0, LEASE, []) == []
    assert len(await conns[0].fetch(_CLAIMS)) == 1
