"""What goes into the queue: once for each key, in its lane's order, at its time (laws 1-4, 7)."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from fased.core.errors import FailedPrecondition
from fased.core.names import RunId, SessionKey, TaskId
from fased.core.queue import WriteResult
from fased.core.runs import ExecutionMode, LiveState, Outcome, child_lane, lane_of
from fased.store.queue import cancel, delay, enqueue, finish, park, sweep
from tests.support.queues import (
    HOUR,
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

WORKER = uuid4()


async def test_time_is_the_databases_and_a_test_may_turn_it(conns: list[Any]) -> None:
    before = await conns[0].fetchval("SELECT public.fased_now()")
    await turn_clock(conns, timedelta(days=365))
    after = await conns[0].fetchval("SELECT public.fased_now()")
    assert timedelta(days=365) <= after - before < timedelta(days=366)

    [run_id] = await put(conns[0], new_run())
    [run] = await take(conns[0], WORKER)
    await finish_run(conns[0], run)
    row = await conns[0].fetchrow(
        "SELECT h.*, k.created_at AS key_at FROM scheduler.run_history h"
        " JOIN scheduler.enqueue_key k ON k.run_ids = ARRAY[h.id] WHERE h.id = $1",
        run_id,
    )
    for column in ("created_at", "run_at", "leased_at", "ended_at", "key_at"):
        assert row[column] >= after
    assert run.deadline_at - row["leased_at"] == timedelta(minutes=10)


async def test_a_known_key_answers_with_its_runs_even_after_their_end(conns: list[Any]) -> None:
    [first] = await enqueue.enqueue(conns[0], [item(new_run("a"), new_run("b"), key="event-1")])
    for run in await take(conns[0], WORKER, 2):
        await finish_run(conns[0], run)

    [again] = await enqueue.enqueue(conns[1], [item(new_run("elsewhere"), key="event-1")])

    assert not first.known
    assert again.known
    assert again.run_ids == first.run_ids
    assert await states(conns[0]) == {}


async def test_one_key_in_two_namespaces_is_two_events(conns: list[Any]) -> None:
    made = await enqueue.enqueue(
        conns[0], [item(new_run(namespace=name), key="event-1") for name in ("one", "two")]
    )

    assert [one.known for one in made] == [False, False]
    assert len(await take(conns[0], WORKER, 5)) == 2


async def test_a_key_twice_in_one_batch_makes_its_runs_once(conns: list[Any]) -> None:
    made = await enqueue.enqueue(conns[0], [item(new_run(), key="k"), item(new_run(), key="k")])

    assert [one.known for one in made] == [False, True]
    assert made[0].run_ids == made[1].run_ids
    assert len(await states(conns[0])) == 1


async def test_many_at_once_with_one_key_make_its_runs_once(conns: list[Any]) -> None:
    batch = [item(new_run(f"l{n}"), key=f"k{n}") for n in range(50)]
    answers = await asyncio.gather(
        *(enqueue.enqueue(conn, batch if n % 2 else batch[::-1]) for n, conn in enumerate(conns))
    )

    assert len(await states(conns[0])) == 50
    assert len({run_id for made in answers for one in made for run_id in one.run_ids}) == 50


async def test_a_lane_is_the_sessions_the_tasks_or_the_childs_own() -> None:
    session, task = SessionKey("agent:main:main"), TaskId(str(uuid4()))
    turn = lane_of(ExecutionMode.AGENT_TURN, session, task)

    assert turn == lane_of(ExecutionMode.AGENT_TURN, session, None)
    assert lane_of(ExecutionMode.NO_MODEL, session, task) != turn
    assert len({turn, lane_of(ExecutionMode.SKILL_ONLY, session, task), child_lane("r1")}) == 3


async def test_a_child_starts_while_its_parent_holds_its_lane(conns: list[Any]) -> None:
    await put(conns[0], new_run("session"))
    [parent] = await take(conns[0], WORKER)

    await put(conns[0], new_run(child_lane("r1")), parent=held(parent))

    assert len(await take(conns[0], WORKER)) == 1


async def test_a_lane_has_one_live_head_and_keeps_the_order_of_enqueue(conns: list[Any]) -> None:
    ids = await put(conns[0], *(new_run() for _ in range(4)))
    order = []
    while runs := await take(conns[1], WORKER, 10):
        [run] = runs
        order.append(run.run_id)
        assert await take(conns[2], WORKER, 10) == []
        await finish_run(conns[1], run)

    assert order == ids


async def test_the_database_itself_refuses_a_second_head(conns: list[Any]) -> None:
    [first, second] = await put(conns[0], new_run(), new_run())
    assert await states(conns[0]) == {first: LiveState.READY, second: LiveState.WAITING}

    with pytest.raises(asyncpg.UniqueViolationError):
        await conns[0].execute("UPDATE scheduler.run SET state = 1 WHERE id = $1", second)


async def test_lanes_are_locked_in_one_order_whatever_the_order_of_a_batch(
    conns: list[Any],
) -> None:
    lanes = [f"l{n:02}" for n in range(40)]

    async def fill(conn: Any, order: list[str]) -> None:
        for _ in range(10):
            await enqueue.enqueue(conn, [item(new_run(lane)) for lane in order])

    await asyncio.gather(
        *(fill(conn, lanes[n * 7 :] + lanes[: n * 7]) for n, conn in enumerate(conns))
    )

    assert len(await states(conns[0])) == 4 * 10 * 40
    assert await sweep.repair_headless(conns[0]) == 0


async def test_a_lane_that_waits_without_a_head_is_counted_and_repaired(conns: list[Any]) -> None:
    [run_id] = await put(conns[0], new_run())
    await conns[0].execute("UPDATE scheduler.run SET state = 0")

    assert await sweep.repair_headless(conns[0]) == 1
    assert await states(conns[0]) == {run_id: LiveState.READY}
    assert await sweep.repair_headless(conns[0]) == 0


async def test_a_delayed_run_stands_outside_its_lane_and_comes_back_last(conns: list[Any]) -> None:
    now = await conns[0].fetchval("SELECT public.fased_now()")
    [late] = await put(conns[0], new_run(run_at=now + HOUR))
    [first, second] = await put(conns[0], new_run(), new_run())
    assert (await states(conns[0]))[late] == LiveState.DELAYED
    assert await delay.return_due(conns[0]) == 0

    await turn_clock(conns, HOUR + timedelta(seconds=1))
    assert await delay.return_due(conns[0]) == 1

    order = []
    for _ in range(3):
        [run] = await take(conns[0], WORKER, 9, lease=9 * HOUR)
        order.append(run.run_id)
        await finish_run(conns[0], run)
    assert order == [first, second, late]


async def test_reschedule_counts_an_attempt_and_lets_the_lane_go_on(conns: list[Any]) -> None:
    [first, second] = await put(conns[0], new_run(), new_run())
    [run] = await take(conns[0], WORKER)
    assert run.attempts == 0
    now = await conns[0].fetchval("SELECT public.fased_now()")

    result = await delay.reschedule(conns[0], held(run), now + HOUR, "NETWORK", announce)
    again = await delay.reschedule(conns[0], held(run), now + HOUR, "NETWORK", announce)

    assert (result, again) == (WriteResult.WRITTEN, WriteResult.STALE)
    assert await states(conns[0]) == {first: LiveState.DELAYED, second: LiveState.READY}
    await finish_run(conns[0], (await take(conns[0], WORKER))[0])
    await turn_clock(conns, 2 * HOUR)
    await delay.return_due(conns[0])
    [run] = await take(conns[0], uuid4())
    assert (run.run_id, run.attempts) == (first, 1)


async def test_a_child_of_a_run_that_is_gone_is_refused_and_leaves_nothing(
    conns: list[Any],
) -> None:
    await put(conns[0], new_run("p"))
    [parent] = await take(conns[0], WORKER)
    child = item(new_run("c"), key="child-1", parent=held(parent))

    await cancel.cancel(conns[0], NAMESPACE, parent.run_id, announce)
    with pytest.raises(FailedPrecondition) as flagged:
        await enqueue.enqueue(conns[0], [child])
    await finish_run(conns[0], parent)
    with pytest.raises(FailedPrecondition) as ended:
        await enqueue.enqueue(conns[0], [child])

    assert (flagged.value.reason, ended.value.reason) == ("CANCELLED", "CANCELLED")
    assert await states(conns[0]) == {}
    assert await conns[0].fetchval("SELECT count(*) FROM scheduler.enqueue_key") == 1


async def test_a_child_of_a_parent_held_by_another_now_is_refused(conns: list[Any]) -> None:
    await put(conns[0], new_run("p"))
    [parent] = await take(conns[0], WORKER)
    [made] = await put(conns[0], new_run("c0"), parent=held(parent))
    await finish.release(conns[0], [held(parent)], announce)

    with pytest.raises(FailedPrecondition) as refused:
        await put(conns[0], new_run("c1"), parent=held(parent))

    assert refused.value.reason == "STALE"
    assert set(await states(conns[0])) == {parent.run_id, made}


async def test_a_childs_enqueue_and_its_parents_end_leave_no_orphan(conns: list[Any]) -> None:
    for n in range(25):
        await put(conns[0], new_run(f"p{n}"))
        [parent] = await take(conns[0], uuid4())
        await asyncio.gather(
            put(conns[1], new_run(f"c{n}"), parent=held(parent)),
            finish_run(conns[2], parent),
            return_exceptions=True,
        )
        assert await states(conns[0]) == {}


async def test_a_message_behind_a_parked_turn_is_pointed_out(conns: list[Any]) -> None:
    await put(conns[0], new_run("a"))
    [run] = await take(conns[0], WORKER)
    [behind_running] = await enqueue.enqueue(conns[0], [item(new_run("a"))])
    await park.park(conns[0], held(run), run.wake_seq, None, announce)

    [behind_parked] = await enqueue.enqueue(conns[0], [item(new_run("a"), key="late")])
    [again] = await enqueue.enqueue(conns[0], [item(new_run("a"), key="late")])

    assert behind_running.behind_parked == again.behind_parked == ()
    assert behind_parked.behind_parked == behind_parked.run_ids


async def test_an_enqueue_inside_a_callers_transaction_is_undone_with_it(conns: list[Any]) -> None:
    transaction = conns[0].transaction()
    await transaction.start()
    await put(conns[0], new_run())
    await transaction.rollback()

    assert await states(conns[0]) == {}
    assert await outcomes(conns[0]) == {}
    assert await take(conns[1], WORKER) == []


async def test_a_failed_run_is_history(
    conns: list[Any],
) -> None:
    [run_id] = await put(conns[0], new_run())
    [run] = await take(conns[0], WORKER)

    await finish_run(conns[0], run, Outcome.FAILED)

    assert await outcomes(conns[0]) == {RunId(run_id): "failed"}
