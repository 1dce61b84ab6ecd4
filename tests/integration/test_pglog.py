"""What only the log bus decides: retention, eviction, who balances; over real PostgreSQL."""

import asyncio
import random
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from fased.bus import assignment, topics
from fased.bus.coalesce import Coalescer
from fased.bus.pglog import PgLogBus
from fased.bus.port import Record
from fased.store import buslog, notify
from fased.store.buslog import Entry, Member, Partition, Position
from tests.support.buses import Place, open_bus, until

TOPIC = "test.log"


@pytest.fixture
def place(database_url: str) -> Place:
    return Place("pglog", database_url, TOPIC)


async def append(conn: "asyncpg.Connection[asyncpg.Record]", count: int, age: timedelta) -> None:
    await conn.execute("SELECT set_config('fased.clock_offset', $1, false)", f"-{age}")
    entries = [Entry(TOPIC, 0, "key", str(n).encode(), "{}") for n in range(count)]
    await buslog.append(conn, entries)
    await conn.execute("RESET fased.clock_offset")


async def values(conn: "asyncpg.Connection[asyncpg.Record]") -> list[int]:
    return [row.offset for row in await buslog.read(conn, [Position(TOPIC, 0, 0)], 1000)]


async def test_retention_deletes_old_records_that_every_group_has_read(
    database_url: str,
) -> None:
    conn = await asyncpg.connect(database_url)
    await buslog.ensure_partitions(conn, {TOPIC: 1})
    await append(conn, 10, timedelta(days=8))
    await append(conn, 2, timedelta(days=1))
    for number, (group, passed) in enumerate((("fast", 12), ("slow", 6))):
        await buslog.join(conn, group, UUID(int=number), [TOPIC], timedelta(seconds=60))
        await conn.execute(
            "UPDATE bus.consumer_offset SET next_offset = $2 WHERE consumer_group = $1",
            group,
            passed,
        )
    assert await buslog.prune(conn, TOPIC, timedelta(days=7), 4) == 4
    assert await buslog.prune(conn, TOPIC, timedelta(days=7), 4) == 2
    assert await buslog.prune(conn, TOPIC, timedelta(days=7), 4) == 0
    assert await values(conn) == [6, 7, 8, 9, 10, 11]
    await conn.execute("UPDATE bus.consumer_offset SET next_offset = 12")
    assert await buslog.prune(conn, TOPIC, timedelta(days=7), 1000) == 4
    assert await values(conn) == [10, 11]
    await conn.close()


async def test_a_process_that_is_alone_need_not_wait_for_its_predecessors_lease(
    place: Place,
) -> None:
    """The lease is of an hour, so only the eviction can end this test."""
    conn = await asyncpg.connect(place.address)
    async with open_bus(place) as bus:
        assert isinstance(bus, PgLogBus)
        dead = UUID(int=1)
        await buslog.join(conn, "group", dead, [TOPIC], timedelta(hours=1))
        wanted = [Partition(TOPIC, number) for number in range(4)]
        assert len(await buslog.claim(conn, "group", dead, wanted)) == 4
        await bus.evict_members()
        await bus.publish([Record(TOPIC, "key", b"x")])
        async with bus.consumer("group", [TOPIC]) as consumer:
            assert (await consumer.next_batch()).records[0].value == b"x"
    await conn.close()


async def test_a_lease_that_was_ended_cannot_be_renewed(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    await buslog.ensure_partitions(conn, {TOPIC: 1})
    one, two = UUID(int=1), UUID(int=2)
    await buslog.join(conn, "group", one, [TOPIC], timedelta(seconds=-1))
    await buslog.join(conn, "group", two, [TOPIC], timedelta(hours=1))
    (claim,) = await buslog.claim(conn, "group", one, [Partition(TOPIC, 0)])
    assert await buslog.claim(conn, "group", two, [Partition(TOPIC, 0)]) == []
    assert [m.id for m in await buslog.members(conn, "group", reap=True)] == [two]
    assert await buslog.heartbeat(conn, "group", one, timedelta(hours=1)) is None
    (taken,) = await buslog.claim(conn, "group", two, [Partition(TOPIC, 0)])
    late = buslog.Commit("group", TOPIC, 0, claim.generation, 1)
    good = buslog.Commit("group", TOPIC, 0, taken.generation, 1)
    assert await buslog.commit(conn, [late, good]) == {good}
    await conn.close()


async def test_a_lease_that_is_over_but_not_ended_is_revived_by_a_heartbeat(
    database_url: str,
) -> None:
    conn = await asyncpg.connect(database_url)
    one = UUID(int=1)
    await buslog.join(conn, "group", one, [TOPIC], timedelta(seconds=-1))
    assert await buslog.heartbeat(conn, "group", one, timedelta(hours=1)) is not None
    assert [m.id for m in await buslog.members(conn, "group", reap=True)] == [one]
    await conn.close()


async def test_a_publish_to_a_partition_that_was_never_made_leaves_nothing(
    database_url: str,
) -> None:
    conn = await asyncpg.connect(database_url)
    await buslog.ensure_partitions(conn, {TOPIC: 1})
    with pytest.raises(asyncpg.NotNullViolationError):
        await buslog.append(
            conn, [Entry(TOPIC, 0, "key", b"", "{}"), Entry(TOPIC, 7, "key", b"", "{}")]
        )
    assert await values(conn) == []
    await conn.close()


async def test_publishers_to_overlapping_partitions_never_deadlock(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    await buslog.ensure_partitions(conn, {TOPIC: 60})
    await conn.close()

    async def publish(seed: int) -> None:
        chosen = random.Random(seed)
        conn = await asyncpg.connect(database_url)
        for _ in range(60):
            partitions = chosen.sample(range(60), 30)
            await buslog.append(conn, [Entry(TOPIC, p, "key", b"", "{}") for p in partitions])
        await conn.close()

    async with asyncio.TaskGroup() as tasks:
        for seed in range(6):
            tasks.create_task(publish(seed))


async def test_a_hint_reaches_other_processes_and_every_listener_here(database_url: str) -> None:
    heard: list[str] = []
    async with (
        notify.open_hints(database_url) as hints,
        notify.open_hints(database_url) as elsewhere,
    ):
        with (
            hints.listen(lambda: heard.append("here"), "one"),
            elsewhere.listen(lambda: heard.append("there"), "one", "two"),
        ):
            hints.send("one")
            assert heard.count("here") == 1

            def is_heard() -> bool:
                hints.send("one")
                return "there" in heard

            await until(is_heard)
        heard.clear()
        hints.send("one")
        assert heard == []


async def test_hints_come_again_after_their_connection_was_lost(database_url: str) -> None:
    heard = asyncio.Event()
    conn = await asyncpg.connect(database_url)
    async with (
        notify.open_hints(database_url) as hints,
        notify.open_hints(database_url) as elsewhere,
    ):
        with elsewhere.listen(heard.set, "name"):
            await heard.wait()  # the first connection stands
            heard.clear()
            await conn.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'fased-hints'"""
            )
            await heard.wait()  # the second one stands
            heard.clear()

            def is_heard() -> bool:
                hints.send("name")
                return heard.is_set()

            await until(is_heard)
    await conn.close()


async def test_one_call_at_fault_does_not_fail_those_it_was_sent_with() -> None:
    flushed: list[list[int]] = []

    async def flush(calls: object) -> list[int]:
        assert isinstance(calls, list)
        flushed.append(calls)
        await asyncio.sleep(0)
        return [100 // call for call in calls]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_calls=10)
    answers = await asyncio.gather(
        *(coalescer.call(number) for number in (5, 4, 0, 2)), return_exceptions=True
    )
    assert answers[:2] == [20, 25]
    assert isinstance(answers[2], ZeroDivisionError)
    assert answers[3] == 50
    assert flushed[0] == [5, 4, 0, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_the_shares_of_the_members_are_disjoint_complete_and_equal(count: int) -> None:
    members = [Member(UUID(int=number), ("a", "b"), False) for number in range(count)]
    members.append(Member(UUID(int=99), ("a", "b"), True))
    partitions = {"a": 8, "b": 8}
    shares = [assignment.share(members, member.id, partitions) for member in members[:-1]]
    everything = [each for share in shares for each in share]
    assert sorted(everything) == [Partition(t, p) for t in ("a", "b") for p in range(8)]
    assert max(map(len, shares)) - min(map(len, shares)) <= len(partitions)
    assert assignment.share(members, members[-1].id, partitions) == frozenset()


def test_every_topic_outlives_an_outage_but_the_progress_of_runs() -> None:
    short = {topic.name for topic in topics.ALL if topic.retention < timedelta(days=7)}
    assert short == {topics.RUN_PROGRESS}
