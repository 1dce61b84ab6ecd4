"""Whether a member of a group still reads. Decides that it is stuck; not what follows.

A member of aiokafka can stay alive and read nothing after a broker's restart or a rebalance, with
no sign of it (its issue 1154). What tells is that the broker, asked on another connection, has
records for the member and the member does not get any further.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fased.bus.kafka_access import Timing
from fased.bus.kafka_offsets import KafkaOffsets
from fased.core.errors import FasedError
from fased.store.buslog import Partition
from fased.telemetry import metrics


class Stalled(Exception):
    """The member got nothing for too long, although there was something to get."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a member has read. Busy: it holds records whose effect it waits for."""

    is_rebalancing: bool
    is_busy: bool
    read_to: Mapping[Partition, int]


async def watch(
    progress: Callable[[], Progress],
    offsets: KafkaOffsets,
    group: str,
    topics: Sequence[str],
    timing: Timing,
) -> None:
    """Watch a member until it is stuck for `stall_s`, then raise Stalled.

    While no broker answers nothing is held against it. Tells the metrics its lag, and since when
    it has been stuck.
    """
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    last: Progress | None = None
    try:
        while True:
            await asyncio.sleep(timing.watch_s * random.uniform(0.8, 1.2))
            now = progress()
            try:
                lag = await offsets.lag(group, topics, now.read_to)
            except FasedError:
                moved_at = loop.time()
                continue
            metrics.bus_lag.labels(group).set(lag)
            if is_moving(last, now, lag):
                moved_at = loop.time()
            last = now
            stalled_s = loop.time() - moved_at
            metrics.bus_stalled_seconds.labels(group).set(stalled_s)
            if stalled_s >= timing.stall_s:
                raise Stalled
    finally:
        metrics.bus_lag.labels(group).set(0)
        metrics.bus_stalled_seconds.labels(group).set(0)


def is_moving(last: Progress | None, now: Progress, lag: int) -> bool:
    """Whether nothing is wrong between two looks; `lag` is that of the member's partitions."""
    if last is None or last.read_to != now.read_to or last.is_rebalancing != now.is_rebalancing:
        return True
    return not now.is_rebalancing and (now.is_busy or lag == 0)
