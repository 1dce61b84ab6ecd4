"""What only the Kafka bus decides: static members, stuck members, deadlines, reading ahead; over a
real broker.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fased.bus import kafka
from fased.bus.consumer import run_consumer
from fased.bus.kafka import KafkaBus
from fased.bus.kafka_access import TIMING, Timing
from fased.bus.kafka_liveness import Progress, is_moving
from fased.bus.port import PartitionLost, Received, Record
from fased.core.errors import Unavailable
from fased.store.buslog import Partition
from fased.telemetry import metrics
from tests.support.buses import PARTITIONS, Place, make_topics, until
from tests.support.kafka import Broker

# With sessions of half an hour, only what a test is about can move a partition.
LONG = replace(TIMING, session_s=1800.0)


@pytest.fixture
async def place(kafka_bootstrap: str) -> Place:
    place = Place("kafka", kafka_bootstrap, f"test.{uuid4()}")
    await make_topics(place)
    return place


@asynccontextmanager
async def open_bus(
    place: Place, timing: Timing = TIMING, instance_id: str | None = None
) -> AsyncIterator[KafkaBus]:
    async with kafka.open_kafka(
        place.address, client_id="test", instance_id=instance_id, known=place.known, timing=timing
    ) as bus:
        yield bus


def record(place: Place, key: str, value: str) -> Record:
    return Record(place.topic, key, value.encode())


async def test_a_static_member_that_comes_back_has_its_partitions_at_once(place: Place) -> None:
    for number in range(3):
        async with (
            open_bus(place, LONG, instance_id="member-0") as bus,
            bus.consumer(place.group, [place.topic]) as member,
        ):
            await bus.publish([record(place, "key", str(number))])
            batch = await member.next_batch()
            assert [got.value for got in batch.records] == [str(number).encode()]
            await member.commit(batch, batch.next_offset)


async def test_static_members_keep_their_shares_while_one_is_away(place: Place) -> None:
    async with (
        open_bus(place, LONG, instance_id="stays") as staying,
        staying.consumer(place.group, [place.topic]) as member,
    ):
        generations = []
        for _ in range(3):
            async with (
                open_bus(place, LONG, instance_id="leaves") as leaving,
                leaving.consumer(place.group, [place.topic]) as other,
            ):
                await until(lambda: len(member.progress().read_to) == PARTITIONS / 2)
                await until(lambda: len(other.progress().read_to) == PARTITIONS / 2)
            generations.append(member._generation)
        assert len(set(generations)) == 1


async def test_a_member_that_is_alive_and_reads_nothing_is_replaced(place: Place) -> None:
    timing = replace(TIMING, watch_s=0.2, stall_s=1.0)
    replaced = metrics.bus_members_replaced.labels(place.group)
    async with (
        open_bus(place, timing) as bus,
        bus.consumer(place.group, [place.topic]) as member,
    ):
        seen: list[bytes] = []
        for value in ("one", "two", "three"):
            await bus.publish([record(place, "key", value)])
            batch = await member.next_batch()
            seen.extend(got.value for got in batch.records)
            await member.commit(batch, batch.next_offset)
            member.finish(batch)
            # As aiokafka's issue 1154 has it: what is on its way arrives, and nothing after that.
            assert member._member is not None
            if value == "one":
                member._member._fetcher._fetch_task.cancel()
        assert seen == [b"one", b"two", b"three"]
    assert replaced._value.get() == 1


@pytest.mark.parametrize(
    ("now", "lag", "moves"),
    [
        (Progress(False, False, {Partition("t", 0): 7}), 0, True),
        (Progress(False, False, {Partition("t", 0): 7}), 1, False),
        (Progress(False, False, {Partition("t", 0): 8}), 1, True),
        (Progress(False, True, {Partition("t", 0): 7}), 1, True),
        (Progress(False, False, {}), 0, True),
        (Progress(True, False, {Partition("t", 0): 7}), 0, True),
    ],
)
def test_a_member_moves_unless_records_wait_and_it_reads_none(
    now: Progress, lag: int, moves: bool
) -> None:
    assert is_moving(Progress(False, False, {Partition("t", 0): 7}), now, lag) is moves


def test_a_rebalance_that_does_not_end_is_no_progress() -> None:
    joining = Progress(True, True, {})
    assert not is_moving(joining, joining, 0)


async def test_a_batch_that_is_out_is_finished_before_its_partition_goes(place: Place) -> None:
    timing = replace(LONG, drain_s=60.0, rebalance_s=60.0)
    async with (
        open_bus(place, timing) as bus,
        open_bus(place, timing) as other_bus,
        bus.consumer(place.group, [place.topic]) as member,
    ):
        await bus.publish([record(place, f"key-{number}", "x") for number in range(64)])
        batches = [await member.next_batch() for _ in range(PARTITIONS)]
        async with other_bus.consumer(place.group, [place.topic]) as other:
            await until(lambda: not member.is_current(batches[0]))
            for batch in batches:
                await member.commit(batch, batch.next_offset)
                member.finish(batch)
            await until(lambda: len(other.progress().read_to) == PARTITIONS / 2)
        assert await bus.lag(place.group, [place.topic]) == 0


async def test_a_batch_that_takes_too_long_loses_its_partition(place: Place) -> None:
    timing = replace(LONG, drain_s=0.1)
    async with (
        open_bus(place, timing) as bus,
        open_bus(place, timing) as other_bus,
        bus.consumer(place.group, [place.topic]) as member,
    ):
        await bus.publish([record(place, "key", "x")])
        batch = await member.next_batch()
        async with other_bus.consumer(place.group, [place.topic]) as other:
            await until(lambda: len(other.progress().read_to) == PARTITIONS / 2)
            with pytest.raises(PartitionLost):
                await member.commit(batch, batch.next_offset)
            member.finish(batch)
            again = asyncio.create_task(member.next_batch())
            elsewhere = asyncio.create_task(other.next_batch())
            done, _ = await asyncio.wait({again, elsewhere}, return_when=asyncio.FIRST_COMPLETED)
            assert [each.result().records[0].value for each in done] == [b"x"]
            for each in (again, elsewhere):
                each.cancel()
            await asyncio.wait({again, elsewhere})


async def test_a_storm_of_rebalances_skips_no_record_and_keeps_the_order_of_keys(
    place: Place,
) -> None:
    keys, each = 8, 150
    firsts: defaultdict[str, list[int]] = defaultdict(list)

    async def effect(records: Sequence[Received]) -> None:
        for got in records:
            if int(got.value) not in firsts[got.key]:
                firsts[got.key].append(int(got.value))

    async with open_bus(place) as bus, open_bus(place) as other_bus:

        async def publish() -> None:
            for number in range(each):
                await bus.publish([record(place, f"key-{n}", str(number)) for n in range(keys)])

        async def come_and_go() -> None:
            while not publishing.done():
                stop = asyncio.Event()
                coming = asyncio.create_task(
                    run_consumer(other_bus, place.group, [place.topic], effect, stop=stop)
                )
                before = sum(map(len, firsts.values()))
                await until(
                    lambda: sum(map(len, firsts.values())) > before or publishing.done()  # noqa: B023 - awaited here
                )
                stop.set()
                await coming

        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_consumer(bus, place.group, [place.topic], effect, stop=stop))
            publishing = tasks.create_task(publish())
            await come_and_go()
            await until(lambda: sum(map(len, firsts.values())) == keys * each)
            stop.set()
        assert await bus.lag(place.group, [place.topic]) == 0
    assert firsts == {f"key-{n}": list(range(each)) for n in range(keys)}


async def test_a_backlog_far_above_what_is_read_ahead_is_read_in_order(place: Place) -> None:
    count = 300
    async with open_bus(place) as bus:
        sent = [Record(place.topic, "key", b"%06d" % n + b"x" * 10_000) for n in range(count)]
        await bus.publish(sent)
        got: list[Received] = []
        async with bus.consumer(place.group, [place.topic], max_batch=7) as member:
            while len(got) < count:
                batch = await member.next_batch()
                got.extend(batch.records)
                held = sum(len(each.waiting) for each in member._owned.values())
                assert held < count / 2
                await member.commit(batch, batch.next_offset)
                member.finish(batch)
    assert [each.value for each in got] == [each.value for each in sent]


async def test_what_others_wrote_without_key_or_value_is_read_as_empty(place: Place) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=place.address)
    await producer.start()
    await producer.send_and_wait(place.topic, value=b"\xff", key=None, partition=0)
    await producer.send_and_wait(place.topic, value=None, key=b"\xff", partition=0)
    await producer.stop()
    async with open_bus(place) as bus, bus.consumer(place.group, [place.topic]) as member:
        batch = await member.next_batch()
        if len(batch.records) < 2:
            member.finish(batch)
            batch = await member.next_batch()
    found = [(got.key, got.value) for got in batch.records]
    assert found == [("", b"\xff"), ("\ufffd", b"")]


async def test_lag_does_not_count_what_retention_has_deleted(place: Place) -> None:
    async with open_bus(place) as bus:
        await bus.publish([record(place, "key", str(number)) for number in range(10)])
        ends = {
            partition: end
            for partition, end in (await bus._offsets.ends([place.topic])).items()
            if end
        }
        assert await bus.lag(place.group, [place.topic]) == 10
        [partition] = ends
        admin = AIOKafkaAdminClient(bootstrap_servers=place.address)
        await admin.start()
        await admin.delete_records({TopicPartition(*partition): RecordsToDelete(before_offset=4)})
        await admin.close()
        assert await bus.lag(place.group, [place.topic]) == 6


async def test_a_bus_without_brokers_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        async with kafka.open_kafka("127.0.0.1:1", client_id="test"):
            pass
    assert caught.value.reason == "BUS_UNAVAILABLE"


async def test_brokers_that_freeze_are_unavailable_in_time_and_all_goes_on_after(
    own_kafka: Broker, place: Place
) -> None:
    timing = replace(TIMING, publish_s=1.0, answer_s=1.0, commit_s=1.0, rebalance_s=5.0)
    async with (
        open_bus(place, timing) as bus,
        bus.tail([place.topic]) as tail,
        bus.consumer(place.group, [place.topic]) as member,
    ):
        await bus.publish([record(place, "key", "before")])
        batch = await member.next_batch()
        own_kafka.freeze()
        try:
            with pytest.raises(Unavailable):
                await bus.publish([record(place, "key", "meanwhile")])
            with pytest.raises(Unavailable):
                await member.commit(batch, batch.next_offset)
            with pytest.raises(Unavailable):
                await bus.lag(place.group, [place.topic])
        finally:
            own_kafka.thaw()
        await until(lambda: is_done(bus, record(place, "key", "after")))
        member.finish(batch)
        seen: list[bytes] = []
        while b"after" not in seen:
            batch = await member.next_batch()
            seen.extend(got.value for got in batch.records)
            await member.commit(batch, batch.next_offset)
            member.finish(batch)
        while (await anext(tail)).value != b"after":
            pass


async def test_an_outage_loses_nothing_and_keeps_the_order_of_what_is_published_again(
    own_kafka: Broker, place: Place
) -> None:
    timing = replace(TIMING, publish_s=2.0)
    count = 60
    firsts: list[int] = []
    failures = published = 0

    async def effect(records: Sequence[Received]) -> None:
        firsts.extend(int(got.value) for got in records if int(got.value) not in firsts)

    async with open_bus(place, timing) as bus:

        async def publish() -> None:
            nonlocal failures, published
            while published < count:
                if await is_done(bus, record(place, "key", str(published))):
                    published += 1
                else:
                    failures += 1
                await asyncio.sleep(0.01)

        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_consumer(bus, place.group, [place.topic], effect, stop=stop))
            publishing = tasks.create_task(publish())
            await until(lambda: len(firsts) > 5)
            await own_kafka.stop_immediate()
            await until(lambda: failures > 2)
            await own_kafka.restart()
            await publishing
            await until(lambda: len(firsts) == count)
            stop.set()
        assert await bus.lag(place.group, [place.topic]) == 0
    assert firsts == list(range(count))


async def is_done(bus: KafkaBus, what: Record) -> bool:
    """Publish it; False when the bus could not say that it is durable."""
    try:
        await bus.publish([what])
    except Unavailable:
        return False
    return True
