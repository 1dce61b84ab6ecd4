"""Firing on real PostgreSQL: each slot once, whoever fires, edits, fails or comes late."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from fased.core.events import OutboxEvent
from fased.core.names import AgentId, Namespace, SessionKey, TaskId
from fased.core.runs import ExecutionMode
from fased.core.tasks import MissedPolicy, Overlap, Task, TaskState, TriggerKind, TriggerSpec
from fased.store import tasks
from fased.store.queue import fire
from fased.store.queue.fire import Fired
from tests.support import queues

NAMESPACE = Namespace("default")
START = datetime(2026, 3, 2, tzinfo=UTC)


def tell(task: Task, why: str) -> Sequence[OutboxEvent]:
    return [OutboxEvent("notices", task.id, f"disabled-{task.id}", why.encode())]


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Any]:
    async with queues.connections(database_url, 1) as [opened]:
        await at(START, opened)
        yield opened


async def at(when: datetime, *conns: Any) -> None:
    """Set the time of connections."""
    for conn in conns:
        await conn.execute(
            "SELECT set_config('fased.clock_offset', ($1::timestamptz - now())::text, false)", when
        )


async def kept(
    conn: Any,
    expr: str = "1h",
    kind: TriggerKind = TriggerKind.EVERY,
    *,
    namespace: Namespace = NAMESPACE,
    next_at: datetime | None = START,
    **fields: Any,
) -> Task:
    """A task of a grid from START, first due then."""
    task = Task(
        namespace=namespace,
        id=TaskId(str(uuid4())),
        name="Tick",
        agent_id=AgentId("main"),
        session_key=SessionKey("agent:main:main"),
        prompt="tick",
        trigger=TriggerSpec(kind, expr),
        mode=ExecutionMode.NO_MODEL,
        created_at=START,
        next_at=next_at,
    )
    async with conn.transaction():
        await tasks.insert(conn, replace(task, **fields), "")
    return replace(task, **fields)


async def fire_all(conn: Any, limit: int = 200) -> Fired:
    """Fire until nothing is due."""
    total = Fired()
    while (fired := await fire.fire_due(conn, queues.announce, tell, limit)).due:
        total += fired
    return total


async def slots_of_runs(conn: Any) -> list[tuple[str, datetime]]:
    """Task and slot of every run that was ever made, live or ended, in order of number."""
    rows = await conn.fetch(
        """SELECT id, task_id, body FROM scheduler.run UNION ALL
           SELECT id, task_id, body FROM scheduler.run_history WHERE slot_count = 0 ORDER BY id"""
    )
    return [
        (str(row["task_id"]), datetime.fromisoformat(json.loads(row["body"])["slot"]))
        for row in rows
    ]


async def gaps(conn: Any) -> list[tuple[str, datetime, datetime, int]]:
    """The rows of slots that did not run."""
    rows = await conn.fetch(
        """SELECT outcome, first_slot, last_slot, slot_count FROM scheduler.run_history
            WHERE slot_count > 0 ORDER BY first_slot"""
    )
    return [tuple(row) for row in rows]


async def end_runs(conn: Any) -> None:
    """Carry out what is ready."""
    for run in await queues.take(conn, uuid4(), max_runs=500):
        await queues.finish_run(conn, run)


async def current(conn: Any, task: Task) -> Task:
    found = await tasks.get(conn, task.namespace, task.id)
    assert found is not None
    return found


async def test_two_replicas_fire_every_slot_once(conn: Any, database_url: str) -> None:
    made = [await kept(conn) for _ in range(60)]
    async with queues.connections(database_url, 2) as replicas:
        await at(START, *replicas)
        fired = await asyncio.gather(*(fire_all(replica, 7) for replica in replicas))
    assert sum(each.started for each in fired) == 60
    assert sorted(await slots_of_runs(conn)) == sorted((task.id, START) for task in made)


async def test_many_replicas_and_many_slots_end_without_a_slot_twice(
    conn: Any, database_url: str
) -> None:
    made = [await kept(conn, overlap=Overlap.QUEUE) for _ in range(10)]
    async with queues.connections(database_url, 4) as replicas:
        for hour in range(5):
            await at(START + timedelta(hours=hour), conn, *replicas)
            await asyncio.gather(*(fire_all(replica, 3) for replica in replicas))
            await end_runs(conn)
    fired = await slots_of_runs(conn)
    assert len(fired) == len(set(fired)) == 50
    assert {task_id for task_id, _ in fired} == {task.id for task in made}


async def test_a_slot_that_was_dealt_with_does_not_fire_again_though_the_clock_goes_back(
    conn: Any,
) -> None:
    task = await kept(conn)
    await at(START + timedelta(hours=1, minutes=30), conn)
    assert (await fire_all(conn)).started == 1
    await at(START - timedelta(minutes=5), conn)
    await conn.execute("UPDATE scheduler.task_due SET next_at = $1", START - timedelta(minutes=6))
    assert (await fire_all(conn)).started == 0
    due = await current(conn, task)
    assert due.last_slot == START + timedelta(hours=1)
    assert due.next_at == START + timedelta(hours=2)


async def test_a_repeated_fire_of_a_slot_makes_no_second_run(conn: Any) -> None:
    await kept(conn)
    await fire_all(conn)
    await end_runs(conn)
    await conn.execute("UPDATE scheduler.task_due SET next_at = $1, last_slot = '-infinity'", START)
    await fire_all(conn)
    assert len(await slots_of_runs(conn)) == 1


async def test_an_edit_that_another_row_does_not_know_drops_that_row_only(conn: Any) -> None:
    edited, *others = [await kept(conn) for _ in range(5)]
    await conn.execute("UPDATE scheduler.task SET generation = 2 WHERE id = $1", UUID(edited.id))
    fired = await fire.fire_due(conn, queues.announce, tell)
    assert (fired.due, fired.started) == (5, 4)
    assert {task_id for task_id, _ in await slots_of_runs(conn)} == {task.id for task in others}
    assert (await current(conn, edited)).next_at == START


async def test_a_slot_taken_by_another_drops_its_row_only(conn: Any) -> None:
    """The compare-and-set: whatever was planned, a slot that is dealt with is not fired."""
    taken, *others = [await kept(conn) for _ in range(5)]
    await conn.execute(
        f"""CREATE FUNCTION outrun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF NEW.key LIKE 'task:{taken.id}@%' THEN
                UPDATE scheduler.task_due SET last_slot = 'infinity' WHERE task_id = '{taken.id}';
              END IF;
              RETURN NEW;
            END $$;
            CREATE TRIGGER outrun BEFORE INSERT ON scheduler.enqueue_key
              FOR EACH ROW EXECUTE FUNCTION outrun();"""
    )
    fired = await fire.fire_due(conn, queues.announce, tell)
    assert fired.started == 4
    assert {task_id for task_id, _ in await slots_of_runs(conn)} == {task.id for task in others}
    assert (await current(conn, taken)).last_slot is None


async def test_a_batch_that_fails_is_repeated_row_by_row(conn: Any) -> None:
    poison, *others = [await kept(conn) for _ in range(5)]
    await conn.execute(
        f"""CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF NEW.task_id = '{poison.id}' THEN RAISE 'poisoned'; END IF;
              RETURN NEW;
            END $$;
            CREATE TRIGGER poison BEFORE INSERT ON scheduler.run
              FOR EACH ROW EXECUTE FUNCTION poison();"""
    )
    fired = await fire.fire_due(conn, queues.announce, tell)
    assert (fired.started, fired.disabled) == (4, 1)
    assert {task_id for task_id, _ in await slots_of_runs(conn)} == {task.id for task in others}
    disabled = await current(conn, poison)
    assert (disabled.state, disabled.reason, disabled.next_at) == (
        TaskState.DISABLED, "FIRE_FAILED", None,
    )  # fmt: skip
    assert (await fire_all(conn)).due == 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("""spec || '{"trigger": {"kind": "cron", "expr": "never"}}'""", "INVALID_CRON"),
        ("""'{"prompt": 7}'::jsonb""", "TASK_UNREADABLE"),
    ],
)
async def test_a_task_whose_next_slot_cannot_be_computed_is_disabled_and_the_others_fire(
    conn: Any, damage: str, reason: str
) -> None:
    broken, *others = [await kept(conn) for _ in range(3)]
    await conn.execute(f"UPDATE scheduler.task SET spec = {damage} WHERE id = $1", UUID(broken.id))
    await fire_all(conn)
    assert {task_id for task_id, _ in await slots_of_runs(conn)} == {task.id for task in others}
    row = await conn.fetchrow(
        "SELECT state, reason FROM scheduler.task WHERE id = $1", UUID(broken.id)
    )
    assert tuple(row) == ("disabled", reason)


async def test_a_task_that_is_disabled_tells_its_chat_once(conn: Any) -> None:
    await kept(conn, "never", TriggerKind.CRON)
    await fire_all(conn)
    await fire_all(conn)
    [event] = await queues.events(conn)
    assert event.topic == "notices"
    assert b"cannot be computed" in event.value


async def test_missed_slots_leave_one_row_and_one_run_by_default(conn: Any) -> None:
    await kept(conn)
    await at(START + timedelta(hours=5, minutes=30), conn)
    await fire_all(conn)
    assert [slot for _, slot in await slots_of_runs(conn)] == [START + timedelta(hours=5)]
    assert await gaps(conn) == [("missed", START, START + timedelta(hours=4), 5)]


async def test_missed_slots_of_policy_skip_share_one_row_over_two_outages(conn: Any) -> None:
    await kept(conn, missed=MissedPolicy.SKIP)
    for hours in (2, 7):
        await at(START + timedelta(hours=hours, minutes=30), conn)
        await fire_all(conn)
    assert await slots_of_runs(conn) == []
    assert await gaps(conn) == [("missed", START, START + timedelta(hours=7), 8)]


async def test_skipped_slots_share_a_row_until_a_slot_runs(conn: Any) -> None:
    await kept(conn)
    for hour in range(4):
        await at(START + timedelta(hours=hour), conn)
        await fire_all(conn)
    await end_runs(conn)
    for hour in range(4, 6):
        await at(START + timedelta(hours=hour), conn)
        await fire_all(conn)
    assert [slot for _, slot in await slots_of_runs(conn)] == [START, START + timedelta(hours=4)]
    hour_of = [START + timedelta(hours=hour) for hour in range(6)]
    assert await gaps(conn) == [
        ("skipped", hour_of[1], hour_of[3], 3),
        ("skipped", hour_of[5], hour_of[5], 1),
    ]
    ends = [event.value for event in await queues.events(conn) if event.topic == "ends"]
    assert ends.count(b"skipped:") == 2


async def test_a_run_to_replace_is_cancelled_and_the_new_one_starts(conn: Any) -> None:
    await kept(conn, overlap=Overlap.REPLACE)
    await fire_all(conn)
    [old] = await queues.take(conn, uuid4())
    await at(START + timedelta(hours=1), conn)
    fired = await fire_all(conn)
    assert (fired.cancelled, fired.started) == (1, 1)
    assert await conn.fetchval("SELECT cancel FROM scheduler.run WHERE id = $1", old.run_id)
    await queues.finish_run(conn, old)
    [new] = await queues.take(conn, uuid4())
    assert new.body.slot == START + timedelta(hours=1)
    assert (await queues.outcomes(conn))[old.run_id] == "cancelled"


async def test_one_that_waits_is_replaced_without_ever_starting(conn: Any) -> None:
    await kept(conn, overlap=Overlap.REPLACE)
    for hour in range(3):
        await at(START + timedelta(hours=hour), conn)
        await fire_all(conn)
    assert list((await queues.outcomes(conn)).values()) == ["cancelled", "cancelled"]
    [run] = await queues.take(conn, uuid4(), max_runs=9)
    assert run.body.slot == START + timedelta(hours=2)


async def test_a_pause_that_races_a_fire_stops_it_or_comes_after_it(
    conn: Any, database_url: str
) -> None:
    task = await kept(conn)
    async with queues.connections(database_url, 1) as [editor]:
        await at(START, editor)
        async with editor.transaction():
            locked = await tasks.lock(editor, NAMESPACE, task.id)
            assert locked is not None
            await tasks.set_state(editor, locked, TaskState.PAUSED)
            assert (await fire.fire_due(conn, queues.announce, tell)).due == 0
    assert (await fire.fire_due(conn, queues.announce, tell)).due == 0
    assert await slots_of_runs(conn) == []


async def test_an_edit_waits_for_the_fire_that_is_under_way(conn: Any, database_url: str) -> None:
    task = await kept(conn)
    async with queues.connections(database_url, 1) as [editor]:
        await at(START, editor)

        async def pause() -> Task | None:
            async with editor.transaction():
                locked = await tasks.lock(editor, NAMESPACE, task.id)
                assert locked is not None
                await tasks.set_state(editor, locked, TaskState.PAUSED)
                return locked

        async with conn.transaction():
            await fire.fire_due(conn, queues.announce, tell)
            pausing = asyncio.create_task(pause())
            await _until_blocked(conn, editor)
        locked = await pausing
    assert locked is not None
    assert locked.last_slot == START
    paused = await current(conn, task)
    assert (paused.state, paused.next_at, paused.last_slot) == (TaskState.PAUSED, None, START)


async def _until_blocked(conn: Any, other: Any) -> None:
    async with asyncio.timeout(20):
        while not await conn.fetchval(  # noqa: ASYNC110 (only the database knows)
            "SELECT cardinality(pg_blocking_pids($1)) > 0", other.get_server_pid()
        ):
            await asyncio.sleep(0)


async def test_a_week_passes_and_every_slot_of_it_is_accounted_for(
    conn: Any, database_url: str
) -> None:
    """A task each five minutes, in a zone; fired hourly by two replicas that take turns."""
    trigger = TriggerSpec(TriggerKind.CRON, "*/5 * * * *", "Europe/Berlin")
    task = await kept(
        conn, trigger=trigger, missed=MissedPolicy.ALL, missed_limit=20, overlap=Overlap.QUEUE
    )
    async with queues.connections(database_url, 2) as replicas:
        for hour in range(7 * 24):
            await at(START + timedelta(hours=hour), conn, *replicas)
            await fire_all(replicas[hour % 2])
            while await queues.states(conn):
                await end_runs(conn)
    slots = [slot for _, slot in await slots_of_runs(conn)]
    every = timedelta(minutes=5)
    assert slots == [START + every * n for n in range(12 * (7 * 24 - 1) + 1)]
    assert await gaps(conn) == []
    assert (await current(conn, task)).next_at == slots[-1] + every


async def test_tasks_of_two_namespaces_fire_apart(conn: Any) -> None:
    other = Namespace("other")
    ours, theirs = await kept(conn), await kept(conn, namespace=other)
    await fire_all(conn)
    rows = await conn.fetch("SELECT namespace, task_id FROM scheduler.run")
    assert {(row["namespace"], str(row["task_id"])) for row in rows} == {
        (NAMESPACE, ours.id),
        (other, theirs.id),
    }
    assert await tasks.get(conn, other, ours.id) is None
    assert await tasks.lock(conn, other, ours.id) is None
    assert [task.id for task in await tasks.find(conn, other, "Tick")] == [theirs.id]
    assert await tasks.find(conn, other, ours.id) == []


async def test_the_wait_until_the_next_slot_is_the_databases(conn: Any) -> None:
    assert await fire.next_due_in(conn) is None
    await kept(conn, next_at=START + timedelta(hours=1))
    left = await fire.next_due_in(conn)
    assert left is not None
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    await at(START + timedelta(hours=2), conn)
    left = await fire.next_due_in(conn)
    assert left is not None
    assert left < timedelta(0)
