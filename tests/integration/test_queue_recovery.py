"""Workers that are lost, late or draining, and runs past their deadline (laws 9, 12)."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from fased.core.errors import FailedPrecondition, NotFound
from fased.core.names import Namespace
from fased.core.queue import HeldRun, WriteResult
from fased.core.runs import LiveState, RunResult
from fased.store.queue import (
    cancel,
    finish,
    history,
    park,
    recover,
    sweep,
    workers,
)
from tests.support.queues import (
    LEASE,
    NAMESPACE,
    announce,
    finish_run,
    held,
    new_run,
    outcomes,
    put,
    states,
    take,
    turn_clock,
)

MINUTE = timedelta(minutes=1)
CLAIM_DEADLINE = timedelta(seconds=5)


async def beat(conn: Any, worker: Any, *runs: Any) -> Any:
    known = [run.run_id for run in runs]
    return await workers.heartbeat(conn, worker, LEASE, known, CLAIM_DEADLINE)


async def test_a_lost_workers_run_is_ready_again_at_once_and_its_attempts_stay(
    conns: list[Any],
) -> None:
    worker = uuid4()
    await put(conns[0], new_run())
    [run] = await take(conns[0], worker)
    assert (await recover.recover(conns[1], announce)).total == 0

    await turn_clock(conns, timedelta(seconds=16))
    assert (await recover.recover(conns[1], announce)).ready == 1

    [again] = await take(conns[0], uuid4())
    view = await history.get(conns[0], NAMESPACE, run.run_id)
    assert (again.run_id, again.attempts, view.crashes) == (run.run_id, 0, 1)
    assert again.epoch > run.epoch
    assert (await finish_run(conns[0], run)).result is WriteResult.STALE


async def test_the_fourth_lost_worker_ends_a_run_as_worker_lost(conns: list[Any]) -> None:
    [run_id, waiting] = await put(conns[0], new_run(), new_run())
    for n in range(4):
        await turn_clock(conns, n * MINUTE)
        [run] = await take(conns[0], uuid4(), 5)
        assert run.run_id == run_id
        await turn_clock(conns, n * MINUTE + timedelta(seconds=20))
        await recover.recover(conns[n % 3], announce)

    view = await history.get(conns[0], NAMESPACE, run_id)
    assert (view.state, view.result) == ("failed", RunResult(reason="WORKER_LOST"))
    assert await states(conns[0]) == {waiting: LiveState.READY}


async def test_recovery_of_a_worker_whose_row_is_gone_finds_its_runs(conns: list[Any]) -> None:
    [run_id] = await put(conns[0], new_run())
    await take(conns[0], uuid4())
    await conns[0].execute("DELETE FROM scheduler.worker")

    await recover.recover(conns[1], announce)

    assert await states(conns[0]) == {run_id: LiveState.READY}


async def test_several_recoverers_at_once_take_each_run_once(conns: list[Any]) -> None:
    await put(conns[0], *(new_run(f"l{n}") for n in range(60)))
    await take(conns[0], uuid4(), 60)
    await turn_clock(conns, MINUTE)

    passes = await asyncio.gather(*(recover.recover(conn, announce) for conn in conns))

    assert sum(done.ready for done in passes) == 60
    assert {
        row["crashes"] for row in await conns[0].fetch("SELECT crashes FROM scheduler.run")
    } == {1}


async def test_a_leased_run_past_its_deadline_times_out_though_its_worker_lives(
    conns: list[Any],
) -> None:
    worker = uuid4()
    await put(conns[0], new_run(run_for=timedelta(minutes=2)), new_run())
    [run] = await take(conns[0], worker)
    for minute in (1, 2):
        await turn_clock(conns, minute * MINUTE + timedelta(seconds=1))
        await beat(conns[0], worker, run)
        done = await recover.recover(conns[1], announce)
        assert done.timed_out == minute - 1

    assert await outcomes(conns[0]) == {run.run_id: "timed_out"}
    assert (await finish_run(conns[0], run)).result is WriteResult.STALE
    assert list((await states(conns[0])).values()) == [LiveState.READY]


async def test_the_deadline_counts_leased_time_only(conns: list[Any]) -> None:
    worker = uuid4()
    await put(conns[0], new_run(run_for=timedelta(minutes=10)))
    [run] = await take(conns[0], worker, lease=60 * MINUTE)
    await turn_clock(conns, 4 * MINUTE)
    await park.park(conns[0], held(run), run.wake_seq, None, announce)
    await turn_clock(conns, 30 * MINUTE)
    await park.wake(conns[0], NAMESPACE, run.run_id)

    [run] = await take(conns[0], worker)

    left = run.deadline_at - await conns[0].fetchval("SELECT public.fased_now()")
    assert timedelta(minutes=5, seconds=30) < left <= timedelta(minutes=6)
    await turn_clock(conns, 33 * MINUTE)
    await finish.release(conns[0], [held(run)], announce)
    [run] = await take(conns[0], worker)
    left = run.deadline_at - await conns[0].fetchval("SELECT public.fased_now()")
    assert timedelta(minutes=2, seconds=30) < left <= timedelta(minutes=3)


async def test_a_flagged_run_past_its_deadline_ends_as_cancelled(conns: list[Any]) -> None:
    await put(conns[0], new_run())
    [run] = await take(conns[0], uuid4(), lease=60 * MINUTE)
    await cancel.cancel(conns[0], NAMESPACE, run.run_id, announce)
    await turn_clock(conns, 11 * MINUTE)

    await recover.recover(conns[0], announce)

    assert await outcomes(conns[0]) == {run.run_id: "cancelled"}


async def test_a_late_heartbeat_revives_a_lease_that_recovery_has_not_reached(
    conns: list[Any],
) -> None:
    worker = uuid4()
    await put(conns[0], new_run())
    [run] = await take(conns[0], worker)
    await turn_clock(conns, MINUTE)

    await beat(conns[0], worker, run)

    assert (await recover.recover(conns[1], announce)).total == 0
    assert await states(conns[0]) == {run.run_id: LiveState.LEASED}


async def test_a_worker_that_was_given_up_is_told_so_and_gets_nothing(conns: list[Any]) -> None:
    worker = uuid4()
    await put(conns[0], new_run())
    [run] = await take(conns[0], worker)
    await turn_clock(conns, MINUTE)
    assert await take(conns[0], worker) == []
    await recover.recover(conns[1], announce)

    with pytest.raises(FailedPrecondition) as silenced:
        await beat(conns[0], worker, run)
    with pytest.raises(FailedPrecondition) as refused:
        await take(conns[0], worker)

    assert silenced.value.reason == refused.value.reason == "LEASE_LOST"
    with pytest.raises(FailedPrecondition):
        await beat(conns[0], uuid4())


async def test_a_heartbeat_names_the_runs_to_stop(conns: list[Any]) -> None:
    worker = uuid4()
    await put(conns[0], *(new_run(f"l{n}") for n in range(3)))
    kept, flagged, lost = await take(conns[0], worker, 3)
    await cancel.cancel(conns[0], NAMESPACE, flagged.run_id, announce)
    await finish.release(conns[0], [held(lost)], announce)

    told = await beat(conns[0], worker, kept, flagged, lost)

    assert told.cancel_run_ids == (flagged.run_id, lost.run_id)
    assert told.unknown == ()


async def test_a_lease_whose_claim_was_never_answered_is_given_back(conns: list[Any]) -> None:
    worker = uuid4()
    [run_id] = await put(conns[0], new_run())
    [run] = await take(conns[0], worker)
    assert (await beat(conns[0], worker)).unknown == ()
    await turn_clock(conns, timedelta(seconds=6))

    told = await beat(conns[0], worker)
    await finish.release(conns[0], told.unknown, announce)

    assert told.unknown == (HeldRun(run_id, run.epoch),)
    [again] = await take(conns[0], worker)
    assert again.run_id == run_id


async def test_release_gives_a_run_back_at_once_in_its_place(conns: list[Any]) -> None:
    worker = uuid4()
    first, _ = await put(conns[0], new_run(), new_run())
    [run] = await take(conns[0], worker)

    assert await finish.release(conns[0], [held(run)], announce) == [WriteResult.WRITTEN]

    [again] = await take(conns[0], worker, 5)
    assert (again.run_id, again.attempts) == (first, 0)
    assert await finish.release(conns[0], [held(run)], announce) == [WriteResult.STALE]


async def test_at_the_start_of_one_process_all_leases_end(conns: list[Any]) -> None:
    worker = uuid4()
    await put(conns[0], *(new_run(f"l{n}") for n in range(3)))
    await take(conns[0], worker, 3, lease=60 * MINUTE)

    assert await recover.end_all_leases(conns[1], announce) == 3

    assert set((await states(conns[0])).values()) == {LiveState.READY}
    with pytest.raises(FailedPrecondition):
        await beat(conns[0], worker)
    assert len(await take(conns[0], uuid4(), 5)) == 3


async def test_clear_stale_takes_a_run_only_from_an_expired_lease(conns: list[Any]) -> None:
    [run_id] = await put(conns[0], new_run())

    async def refusal() -> str:
        with pytest.raises(FailedPrecondition) as refused:
            await recover.clear_stale(conns[0], NAMESPACE, run_id, announce)
        return refused.value.reason

    assert await refusal() == "NOT_LEASED"
    await take(conns[0], uuid4())
    assert await refusal() == "LEASE_STANDS"
    with pytest.raises(NotFound):
        await recover.clear_stale(conns[0], Namespace("other"), run_id, announce)
    await turn_clock(conns, MINUTE)
    await recover.clear_stale(conns[0], NAMESPACE, run_id, announce)

    assert await states(conns[0]) == {run_id: LiveState.READY}


async def test_workers_given_up_long_ago_are_forgotten(conns: list[Any]) -> None:
    old, new = uuid4(), uuid4()
    await workers.register(conns[0], old, LEASE, ["openai"])
    await turn_clock(conns, 60 * MINUTE)
    await recover.recover(conns[0], announce)
    await workers.register(conns[0], new, LEASE, ["ollama", "openai"])

    assert await sweep.prune_workers(conns[0], timedelta(minutes=30)) == 1
    assert await workers.live_providers(conns[0]) == ("ollama", "openai")
