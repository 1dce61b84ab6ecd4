"""The outbox and its relay, over real PostgreSQL: what leaves, in which order, how often."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider

from fased.bus import relay
from fased.bus.port import Bus, Publisher, Received, Record
from fased.core.errors import InvalidArgument, Unavailable
from fased.core.events import OUTBOX_SHARDS, OutboxEvent, outbox_shard
from fased.store import notify, outbox
from fased.telemetry import tracing
from tests.support.buses import Place, open_bus, until

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@pytest.fixture
def place(database_url: str) -> Place:
    """A bus of the test's own."""
    return Place("pglog", database_url, "test.events")


@asynccontextmanager
async def open_pool(url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(url, min_size=1, max_size=6) as pool:
        yield pool


@asynccontextmanager
async def relaying(
    pool: Pool, bus: Publisher, hints: notify.Hints, relays: int = 1
) -> AsyncIterator[None]:
    """Run relays beside the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(relays):
            tasks.create_task(relay.run_relay(pool, bus, "scheduler", hints, stop=stop, poll_s=0.2))
        try:
            yield
        finally:
            stop.set()


def event(key: str, number: int, value: str = "x") -> OutboxEvent:
    return OutboxEvent("test.events", key, f"{key}/{number}", value.encode())


async def emit(pool: Pool, *events: OutboxEvent, schema: str = "scheduler") -> None:
    async with pool.acquire() as conn, conn.transaction():
        await outbox.insert(conn, schema, events)


async def waiting(pool: Pool, schema: str = "scheduler") -> int:
    return int(await pool.fetchval(f"SELECT coalesce(sum(events), 0) FROM {schema}.outbox"))


class FlakyBus:
    """A real bus whose acknowledgement is lost now and then, as a broken connection loses it."""

    def __init__(self, bus: Publisher, losses: int) -> None:
        self._bus = bus
        self.losses = losses

    async def publish(self, records: Sequence[Record]) -> None:
        await self._bus.publish(records)
        if self.losses:
            self.losses -= 1
            raise Unavailable("the answer was lost", reason="LOST")


async def collected(bus: Bus, count: int) -> list[Received]:
    """The first `count` records of the test's topic."""
    found: list[Received] = []
    async with bus.consumer("reader", ["test.events"]) as consumer:
        while len(found) < count:
            batch = await consumer.next_batch()
            found.extend(batch.records)
            await consumer.commit(batch, batch.next_offset)
            consumer.finish(batch)
    return found


async def test_an_event_leaves_once_its_transaction_commits_and_never_before(place: Place) -> None:
    async with (
        open_pool(place.address) as pool,
        notify.open_hints(place.address) as hints,
        open_bus(place) as bus,
        relaying(pool, bus, hints),
        bus.tail(["test.events"]) as tail,
    ):
        async with pool.acquire() as conn:
            undone = conn.transaction()
            await undone.start()
            await outbox.insert(conn, "scheduler", [event("key", 0, "undone")])
            await undone.rollback()
        await emit(pool, event("key", 1, "done"))
        hints.send(outbox.hint_name("scheduler"))
        assert (await anext(tail)).value == b"done"
        await until(lambda: is_empty(pool))


async def is_empty(pool: Pool) -> bool:
    return await waiting(pool) == 0


async def test_an_event_leaves_without_any_hint(place: Place) -> None:
    async with (
        open_pool(place.address) as pool,
        notify.open_hints(place.address) as hints,
        open_bus(place) as bus,
        relaying(pool, bus, hints),
    ):
        await emit(pool, event("key", 1))
        await until(lambda: is_empty(pool))


@pytest.mark.parametrize("schema", outbox.SCHEMAS)
async def test_headers_are_cloudevents_and_the_trace_of_the_cause(
    place: Place, schema: str
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    async with open_pool(place.address) as pool, open_bus(place) as bus:
        with provider.get_tracer("test").start_as_current_span("cause"):
            trace_context = tracing.inject({})
            await emit(pool, event("key", 7), schema=schema)
        assert await relay.relay_once(pool, bus, schema) == 1
        headers = dict((await collected(bus, 1))[0].headers)
    assert headers.pop("ce-time")
    assert headers == {
        "ce-specversion": "1.0",
        "ce-id": "key/7",
        "ce-type": "test.events",
        "ce-source": f"/fased/{schema}",
        **trace_context,
    }


async def test_several_relays_never_change_the_order_of_a_key(place: Place) -> None:
    keys, each = 10, 60
    async with (
        open_pool(place.address) as pool,
        notify.open_hints(place.address) as hints,
        open_bus(place) as bus,
        open_bus(place) as other,
        relaying(pool, bus, hints, relays=2),
        relaying(pool, other, hints, relays=2),
    ):
        for number in range(each):
            await emit(pool, *(event(f"key-{key}", number) for key in range(keys)))
            hints.send(outbox.hint_name("scheduler"))
        found = await collected(bus, keys * each)
        await until(lambda: is_empty(pool))
    by_key = defaultdict(list)
    for got in found:
        by_key[got.key].append(got.headers["ce-id"])
    assert by_key == {
        f"key-{key}": [f"key-{key}/{number}" for number in range(each)] for key in range(keys)
    }


async def test_a_lost_acknowledgement_doubles_events_under_the_same_ids(place: Place) -> None:
    async with (
        open_pool(place.address) as pool,
        notify.open_hints(place.address) as hints,
        open_bus(place) as bus,
    ):
        await emit(pool, *(event("key", number) for number in range(3)))
        async with relaying(pool, FlakyBus(bus, losses=1), hints):
            found = await collected(bus, 6)
            await until(lambda: is_empty(pool))
    ids = [got.headers["ce-id"] for got in found]
    assert ids == ["key/0", "key/1", "key/2"] * 2


async def test_an_event_too_large_for_a_bus_is_refused_where_it_is_made(place: Place) -> None:
    async with open_pool(place.address) as pool:
        large = OutboxEvent("test.events", "key", "id", b"x" * (outbox.MAX_VALUE_BYTES + 1))
        with pytest.raises(InvalidArgument) as refused:
            await emit(pool, event("key", 1), large)
        assert refused.value.reason == "EVENT_TOO_LARGE"
        assert await waiting(pool) == 0


async def test_a_shard_that_another_relay_holds_is_left_alone(place: Place) -> None:
    held, free = "a", "b"
    assert outbox_shard(held) != outbox_shard(free)
    async with open_pool(place.address) as pool, open_bus(place) as bus:
        await emit(pool, event(held, 1), event(free, 1))
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(
                "SELECT pg_advisory_xact_lock(hashtext('outbox/scheduler'), $1)",
                outbox_shard(held),
            )
            assert await relay.relay_once(pool, bus, "scheduler") == 1
        assert [got.key for got in await collected(bus, 1)] == [free]
        assert await waiting(pool) == 1


async def test_a_full_shard_does_not_hold_the_others_up(place: Place) -> None:
    async with open_pool(place.address) as pool, open_bus(place) as bus:
        for start in range(0, 4 * relay.BATCH, relay.BATCH):
            await emit(pool, *(event("busy", start + n) for n in range(relay.BATCH)))
        await emit(pool, event("quiet", 1))
        for turn in range(3):
            await relay.relay_once(pool, bus, "scheduler", turn + outbox_shard("busy"))
        async with pool.acquire() as conn, conn.transaction():
            rows = await outbox.take(conn, "scheduler", range(OUTBOX_SHARDS), 4 * relay.BATCH)
    assert {event.key for row in rows for event in row.events} == {"busy"}
