"""What stays in the queue's tables: live rows only; history, outbox, figures (laws 13, 15)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from fased.core.errors import NotFound
from fased.core.events import outbox_shard
from fased.core.names import Namespace, RunId, SessionKey, TaskId
from fased.core.queue import Completion, RunCursor
from fased.core.runs import Outcome, RunResult, session_lane
from fased.store.queue import (
    cancel,
    finish,
    history,
    lanes,
    partitions,
    retry,
    sweep,
)
from tests.support.queues import (
    HOUR,
    NAMESPACE,
    announce,
    events,
    finish_run,
    new_run,
    put,
    put_checkpoint,
    states,
    take,
    turn_clock,
)

WORKER = uuid4()
DAY = timedelta(days=1)
DAYS = timedelta(days=14)


async def count(conn: Any, table: str) -> int:
    number: int = await conn.fetchval(f"SELECT count(*) FROM scheduler.{table}")
    return number


async def test_an_ended_run_leaves_the_hot_table_for_todays_partition(conns: list[Any]) -> None:
    made = await partitions.make_partitions(conns[0])
    [run_id] = await put(conns[0], new_run())
    [run] = await take(conns[0], WORKER)
    await finish_run(conns[0], run)

    assert len(made) == 3
    assert await partitions.make_partitions(conns[0]) == []
    assert await states(conns[0]) == {}
    assert await conns[0].fetchval(f"SELECT id FROM scheduler.{made[0]}") == run_id
    assert await count(conns[0], "run_history_default") == 0


async def test_history_is_dropped_by_the_day(conns: list[Any]) -> None:
    await partitions.make_partitions(conns[0], 0)
    await put(conns[0], new_run())
    await finish_run(conns[0], (await take(conns[0], WORKER))[0])
    await turn_clock(conns, 3 * DAY)
    await partitions.make_partitions(conns[0], 0)

    assert await partitions.drop_partitions(conns[0], 5) == []
    assert len(await partitions.drop_partitions(conns[0], 2)) == 1
    assert await count(conns[0], "run_history") == 0


async def test_a_partition_made_late_takes_the_days_rows_along(conns: list[Any]) -> None:
    [run_id] = await put(conns[0], new_run())
    await finish_run(conns[0], (await take(conns[0], WORKER))[0])
    assert await count(conns[0], "run_history_default") == 1

    made = await asyncio.gather(*(partitions.make_partitions(conn) for conn in conns[:2]))

    assert len(made[0] + made[1]) == 3
    assert await count(conns[0], "run_history_default") == 0
    assert (await history.get(conns[0], NAMESPACE, run_id)).state == "succeeded"


async def test_keys_and_checkpoints_outlive_their_run_and_are_pruned_later(
    conns: list[Any],
) -> None:
    [run_id] = await put(conns[0], new_run())
    [run] = await take(conns[0], WORKER)
    await put_checkpoint(conns[0], run.run_id, run.epoch, "plan", "1")
    await finish_run(conns[0], run, Outcome.FAILED)
    for prune in (sweep.prune_keys, sweep.prune_checkpoints):
        assert await prune(conns[0], DAYS) == 0

    await turn_clock(conns, 15 * DAY)
    assert await sweep.prune_keys(conns[0], DAYS) == 1
    # Its run may still be retried.
    assert await sweep.prune_checkpoints(conns[0], DAYS) == 0
    await retry.retry(conns[0], NAMESPACE, run_id)
    assert await sweep.prune_checkpoints(conns[0], DAYS) == 0
    await conns[0].execute("DELETE FROM scheduler.run")
    assert await sweep.prune_checkpoints(conns[0], DAYS) == 1


async def test_idle_lanes_are_forgotten_but_none_that_a_run_in_any_state_has(
    conns: list[Any],
) -> None:
    now = await conns[0].fetchval("SELECT public.fased_now()")
    await put(conns[0], *(new_run(lane) for lane in ("done", "leased", "ready")))
    await put(conns[0], new_run("delayed", run_at=now + 99 * DAY))
    done, _ = await take(conns[0], WORKER, 2)
    await finish_run(conns[0], done)
    await turn_clock(conns, DAY)

    assert await sweep.prune_lanes(conns[0], 2 * DAY) == 0
    assert await sweep.prune_lanes(conns[0], HOUR) == 1

    kept = {row["key"] for row in await conns[0].fetch("SELECT key FROM scheduler.lane")}
    assert kept == {lanes.key_of(NAMESPACE, lane) for lane in ("delayed", "leased", "ready")}


async def test_a_lane_is_not_forgotten_under_a_run_that_is_being_put_in(conns: list[Any]) -> None:
    await put(conns[0], new_run("a"))
    await finish_run(conns[0], (await take(conns[0], WORKER))[0])
    await turn_clock(conns, DAY)
    transaction = conns[0].transaction()
    await transaction.start()
    await put(conns[0], new_run("a"))

    assert await sweep.prune_lanes(conns[1], HOUR) == 0
    await transaction.commit()
    assert await sweep.prune_lanes(conns[1], HOUR) == 0
    assert await count(conns[0], "lane") == 1


async def test_a_large_body_lives_outside_the_hot_row_and_comes_back_whole(
    conns: list[Any],
) -> None:
    prompt = "\0ä" * 4000
    [run_id, small] = await put(conns[0], new_run("a", prompt=prompt), new_run("b"))
    hot = await conns[0].fetch("SELECT id FROM scheduler.run WHERE body IS NULL")
    assert [row["id"] for row in hot] == [run_id]
    assert (await history.get(conns[0], NAMESPACE, run_id)).body.prompt == prompt

    large, other = await take(conns[0], WORKER, 2)
    assert (large.body.prompt, other.run_id) == (prompt, small)
    await finish_run(conns[0], large, Outcome.FAILED)
    assert await count(conns[0], "run_payload") == 0
    assert (await history.get(conns[0], NAMESPACE, run_id)).body.prompt == prompt
    await retry.retry(conns[0], NAMESPACE, run_id)
    assert await count(conns[0], "run_payload") == 1
    [again] = await take(conns[0], WORKER, 2)
    assert again.body.prompt == prompt


async def test_an_end_and_its_event_are_one_transaction(conns: list[Any]) -> None:
    await put(conns[0], *(new_run(f"l{n}") for n in range(40)))
    runs = await take(conns[0], WORKER, 40)
    transaction = conns[0].transaction()
    await transaction.start()
    await finish_run(conns[0], runs[0])
    await transaction.rollback()
    assert await count(conns[0], "outbox") == 0

    await finish.complete(
        conns[0],
        [Completion(run.run_id, run.epoch, Outcome.SUCCEEDED, RunResult()) for run in runs],
        announce,
    )

    written = await events(conns[0])
    assert {event.event_id for event in written} == {f"end-{run.run_id}" for run in runs}
    assert len({outbox_shard(event.key) for event in written}) > 1


async def test_a_tasks_figures_follow_its_ended_runs(conns: list[Any]) -> None:
    task = uuid4()
    await conns[0].execute(
        "INSERT INTO scheduler.task (namespace, id, name, agent_id, session_key, spec, state)"
        " VALUES ('default', $1, 't', 'main', 's', '{}', 'active')",
        task,
    )
    await put(conns[0], new_run("gone", task_id=uuid4()))
    await finish_run(conns[0], (await take(conns[0], WORKER))[0])
    for outcomes, failures in (
        ((Outcome.FAILED, Outcome.FAILED), 2),
        ((Outcome.CANCELLED,), 2),
        ((Outcome.TIMED_OUT,), 3),
        ((Outcome.FAILED, Outcome.SUCCEEDED), 0),
        ((Outcome.SUCCEEDED, Outcome.FAILED), 1),
    ):
        await put(conns[0], *(new_run(f"l{n}", task_id=task) for n in range(len(outcomes))))
        runs = await take(conns[0], WORKER, 2)
        done = [
            Completion(run.run_id, run.epoch, outcome, RunResult())
            for run, outcome in zip(runs, outcomes, strict=True)
        ]
        await finish.complete(conns[0], done, announce)
        row = await conns[0].fetchrow("SELECT * FROM scheduler.task_stats")
        assert row["failures_in_row"] == failures
    assert (row["task_id"], row["runs_total"], row["successes_total"]) == (task, 8, 2)
    assert row["last_run_id"] == runs[-1].run_id


async def test_runs_are_listed_live_first_then_by_their_end(conns: list[Any]) -> None:
    ids = await put(conns[0], *(new_run(f"l{n}") for n in range(7)))
    runs = await take(conns[0], WORKER, 4)
    for run in (runs[2], runs[0], runs[3], runs[1]):
        await finish_run(conns[0], run)
    expected = [ids[6], ids[5], ids[4], ids[1], ids[3], ids[0], ids[2]]

    for size in (1, 2, 3, 7, 50):
        listed: list[RunId] = []
        cursor: RunCursor | None = None
        while True:
            page, cursor = await history.list_runs(conns[0], NAMESPACE, limit=size, after=cursor)
            listed += [view.run_id for view in page]
            if cursor is None:
                break
        assert listed == expected


async def test_lists_of_a_task_or_a_session_hold_its_own_runs_only(conns: list[Any]) -> None:
    task, session = uuid4(), SessionKey("agent:main:one")
    [of_task, of_session, other] = await put(
        conns[0],
        new_run("a", task_id=task),
        new_run("b", session_key=session),
        new_run("c", session_key=session, namespace="other"),
    )
    for _ in range(2):
        tasks, _cursor = await history.list_runs(conns[0], NAMESPACE, task_id=TaskId(str(task)))
        sessions, _cursor = await history.list_runs(conns[0], NAMESPACE, session_key=session)
        assert [view.run_id for view in tasks] == [of_task]
        assert [view.run_id for view in sessions] == [of_session]
        for run in await take(conns[0], WORKER, 3):
            await finish_run(conns[0], run)
    assert (await history.get(conns[0], Namespace("other"), other)).result == RunResult(text="done")
    with pytest.raises(NotFound):
        await history.get(conns[0], NAMESPACE, other)


async def test_a_sessions_live_runs_are_found_in_its_lane_and_outside_it(conns: list[Any]) -> None:
    session = SessionKey("agent:main:one")
    lane = session_lane(session)
    later = datetime.now(UTC) + HOUR
    made = await put(
        conns[0],
        new_run(lane, session_key=session),
        new_run(lane, session_key=session),
        new_run(lane, session_key=session, run_at=later),
        new_run("task:1", session_key=session),
        new_run("task:1", session_key=session),
        new_run("task:2", session_key=session, run_at=later),
    )
    await put(conns[0], new_run(lane, namespace="other", session_key=session), new_run("a"))
    await take(conns[0], WORKER)

    views, _cursor = await history.list_runs(conns[0], NAMESPACE, session_key=session)
    assert [view.run_id for view in views] == made[::-1]
    assert await cancel.cancel_session(conns[0], NAMESPACE, session, announce) == len(made)


async def test_the_status_counts_a_namespaces_live_runs(conns: list[Any]) -> None:
    later = datetime.now(UTC) + HOUR
    await put(conns[0], new_run("a"), new_run("a"), new_run("b"), new_run("c", run_at=later))
    await put(conns[0], new_run("a", namespace="other"))
    await take(conns[0], WORKER)
    await turn_clock(conns, timedelta(seconds=10))

    status = await history.queue_status(conns[0], NAMESPACE)

    assert status.oldest_ready_age_s >= 0
    namespaces = {status, await history.queue_status(conns[0], Namespace("other"))}
    assert {(s.queued, s.running, s.parked, s.delayed, s.workers) for s in namespaces} in (
        {(2, 1, 0, 1, 1), (1, 0, 0, 0, 1)},
        {(3, 0, 0, 1, 1), (0, 1, 0, 0, 1)},
    )
