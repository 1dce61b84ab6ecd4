"""What every bus promises, over each implementation and its real server."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from fased.bus import topics
from fased.bus.consumer import Effect, Limits, run_consumer
from fased.bus.port import Bus, Received, Record
from fased.core.errors import InvalidArgument, Unavailable
from fased.telemetry import tracing
from tests.support.buses import PARTITIONS, Place, Server, make_topics, open_bus, peer, until
from tests.support.kafka import Broker
from tests.support.postgres import PrivatePostgres

# Tries follow one another quickly, so that a poison record is found out within a test.
QUICK = Limits(retry_first_s=0.01, retry_cap_s=0.05, poison_tries=3)


@pytest.fixture(params=["pglog", "kafka"])
def bus_kind(request: pytest.FixtureRequest) -> str:
    """The implementation under test."""
    return str(request.param)


@pytest.fixture
async def place(bus_kind: str, request: pytest.FixtureRequest) -> Place:
    """A server that other tests use too, and a topic of this test's own."""
    address = {"pglog": "database_url", "kafka": "kafka_bootstrap"}[bus_kind]
    place = Place(bus_kind, request.getfixturevalue(address), f"test.{uuid4()}")
    await make_topics(place)
    return place


@pytest.fixture
def server(bus_kind: str, request: pytest.FixtureRequest) -> PrivatePostgres | Broker:
    """A server that the test may crash."""
    found: PrivatePostgres | Broker = request.getfixturevalue(
        {"pglog": "private_postgres", "kafka": "own_kafka"}[bus_kind]
    )
    return found


@pytest.fixture
async def private_place(bus_kind: str, server: PrivatePostgres | Broker) -> Place:
    """A topic of this test's own on the server that it may crash."""
    address = server.dsn if isinstance(server, PrivatePostgres) else server.bootstrap
    place = Place(bus_kind, address, f"test.{uuid4()}")
    await make_topics(place)
    return place


@asynccontextmanager
async def consuming(
    bus: Bus, group: str, topic: str, effect: Effect, limits: Limits = QUICK
) -> AsyncIterator[None]:
    """Run a consumer beside the block, and stop it in good order."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_consumer(bus, group, [topic], effect, stop=stop, limits=limits))
        try:
            yield
        finally:
            stop.set()


class Seen:
    """An effect that remembers what it was given."""

    def __init__(self) -> None:
        self.records: list[Received] = []

    async def __call__(self, records: Sequence[Received]) -> None:
        self.records.extend(records)

    @property
    def values(self) -> list[str]:
        return [record.value.decode() for record in self.records]


def record(topic: str, key: str, value: str) -> Record:
    return Record(topic, key, value.encode())


def on_every_partition(topic: str, value: str) -> list[Record]:
    """Enough keys that each partition gets one of them."""
    return [record(topic, f"key-{number}", value) for number in range(PARTITIONS * 16)]


async def test_a_record_comes_back_as_it_was_published(place: Place) -> None:
    seen = Seen()
    async with open_bus(place) as bus, consuming(bus, place.group, place.topic, seen):
        sent = Record(place.topic, "a/b/ü", b"\x00\xff", {"ce-id": "1", "name": "ü"})
        await bus.publish([sent])
        await until(lambda: bool(seen.records))
    got = seen.records[0]
    assert (got.topic, got.key, got.value, got.headers) == (
        sent.topic,
        sent.key,
        sent.value,
        sent.headers,
    )
    assert got.offset == 0
    assert got.published_at.tzinfo is not None


async def test_records_of_one_key_arrive_in_their_order(place: Place) -> None:
    keys, each = 12, 40
    seen = Seen()
    async with (
        open_bus(place) as bus,
        open_bus(place) as other_bus,
        consuming(bus, place.group, place.topic, seen),
    ):

        async def publish(key: str, through: Bus) -> None:
            for number in range(each):
                await through.publish([record(place.topic, key, str(number))])

        async with asyncio.TaskGroup() as tasks:
            for number in range(keys):
                through = bus if number % 2 else other_bus
                tasks.create_task(publish(f"key-{number}", through))
        await until(lambda: len(seen.records) >= keys * each)
    by_key = defaultdict(list)
    for got in seen.records:
        by_key[got.key].append(int(got.value))
    assert by_key == {f"key-{number}": list(range(each)) for number in range(keys)}


async def test_offsets_of_a_partition_rise_one_by_one_with_many_publishers(place: Place) -> None:
    seen = Seen()
    async with open_bus(place) as bus, open_bus(place) as other_bus:
        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                for through in (bus, other_bus):
                    batch = on_every_partition(place.topic, str(number))
                    tasks.create_task(through.publish(batch))
        expected = 60 * PARTITIONS * 16
        async with consuming(bus, place.group, place.topic, seen):
            await until(lambda: len(seen.records) >= expected)
    offsets = defaultdict(list)
    for got in seen.records:
        offsets[got.partition].append(got.offset)
    assert len(offsets) == PARTITIONS
    assert all(found == list(range(len(found))) for found in offsets.values())
    assert sum(map(len, offsets.values())) == expected


async def test_each_group_gets_everything_from_the_oldest_record_on(place: Place) -> None:
    first, second = Seen(), Seen()
    async with open_bus(place) as bus:
        await bus.publish([record(place.topic, "key", "before")])
        async with (
            consuming(bus, f"one-{place.group}", place.topic, first),
            consuming(bus, f"two-{place.group}", place.topic, second),
        ):
            await bus.publish([record(place.topic, "key", "after")])
            await until(lambda: len(first.records) == 2 and len(second.records) == 2)
    assert first.values == second.values == ["before", "after"]


async def test_a_group_goes_on_where_it_stopped(place: Place) -> None:
    first, second = Seen(), Seen()
    async with open_bus(place) as bus:
        async with consuming(bus, place.group, place.topic, first):
            await bus.publish([record(place.topic, "key", "one")])
            await until(lambda: bool(first.records))
        await bus.publish([record(place.topic, "key", "two")])
        async with consuming(bus, place.group, place.topic, second):
            await until(lambda: bool(second.records))
        assert await bus.lag(place.group, [place.topic]) == 0
    assert (first.values, second.values) == (["one"], ["two"])


async def test_a_record_no_bus_can_take_is_refused_and_hurts_no_other(place: Place) -> None:
    seen = Seen()
    async with open_bus(place) as bus, consuming(bus, place.group, place.topic, seen):
        bad = [
            record("test.unknown", "key", "x"),
            Record(place.topic, "key", b"x" * 2_000_000),
        ]
        outcomes = await asyncio.gather(
            *(bus.publish([each]) for each in bad),
            bus.publish([record(place.topic, "key", "good")]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            InvalidArgument,
            InvalidArgument,
            type(None),
        ]
        await until(lambda: bool(seen.records))
    assert seen.values == ["good"]


async def test_what_a_killed_consumer_took_comes_to_the_next(place: Place) -> None:
    seen = Seen()
    async with open_bus(place) as bus, peer(place, "hold", place.group) as held:
        await bus.publish(on_every_partition(place.topic, "x"))
        await held.line()
        await held.kill()
        async with consuming(bus, place.group, place.topic, seen):
            await until(lambda: len(seen.records) >= PARTITIONS * 16)
    assert {got.key for got in seen.records} == {f"key-{n}" for n in range(PARTITIONS * 16)}


async def test_members_of_a_group_share_the_partitions_and_the_rest_take_over(
    place: Place,
) -> None:
    here = Seen()
    async with (
        open_bus(place) as bus,
        peer(place, "consume", place.group) as other,
        consuming(bus, place.group, place.topic, here),
    ):
        there: set[int] = set()

        async def listen() -> None:
            while True:
                there.add((await other.line())["partition"])

        async def both_have_half() -> bool:
            here.records.clear()
            there.clear()
            await bus.publish(on_every_partition(place.topic, "shared"))
            await until(lambda: asyncio.sleep(0, len(found()) == PARTITIONS))
            mine = {got.partition for got in here.records}
            return len(mine) == len(there) == PARTITIONS / 2

        def found() -> set[int]:
            return there | {got.partition for got in here.records}

        listening = asyncio.create_task(listen())
        await until(both_have_half)
        listening.cancel()
        await other.kill()
        here.records.clear()
        await bus.publish(on_every_partition(place.topic, "alone"))
        await until(lambda: here.values.count("alone") >= PARTITIONS * 16)


async def test_a_member_that_leaves_hands_its_partitions_over_at_once(place: Place) -> None:
    """With a session of an hour, only the handing over can end this test."""
    first, second = Seen(), Seen()
    async with open_bus(place, session_s=3600) as bus, open_bus(place, session_s=3600) as other:
        async with consuming(bus, place.group, place.topic, first):
            await bus.publish(on_every_partition(place.topic, "one"))
            await until(lambda: len(first.records) == PARTITIONS * 16)
        async with consuming(other, place.group, place.topic, second):
            await bus.publish(on_every_partition(place.topic, "two"))
            await until(lambda: len(second.records) >= PARTITIONS * 16)
    assert set(second.values) == {"two"}


async def test_a_frozen_members_late_commit_is_refused(place: Place) -> None:
    seen = Seen()
    async with open_bus(place) as bus, peer(place, "commit", place.group) as frozen:
        await bus.publish([record(place.topic, "key", "one")])
        assert (await frozen.line())["values"] == ["one"]
        frozen.freeze()
        async with consuming(bus, place.group, place.topic, seen):
            await until(lambda: seen.values == ["one"])
            frozen.tell()
            frozen.thaw()
            assert (await frozen.line())["outcome"] == "PARTITION_LOST"
            await bus.publish([record(place.topic, "key", "two")])
            await until(lambda: asyncio.sleep(0, "two" in seen.values))
    assert seen.values.count("one") == 1


async def test_poison_goes_to_the_dead_letters_and_its_partition_moves_on(place: Place) -> None:
    seen, letters = Seen(), Seen()

    async def effect(records: Sequence[Received]) -> None:
        if any(got.value == b"poison" for got in records):
            raise ValueError("cannot be read")
        await seen(records)

    def own_letters() -> list[Received]:
        """Others' may be there too, on a server that all tests use."""
        return [got for got in letters.records if got.headers["fased-origin-topic"] == place.topic]

    async with open_bus(place) as bus:
        await bus.publish(
            [record(place.topic, "key", value) for value in ("one", "poison", "two", "three")]
        )
        async with (
            consuming(bus, place.group, place.topic, effect),
            consuming(bus, f"letters-{place.topic}", topics.DEAD_LETTER, letters),
        ):
            await until(lambda: len(seen.records) == 3 and bool(own_letters()))
            await until(lambda: is_caught_up(bus, place))
    assert seen.values == ["one", "two", "three"]
    letter = own_letters()[0]
    assert (letter.key, letter.value) == ("key", b"poison")
    assert letter.headers["fased-origin-offset"] == "1"
    assert letter.headers["fased-origin-partition"] == str(seen.records[0].partition)
    assert letter.headers["fased-error"] == "ValueError"
    assert letter.headers["fased-attempts"] == str(QUICK.poison_tries)


async def is_caught_up(bus: Bus, place: Place) -> bool:
    return await bus.lag(place.group, [place.topic]) == 0


async def test_an_outage_pauses_its_partition_and_no_other_and_skips_nothing(
    place: Place,
) -> None:
    seen = Seen()
    failures = 0
    is_down = True

    async def effect(records: Sequence[Received]) -> None:
        nonlocal failures
        if is_down and any(got.key == "key-0" for got in records):
            failures += 1
            raise Unavailable("the other side is down", reason="DOWN")
        await seen(records)

    async with open_bus(place) as bus, consuming(bus, place.group, place.topic, effect):
        batch = on_every_partition(place.topic, "x")
        await bus.publish(batch)
        await until(lambda: failures > 2 * QUICK.poison_tries)
        await until(lambda: len({got.partition for got in seen.records}) == PARTITIONS - 1)
        assert "key-0" not in {got.key for got in seen.records}
        assert await bus.lag(place.group, [place.topic]) > 0
        is_down = False
        await until(lambda: len(seen.records) == len(batch))
        await until(lambda: is_caught_up(bus, place))
    assert sorted(got.key for got in seen.records) == sorted(sent.key for sent in batch)


async def test_a_slow_effect_bounds_what_is_in_memory(place: Place) -> None:
    limits = Limits(max_batch=10, max_outstanding=32)
    in_hand = highest = 0
    done: list[Received] = []
    gate = asyncio.Event()

    async def effect(records: Sequence[Received]) -> None:
        nonlocal in_hand, highest
        in_hand += len(records)
        highest = max(highest, in_hand)
        assert len(records) <= limits.max_batch
        await gate.wait()
        in_hand -= len(records)
        done.extend(records)

    async with open_bus(place) as bus, consuming(bus, place.group, place.topic, effect, limits):
        for number in range(10):
            await bus.publish(on_every_partition(place.topic, str(number)))
        await until(lambda: in_hand > 0)
        gate.set()
        await until(lambda: len(done) == 10 * PARTITIONS * 16)
    assert highest <= limits.max_outstanding


async def test_a_partition_that_rests_gives_all_that_came_meanwhile_at_once(place: Place) -> None:
    batches: list[list[bytes]] = []

    async def effect(records: Sequence[Received]) -> None:
        batches.append([each.value for each in records])

    limits = replace(QUICK, rest_s=5.0)
    async with open_bus(place) as bus, consuming(bus, place.group, place.topic, effect, limits):
        await bus.publish([record(place.topic, "key", "0")])
        await until(lambda: bool(batches))
        for number in range(1, 6):
            await bus.publish([record(place.topic, "key", str(number))])
        await until(lambda: len(batches) > 1)
    assert batches == [[b"0"], [b"1", b"2", b"3", b"4", b"5"]]


async def test_a_partition_gives_no_second_batch_before_the_first_is_finished(
    place: Place,
) -> None:
    async with (
        open_bus(place) as bus,
        bus.consumer(place.group, [place.topic], max_batch=5) as member,
    ):
        for _ in range(4):
            await bus.publish(on_every_partition(place.topic, "x"))
        batches = [await member.next_batch() for _ in range(PARTITIONS)]
        assert {batch.partition for batch in batches} == set(range(PARTITIONS))
        waiting = asyncio.create_task(member.next_batch())
        await member.commit(batches[2], batches[2].next_offset)
        member.finish(batches[2])
        following = await waiting
        assert following.partition == batches[2].partition
        assert following.records[0].offset == batches[2].next_offset


async def test_a_batch_finished_without_a_commit_comes_again(place: Place) -> None:
    async with open_bus(place) as bus, bus.consumer(place.group, [place.topic]) as member:
        await bus.publish([record(place.topic, "key", str(number)) for number in range(3)])
        first = await member.next_batch()
        await member.commit(first, first.records[1].offset)
        member.finish(first)
        second = await member.next_batch()
    assert [got.value for got in second.records] == [b"1", b"2"]


async def test_trace_context_reaches_the_effect(place: Place) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    found: list[int] = []

    async def effect(_records: Sequence[Received]) -> None:
        found.append(trace.get_current_span().get_span_context().trace_id)

    async with open_bus(place) as bus:
        with provider.get_tracer("test").start_as_current_span("ingress") as span:
            headers = tracing.inject({"ce-id": "1"})
            await bus.publish([Record(place.topic, "key", b"x", headers)])
        async with consuming(bus, place.group, place.topic, effect):
            await until(lambda: bool(found))
    assert found == [span.get_span_context().trace_id]


async def test_every_tail_sees_all_that_is_published_after_it_began(place: Place) -> None:
    async with open_bus(place) as bus, open_bus(place) as publisher:
        await publisher.publish(on_every_partition(place.topic, "before"))
        async with bus.tail([place.topic]) as one, bus.tail([place.topic]) as two:
            sent = on_every_partition(place.topic, "after")
            await publisher.publish(sent)
            for tail in (one, two):
                got = [await anext(tail) for _ in sent]
                assert {each.value for each in got} == {b"after"}
                assert {each.key for each in got} == {each.key for each in sent}
            async with bus.tail([place.topic]) as late:
                await publisher.publish([record(place.topic, "key", "last")])
                assert (await anext(late)).value == b"last"


async def test_a_tail_that_falls_behind_loses_its_oldest_records(place: Place) -> None:
    async with (
        open_bus(place) as bus,
        bus.tail([place.topic]) as quick,
        bus.tail([place.topic], max_waiting=3) as slow,
    ):
        await bus.publish([record(place.topic, "key", str(number)) for number in range(10)])
        assert [(await anext(quick)).value for _ in range(10)][-1] == b"9"
        assert [(await anext(slow)).value for _ in range(3)] == [b"7", b"8", b"9"]


async def test_what_publish_answered_for_outlives_a_killed_publisher_and_a_crashed_server(
    private_place: Place, server: Server
) -> None:
    seen = Seen()
    async with peer(private_place, "publish", "") as publisher:
        acknowledged = [(await publisher.line())["published"] for _ in range(50)]
        await server.stop_immediate()
        await publisher.kill()
    await server.restart()
    async with (
        open_bus(private_place) as bus,
        consuming(bus, private_place.group, private_place.topic, seen),
    ):
        await until(lambda: len(seen.records) >= len(acknowledged))
    assert seen.values[: len(acknowledged)] == [str(number) for number in acknowledged]


async def test_consumers_and_tails_go_on_after_the_server_was_restarted(
    private_place: Place, server: Server
) -> None:
    seen = Seen()
    topic = private_place.topic
    async with (
        open_bus(private_place) as bus,
        consuming(bus, private_place.group, topic, seen),
        bus.tail([topic]) as tail,
    ):
        await bus.publish([record(topic, "key", "before")])
        await until(lambda: seen.values == ["before"])
        await server.stop_immediate()
        with pytest.raises(Unavailable):
            await bus.publish([record(topic, "key", "meanwhile")])
        await server.restart()
        await bus.publish([record(topic, "key", "after")])
        await until(lambda: "after" in seen.values)
        tailed = [(await anext(tail)).value]
        while tailed[-1] != b"after":
            tailed.append((await anext(tail)).value)
        # What publish did not answer for may be there.
        assert [value for value in tailed if value != b"meanwhile"] == [b"before", b"after"]
        await until(lambda: is_caught_up(bus, private_place))
