"""Learns from the bus how runs ended, so that transcripts show what nobody was shown.

Decides nothing: the latest end of a run stands (`store/transcripts.py`).
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from fased.api.types.v1 import message_pb2
from fased.bus.port import Received
from fased.core.names import Namespace, RunId
from fased.process import wait_or_stop
from fased.store import transcripts, transient
from fased.store.database import Database
from fased.store.transcripts import EndedRun
from fased.wire.times import from_timestamp

GROUP = "executor"
# A worker that is still about to append to an ended run has long finished by then.
FORGET_AFTER = timedelta(days=1)
FORGET_EVERY_S = 3600.0
# Their runs never had a turn, so there is nothing to mark.
_TURNLESS = frozenset({"skipped", "missed", "merged"})

logger = structlog.get_logger()


class EndedRuns:
    """The effect of run events on transcripts."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def apply(self, records: Sequence[Received]) -> None:
        """Mark the entries of runs that ended; a repeat changes nothing."""
        ended = [each for each in map(_ended, records) if each is not None]
        if not ended:
            return
        async with self._pool.acquire() as conn:
            await transcripts.mark_ended(conn, ended)

    async def forget_loop(self, stop: asyncio.Event) -> None:
        """Keep the notes from growing with every failed run that said nothing."""
        while not await wait_or_stop(stop, FORGET_EVERY_S):
            try:
                async with self._pool.acquire() as conn:
                    await transcripts.forget_silent(conn, FORGET_AFTER)
            except transient.DRIVER_ERRORS as exc:
                logger.warning("forget_silent_failed", error=repr(exc))


def _ended(record: Received) -> EndedRun | None:
    event = message_pb2.RunEvent.FromString(record.value)
    ended_at = from_timestamp(event, "event_time")
    if event.kind != message_pb2.RUN_EVENT_KIND_ENDED or event.outcome in _TURNLESS:
        return None
    if ended_at is None:
        raise ValueError("a run's end has an event_time")
    return EndedRun(Namespace(event.namespace), RunId(event.run_id), event.outcome, ended_at)
