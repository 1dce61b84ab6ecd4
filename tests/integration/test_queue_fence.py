"""What a worker may write: by run and epoch; cancel, park and wake beside it (laws 5, 6, 8)."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from fased.core.errors import FailedPrecondition, NotFound
from fased.core.names import Namespace, RunId, SessionKey, TaskId
from fased.core.queue import CancelResult, Completion, FinishedStep, HeldRun, WriteResult
from fased.core.runs import LiveState, Outcome, RunResult
from fased.store.queue import cancel, checkpoints, delay, finish, history, park, recover, retry
from tests.support.queues import (
    HOUR,
    NAMESPACE,
    announce,
    events,
    finish_run,
    held,
    new_run,
    outcomes,
    put,
    put_checkpoint,
    states,
    take,
    turn_clock,
)

WORKER = uuid4()


async def leased(conn: Any, lane: str = "a", parent: HeldRun | None = None) -> Any:
    await put(conn, new_run(lane), parent=parent)
    [run] = await take(conn, WORKER)
    return run


async def test_every_move_out_of_a_lease_gives_a_new_epoch(conns: list[Any]) -> None:
    conn = conns[0]
    far = await conn.fetchval("SELECT public.fased_now()") + HOUR
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda run: park.park(conn, held(run), 0, None, announce),
        lambda run: delay.reschedule(conn, held(run), far, "NETWORK", announce),
        lambda run: finish.release(conn, [held(run)], announce),
    )
    for n, give_up in enumerate(ways):
        run = await leased(conn, f"lane-{n}")
        await give_up(run)
        epoch = await conn.fetchval("SELECT epoch FROM scheduler.run WHERE id = $1", run.run_id)
        assert epoch > run.epoch
        await conn.execute("DELETE FROM scheduler.run")


async def test_a_stale_epoch_writes_nothing(conns: list[Any]) -> None:
    conn = conns[0]
    old = await leased(conn)
    await finish.release(conn, [held(old)], announce)
    [new] = await take(conn, WORKER)
    before = await conn.fetchrow("SELECT * FROM scheduler.run")
    now = await conn.fetchval("SELECT public.fased_now()")

    result = await finish_run(conn, old)
    assert (result.result, result.outcome) == (WriteResult.STALE, None)
    assert await finish.release(conn, [held(old)], announce) == [WriteResult.STALE]
    assert await park.park(conn, held(old), 0, None, announce) is WriteResult.STALE
    assert await delay.reschedule(conn, held(old), now, "X", announce) is WriteResult.STALE
    assert await put_checkpoint(conn, old.run_id, old.epoch, "plan", "1") is None

    assert await conn.fetchrow("SELECT * FROM scheduler.run") == before
    assert await checkpoints.list_of(conn, [old.run_id]) == {}
    assert (await finish_run(conn, new)).result is WriteResult.WRITTEN


async def test_a_repeated_complete_answers_with_the_outcome_recorded(conns: list[Any]) -> None:
    run = await leased(conns[0])
    await finish_run(conns[0], run, Outcome.FAILED, "first")

    again = await finish_run(conns[1], run, Outcome.SUCCEEDED, "second")

    assert (again.result, again.outcome) == (WriteResult.WRITTEN, Outcome.FAILED)
    view = await history.get(conns[0], NAMESPACE, run.run_id)
    assert view.result == RunResult(text="first")
    assert len(await events(conns[0])) == 1


async def test_each_completion_of_a_batch_stands_on_its_own(conns: list[Any]) -> None:
    await put(conns[0], *(new_run(f"l{n}") for n in range(3)))
    good, flagged, lost = await take(conns[0], WORKER, 3)
    await cancel.cancel(conns[0], NAMESPACE, flagged.run_id, announce)
    await finish.release(conns[0], [held(lost)], announce)

    results = await finish.complete(
        conns[0],
        [
            Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, RunResult(text="x"))
            for run in (lost, good, flagged)
        ]
        + [Completion(good.run_id, good.epoch + 1000, Outcome.FAILED, RunResult())],
        announce,
    )

    assert [result.result for result in results] == [
        WriteResult.STALE,
        WriteResult.WRITTEN,
        WriteResult.CANCELLED,
        WriteResult.STALE,
    ]
    assert await outcomes(conns[0]) == {good.run_id: "succeeded", flagged.run_id: "cancelled"}


async def test_the_first_write_of_a_checkpoint_stands_and_is_answered(conns: list[Any]) -> None:
    run = await leased(conns[0])
    first = await put_checkpoint(conns[0], run.run_id, run.epoch, "act/1", '{"n": 1}')
    second = await put_checkpoint(conns[1], run.run_id, run.epoch, "act/1", '{"n": 2}')
    await finish.release(conns[0], [held(run)], announce)

    [again] = await take(conns[0], WORKER)

    assert first is not None
    assert second == first
    assert again.checkpoints == (first,)
    assert await checkpoints.list_checkpoints(conns[0], NAMESPACE, run.run_id) == (first,)
    assert await checkpoints.list_checkpoints(conns[0], Namespace("other"), run.run_id) == ()


async def test_checkpoints_of_several_runs_are_each_decided_for_themselves(
    conns: list[Any],
) -> None:
    known, fresh, lost = [await leased(conns[0], lane) for lane in "abc"]
    first = await put_checkpoint(conns[0], known.run_id, known.epoch, "act", "1")

    stored = await checkpoints.put(
        conns[0],
        [
            FinishedStep(lost.run_id, lost.epoch + 1, "act", "2"),
            FinishedStep(known.run_id, known.epoch, "act", "3"),
            FinishedStep(fresh.run_id, fresh.epoch, "act", "4"),
            FinishedStep(known.run_id, known.epoch, "plan", "5"),
        ],
    )

    assert stored[:2] == [None, first]
    assert [kept.value_json for kept in stored[2:] if kept] == ["4", "5"]
    assert await checkpoints.list_of(conns[0], [lost.run_id]) == {}


async def test_a_checkpoint_that_meets_a_recovery_under_way_is_stale(conns: list[Any]) -> None:
    run = await leased(conns[0])
    transaction = conns[0].transaction()
    await transaction.start()
    await finish.release(conns[0], [held(run)], announce)

    late = asyncio.create_task(put_checkpoint(conns[1], run.run_id, run.epoch, "act", "1"))
    await blocked(conns[2])
    await transaction.commit()

    assert await late is None
    assert await checkpoints.list_of(conns[0], [run.run_id]) == {}


async def test_a_checkpoint_under_way_holds_recovery_off(conns: list[Any]) -> None:
    run = await leased(conns[0])
    await turn_clock(conns, timedelta(minutes=1))
    transaction = conns[0].transaction()
    await transaction.start()
    await put_checkpoint(conns[0], run.run_id, run.epoch, "plan", "1")

    assert (await recover.recover(conns[1], announce)).ready == 0
    await transaction.commit()
    assert (await recover.recover(conns[1], announce)).ready == 1
    [again] = await take(conns[1], uuid4())
    assert [kept.step for kept in again.checkpoints] == ["plan"]


async def test_a_parked_run_keeps_its_lane_until_it_is_woken(conns: list[Any]) -> None:
    run = await leased(conns[0])
    await put(conns[0], new_run())
    assert await park.park(conns[0], held(run), run.wake_seq, None, announce) is WriteResult.WRITTEN
    assert await take(conns[0], WORKER, 5) == []

    await park.wake(conns[0], NAMESPACE, run.run_id)

    [again] = await take(conns[0], WORKER, 5)
    assert (again.run_id, again.wake_seq) == (run.run_id, run.wake_seq + 1)


async def test_a_wake_that_comes_before_the_park_is_not_lost(conns: list[Any]) -> None:
    run = await leased(conns[0])
    await park.wake(conns[0], NAMESPACE, run.run_id)

    await park.park(conns[0], held(run), run.wake_seq, None, announce)

    assert await states(conns[0]) == {run.run_id: LiveState.READY}


async def test_an_approval_that_expires_wakes_its_run(conns: list[Any]) -> None:
    run = await leased(conns[0])
    now = await conns[0].fetchval("SELECT public.fased_now()")
    await park.park(conns[0], held(run), run.wake_seq, now + timedelta(minutes=30), announce)
    assert await park.wake_expired(conns[0]) == 0

    await turn_clock(conns, timedelta(minutes=31))

    assert await park.wake_expired(conns[0]) == 1
    [again] = await take(conns[0], uuid4())
    assert again.wake_seq == run.wake_seq + 1


async def test_a_wake_of_a_run_that_does_not_live_here_is_refused(conns: list[Any]) -> None:
    run = await leased(conns[0])
    with pytest.raises(NotFound):
        await park.wake(conns[0], Namespace("other"), run.run_id)
    await finish_run(conns[0], run)
    with pytest.raises(NotFound):
        await park.wake(conns[0], NAMESPACE, run.run_id)


async def test_a_childs_end_wakes_its_parked_parent(conns: list[Any]) -> None:
    parent = await leased(conns[0], "p")
    child = await leased(conns[0], "c", held(parent))
    await park.park(conns[0], held(parent), parent.wake_seq, None, announce)

    await finish_run(conns[0], child)

    [again] = await take(conns[0], WORKER)
    assert again.run_id == parent.run_id


async def test_a_lane_goes_on_whichever_of_its_runs_end_at_once(conns: list[Any]) -> None:
    for number, ends in enumerate(product((False, True), repeat=4)):
        task = uuid4()
        runs = (new_run(f"lane-{number}", task_id=task if end else None) for end in ends)
        stay = [
            run_id for run_id, end in zip(await put(conns[0], *runs), ends, strict=True) if not end
        ]
        await cancel.cancel_tasks(conns[0], NAMESPACE, [TaskId(str(task))], announce)
        for run_id in stay:
            [run] = await take(conns[0], WORKER, 2)
            assert run.run_id == run_id
            await finish_run(conns[0], run)
        assert await take(conns[0], WORKER) == []


async def test_cancel_ends_what_no_worker_holds_and_its_lane_goes_on(conns: list[Any]) -> None:
    [first, second] = await put(conns[0], new_run(), new_run())

    assert await cancel.cancel(conns[0], NAMESPACE, first, announce) is CancelResult.ENDED

    assert await outcomes(conns[0]) == {first: "cancelled"}
    assert await states(conns[0]) == {second: LiveState.READY}
    with pytest.raises(FailedPrecondition, match="already terminal: cancelled"):
        await cancel.cancel(conns[0], NAMESPACE, first, announce)
    with pytest.raises(NotFound):
        await cancel.cancel(conns[0], Namespace("other"), second, announce)


async def test_every_way_out_of_a_flagged_lease_ends_it_as_cancelled(conns: list[Any]) -> None:
    conn = conns[0]
    far = await conn.fetchval("SELECT public.fased_now()") + HOUR
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda run: park.park(conn, held(run), 0, None, announce),
        lambda run: delay.reschedule(conn, held(run), far, "NETWORK", announce),
        lambda run: finish.release(conn, [held(run)], announce),
        lambda run: finish_run(conn, run),
    )
    for n, way in enumerate(ways):
        run = await leased(conn, f"l{n}")
        assert await cancel.cancel(conn, NAMESPACE, run.run_id, announce) is CancelResult.FLAGGED
        await way(run)
        view = await history.get(conn, NAMESPACE, run.run_id)
        assert (view.state, view.result) == ("cancelled", RunResult(reason="CANCELLED"))
    run = await leased(conn, "lost")
    await cancel.cancel(conn, NAMESPACE, run.run_id, announce)
    await turn_clock(conns, HOUR)
    await recover.recover(conn, announce)
    assert (await outcomes(conn))[run.run_id] == "cancelled"


async def blocked(conn: Any) -> None:
    """Return when some connection waits for a lock."""
    while not await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ):
        pass


async def test_cancel_waits_for_a_claim_under_way_and_flags_its_run(conns: list[Any]) -> None:
    [run_id] = await put(conns[0], new_run())
    transaction = conns[0].transaction()
    await transaction.start()
    await take(conns[0], WORKER)

    told = asyncio.create_task(cancel.cancel(conns[1], NAMESPACE, run_id, announce))
    await blocked(conns[2])
    await transaction.commit()

    assert await told is CancelResult.FLAGGED


async def test_cancel_waits_for_a_release_under_way_and_ends_its_run(conns: list[Any]) -> None:
    run = await leased(conns[0])
    transaction = conns[0].transaction()
    await transaction.start()
    await finish.release(conns[0], [held(run)], announce)

    told = asyncio.create_task(cancel.cancel(conns[1], NAMESPACE, run.run_id, announce))
    await blocked(conns[2])
    await transaction.commit()

    assert await told is CancelResult.ENDED
    assert await states(conns[0]) == {}


async def test_a_parents_end_waits_for_its_childs_claim_under_way(conns: list[Any]) -> None:
    parent = await leased(conns[0], "p")
    [child] = await put(conns[0], new_run("c"), parent=held(parent))
    transaction = conns[0].transaction()
    await transaction.start()
    await take(conns[0], WORKER)

    done = asyncio.create_task(finish_run(conns[1], parent))
    await blocked(conns[2])
    await transaction.commit()

    assert (await done).result is WriteResult.WRITTEN
    view = await history.get(conns[0], NAMESPACE, child)
    assert (view.state, view.cancel_requested) == ("running", True)


async def test_cancel_wins_or_the_run_finished_never_both(conns: list[Any]) -> None:
    for n in range(25):
        run = await leased(conns[0], f"l{n}")
        told, done = await asyncio.gather(
            cancel.cancel(conns[1], NAMESPACE, run.run_id, announce),
            finish_run(conns[2], run),
            return_exceptions=True,
        )
        outcome = (await outcomes(conns[0]))[run.run_id]
        if outcome == "succeeded":
            assert isinstance(told, FailedPrecondition)
            assert done.result is WriteResult.WRITTEN  # type: ignore[union-attr]
        else:
            assert told is CancelResult.FLAGGED
            assert done.result is WriteResult.CANCELLED  # type: ignore[union-attr]


async def test_the_end_of_a_parent_ends_its_children_and_theirs(conns: list[Any]) -> None:
    parent = await leased(conns[0], "p")
    child = await leased(conns[0], "c", held(parent))
    grandchild = await leased(conns[0], "g", held(child))
    [waiting] = await put(conns[0], new_run("w"), parent=held(grandchild))
    [queued] = await put(conns[0], new_run("q"), parent=held(parent))
    for run in (child, grandchild):
        await park.park(conns[0], held(run), run.wake_seq, None, announce)

    await finish_run(conns[0], parent)

    ended = await outcomes(conns[0])
    assert ended.pop(parent.run_id) == "succeeded"
    assert ended == dict.fromkeys((child.run_id, grandchild.run_id, waiting, queued), "cancelled")
    assert len(await events(conns[0])) == 5


async def test_a_leased_child_is_asked_to_stop_when_its_parent_ends(conns: list[Any]) -> None:
    parent = await leased(conns[0], "p")
    child = await leased(conns[0], "c", held(parent))

    await finish_run(conns[0], parent)

    view = await history.get(conns[0], NAMESPACE, child.run_id)
    assert (view.state, view.cancel_requested) == ("running", True)
    assert (await finish_run(conns[0], child)).result is WriteResult.CANCELLED


async def test_cancelling_a_session_or_a_task_reaches_all_their_live_runs(
    conns: list[Any],
) -> None:
    task = uuid4()
    await put(
        conns[0],
        new_run("a", session_key="agent:main:one"),
        new_run("a", session_key="agent:main:one"),
        new_run("b", session_key="agent:main:one", task_id=task),
        new_run("c", session_key="agent:main:two", task_id=task),
        new_run("d", session_key="agent:main:two"),
        new_run("e", session_key="agent:main:one", namespace="other"),
    )

    one = SessionKey("agent:main:one")
    assert await cancel.cancel_session(conns[0], NAMESPACE, one, announce) == 3
    assert await cancel.cancel_tasks(conns[0], NAMESPACE, [TaskId(str(task))], announce) == 1
    assert len(await states(conns[0])) == 2


async def test_a_retried_run_keeps_its_number_and_its_steps(conns: list[Any]) -> None:
    run = await leased(conns[0])
    await put_checkpoint(conns[0], run.run_id, run.epoch, "plan", "1")
    with pytest.raises(FailedPrecondition) as live:
        await retry.retry(conns[0], NAMESPACE, run.run_id)
    await finish_run(conns[0], run, Outcome.FAILED)

    results = await asyncio.gather(
        *(retry.retry(conn, NAMESPACE, run.run_id) for conn in conns), return_exceptions=True
    )

    assert results.count(None) == 1
    assert live.value.reason == "RUN_LIVE"
    assert await outcomes(conns[0]) == {}
    [again] = await take(conns[0], WORKER, 9)
    assert again.run_id == run.run_id
    assert [kept.step for kept in again.checkpoints] == ["plan"]
    assert (await finish_run(conns[0], run)).result is WriteResult.STALE
    await finish_run(conns[0], again)
    with pytest.raises(FailedPrecondition) as ended:
        await retry.retry(conns[0], NAMESPACE, run.run_id)
    assert ended.value.reason == "NOT_RETRYABLE"
    with pytest.raises(NotFound):
        await retry.retry(conns[0], Namespace("other"), RunId(run.run_id))
