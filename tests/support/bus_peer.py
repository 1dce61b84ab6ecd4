"""A consumer as a program, for tests that kill or freeze one: says on standard output what happens.

`hold`   takes batches, says each, never commits
`consume` takes batches, says each, commits
`commit` takes one batch, says it, waits for a line on standard input, commits, says how it
         went and leaves
`publish` publishes one record after the other and says each once the bus has acknowledged it
"""

import asyncio
import json
import sys

from fased.bus.port import Batch, Bus, Consumer, PartitionLost, Record
from fased.telemetry import logging
from tests.support.buses import Place, open_bus


def say(**what: object) -> None:
    """One JSON line, at once."""
    print(json.dumps(what), flush=True)


def say_batch(batch: Batch) -> None:
    """What was taken."""
    values = [record.value.decode() for record in batch.records]
    say(partition=batch.partition, values=values)


async def consume(consumer: Consumer, *, commits: bool) -> None:
    """Take batches for ever."""
    while True:
        batch = await consumer.next_batch()
        say_batch(batch)
        if commits:
            await consumer.commit(batch, batch.next_offset)
            consumer.finish(batch)


async def commit_late(consumer: Consumer) -> None:
    """Take one batch, and commit it when told."""
    batch = await consumer.next_batch()
    say_batch(batch)
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await consumer.commit(batch, batch.next_offset)
    except PartitionLost as exc:
        say(outcome=exc.reason)
    else:
        say(outcome="COMMITTED")


async def publish(bus: Bus, topic: str) -> None:
    """Publish for ever, one after the other."""
    number = 0
    while True:
        await bus.publish([Record(topic, "key", str(number).encode())])
        say(published=number)
        number += 1


async def main(mode: str, kind: str, address: str, topic: str, group: str) -> None:
    """Do what `mode` says, until killed."""
    logging.configure("bus-peer", level="WARNING")
    async with open_bus(Place(kind, address, topic)) as bus:
        if mode == "publish":
            await publish(bus, topic)
        async with bus.consumer(group, [topic]) as consumer:
            if mode == "commit":
                await commit_late(consumer)
            else:
                await consume(consumer, commits=mode == "consume")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
