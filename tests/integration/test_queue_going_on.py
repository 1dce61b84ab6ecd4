"""Going on: what waits behind a run goes to the worker that ended it, in the end's transaction."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from fased.core.queue import Completion, LeasedRun, WriteResult
from fased.core.runs import LiveState, Outcome, RunClass, RunResult
from fased.store.queue import cancel, finish, history, park, workers
from tests.support.queues import (
    LEASE,
    NAMESPACE,
    announce,
    finish_run,
    held,
    new_run,
    put,
    states,
    take,
    turn_clock,
)

WORKER, OTHER = uuid4(), uuid4()
CLAIM_DEADLINE = timedelta(seconds=5)


async def go_on(
    conn: Any, *runs: LeasedRun, worker: UUID = WORKER
) -> tuple[list[WriteResult], list[LeasedRun]]:
    """End runs and go on; answers with how each end went, and with what the worker holds now."""
    done = [Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, RunResult()) for run in runs]
    results, leased = await finish.complete_and_go_on(conn, done, announce, worker)
    return [result.result for result in results], leased


async def test_the_next_of_a_lane_is_leased_as_its_head_ends(conns: list[Any]) -> None:
    _, second, third = await put(conns[0], *(new_run("a", prompt=f"p{n}") for n in range(3)))
    [run] = await take(conns[0], WORKER)

    results, [leased] = await go_on(conns[0], run)

    assert results == [WriteResult.WRITTEN]
    assert (leased.run_id, leased.body.prompt) == (second, "p1")
    assert leased.epoch > run.epoch
    assert leased.deadline_at > leased.leased_at
    assert await states(conns[0]) == {second: LiveState.LEASED, third: LiveState.WAITING}
    view = await history.get(conns[0], NAMESPACE, run.run_id)
    assert view.ended_at == leased.leased_at
    assert (await go_on(conns[0], leased))[1][0].run_id == third


async def test_several_lanes_go_on_together(conns: list[Any]) -> None:
    made = await put(conns[0], *(new_run(lane) for lane in "abab"))
    runs = await take(conns[0], WORKER, 2)

    _, leased = await go_on(conns[0], *runs)

    assert [run.run_id for run in leased] == made[2:]
    assert (await go_on(conns[0], *leased)) == ([WriteResult.WRITTEN] * 2, [])
    assert await states(conns[0]) == {}


async def test_whoever_waits_to_be_claimed_comes_first(conns: list[Any]) -> None:
    _, behind, other = await put(conns[0], new_run("a"), new_run("a"), new_run("b"))
    [run] = await take(conns[0], WORKER)

    assert (await go_on(conns[0], run))[1] == []

    assert await states(conns[0]) == {behind: LiveState.READY, other: LiveState.READY}


async def test_a_place_is_taken_by_a_run_of_its_class_only(conns: list[Any]) -> None:
    _, task = await put(conns[0], new_run("a", RunClass.MESSAGE), new_run("a", RunClass.SCHEDULED))
    [run] = await take(conns[0], WORKER, message_only=1)

    assert (await go_on(conns[0], run))[1] == []

    assert await states(conns[0]) == {task: LiveState.READY}


async def test_a_worker_whose_lease_ran_out_ends_its_run_and_gets_no_other(
    conns: list[Any],
) -> None:
    _, behind = await put(conns[0], new_run("a"), new_run("a"))
    [run] = await take(conns[0], WORKER)
    await turn_clock(conns, 2 * LEASE)

    assert await go_on(conns[0], run) == ([WriteResult.WRITTEN], [])

    assert await states(conns[0]) == {behind: LiveState.READY}


async def test_a_repeat_is_answered_with_the_outcome_and_no_other_run(conns: list[Any]) -> None:
    await put(conns[0], *(new_run("a") for _ in range(3)))
    [run] = await take(conns[0], WORKER)
    _, [leased] = await go_on(conns[0], run)

    assert await go_on(conns[1], run) == ([WriteResult.WRITTEN], [])

    assert (await states(conns[0]))[leased.run_id] == LiveState.LEASED


async def test_what_an_answer_that_was_lost_held_comes_back_by_the_heartbeat(
    conns: list[Any],
) -> None:
    await put(conns[0], new_run("a"), new_run("a"))
    [run] = await take(conns[0], WORKER)
    _, [lost] = await go_on(conns[0], run)
    await turn_clock(conns, 2 * CLAIM_DEADLINE)

    told = await workers.heartbeat(conns[0], WORKER, LEASE, [], CLAIM_DEADLINE)
    await finish.release(conns[0], told.unknown, announce)

    [again] = await take(conns[1], OTHER)
    assert again.run_id == lost.run_id
    assert (await finish_run(conns[0], lost)).result is WriteResult.STALE


async def test_the_end_of_a_parent_goes_on_in_its_own_lane_and_not_in_its_childrens(
    conns: list[Any],
) -> None:
    _, behind = await put(conns[0], new_run("p"), new_run("p"))
    [parent] = await take(conns[0], WORKER)
    await put(conns[0], new_run("c"), parent=held(parent))
    [child] = await take(conns[0], OTHER)
    await park.park(conns[0], held(child), child.wake_seq, None, announce)
    [behind_child] = await put(conns[0], new_run("c"))

    _, leased = await go_on(conns[0], parent)

    assert [run.run_id for run in leased] == [behind]
    assert await states(conns[0]) == {behind: LiveState.LEASED, behind_child: LiveState.READY}


async def test_a_run_that_was_asked_to_stop_is_followed_too(conns: list[Any]) -> None:
    _, behind = await put(conns[0], new_run("a"), new_run("a"))
    [run] = await take(conns[0], WORKER)
    await cancel.cancel(conns[0], NAMESPACE, run.run_id, announce)

    results, leased = await go_on(conns[0], run)

    assert results == [WriteResult.CANCELLED]
    assert [each.run_id for each in leased] == [behind]
