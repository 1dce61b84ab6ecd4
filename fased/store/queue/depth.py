"""How many live runs there are, and since when the oldest waits. Decides nothing; for metrics only.

It counts the whole table of live runs: for now and then, never for a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fased.core.runs import LiveState, RunClass
from fased.store.queue import rows
from fased.store.queue.lanes import Connection

_COUNT = f"""
SELECT {rows.LIVE_STATE} AS state, class, count(*) AS runs,
       coalesce(extract(epoch FROM public.fased_now() - min(run_at)), 0)::float8 AS oldest_s
  FROM scheduler.run GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """Runs of one state and class; `oldest_s` is how long ago the first of them was to run."""

    runs: int = 0
    oldest_s: float = 0.0


async def read(conn: Connection) -> Mapping[tuple[LiveState, RunClass], Depth]:
    """The queue's depth for every state and class, zero where there is none."""
    found = {
        (LiveState(row["state"]), RunClass(row["class"])): Depth(row["runs"], row["oldest_s"])
        for row in await conn.fetch(_COUNT)
    }
    return {
        place: found.get(place, Depth())
        for place in ((state, run_class) for state in LiveState for run_class in RunClass)
    }
