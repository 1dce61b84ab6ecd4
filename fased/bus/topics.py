"""The topics of the bus: names, partitions and how long records are kept. Decides nothing else."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention` outlasts the outage its readers must survive."""

    name: str
    partitions: int
    retention: timedelta


INBOUND = "fased.inbound.v1"
OUTBOUND = "fased.outbound.v1"
RUN_EVENTS = "fased.run-events.v1"
RUN_PROGRESS = "fased.run-progress.v1"
DEAD_LETTER = "fased.dead-letter.v1"

PARTITIONS = 8

ALL = (
    Topic(INBOUND, PARTITIONS, timedelta(days=7)),
    Topic(OUTBOUND, PARTITIONS, timedelta(days=7)),
    Topic(RUN_EVENTS, PARTITIONS, timedelta(days=7)),
    Topic(RUN_PROGRESS, PARTITIONS, timedelta(minutes=10)),
    Topic(DEAD_LETTER, PARTITIONS, timedelta(days=30)),
)
