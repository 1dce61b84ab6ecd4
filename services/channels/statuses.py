"""What is seen of accounts while they work, on its way to their rows.

Decides what is worth writing: a change at once, a sign of life once a second at most, so that no
message waits for its account's row.
"""

import asyncio
from dataclasses import replace
from datetime import datetime

import structlog

from fased.core.accounts import Identity
from fased.process import wait_or_stop
from fased.store import transient
from fased.store.channels import accounts
from fased.store.channels.accounts import Place, StatusNote
from fased.store.database import Database

PERIOD_S = 1.0
NO_ERROR = ("", "")

logger = structlog.get_logger(__name__)


class Statuses:
    """The accounts of this process, as they were seen since they were last written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unwritten: dict[Place, StatusNote] = {}
        self._written: dict[Place, StatusNote] = {}
        self._stirred = asyncio.Event()

    def begin(self, place: Place) -> None:
        """Know nothing of an account: its row may be another than the one that was written."""
        self._written.pop(place, None)
        self._unwritten.pop(place, None)

    def connected(self, place: Place, identity: Identity) -> None:
        """Messages come in."""
        self._note(place, is_connected=True, identity=identity, error=NO_ERROR)

    def disconnected(self, place: Place) -> None:
        """We no longer receive for the account."""
        self._note(place, is_connected=False)

    def failed(self, place: Place, reason: str, message: str, *, receives: bool) -> None:
        """Something went wrong; `receives` says whether messages come in all the same."""
        if self._latest(place).error != (reason, message):
            logger.warning(
                "channel_account_failed", account="/".join(place), reason=reason, message=message
            )
        connected = None if receives else False
        self._note(place, is_connected=connected, error=(reason, message))

    def received(self, place: Place, at: datetime) -> None:
        """A message came in."""
        self._note(place, last_inbound_at=at)

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is seen until `stop`, and what is left then."""
        while not stop.is_set():
            await wait_or_stop(stop, PERIOD_S)
            await self._write()

    def _note(self, place: Place, **seen: object) -> None:
        known = {key: value for key, value in seen.items() if value is not None}
        latest = self._latest(place)
        if all(getattr(latest, key) == value for key, value in known.items()):
            return
        unwritten = self._unwritten.get(place, StatusNote(place))
        self._unwritten[place] = replace(unwritten, **known)  # type: ignore[arg-type]

    def _latest(self, place: Place) -> StatusNote:
        written = self._written.get(place, StatusNote(place))
        return _merged(written, self._unwritten.get(place, written))

    async def _write(self) -> None:
        if not self._unwritten:
            return
        writing, self._unwritten = self._unwritten, {}
        try:
            async with self._database.queue.acquire() as conn:
                await accounts.note_status(conn, list(writing.values()))
        except transient.DRIVER_ERRORS as exc:
            logger.warning("channel_statuses_unwritten", error=type(exc).__name__)
            for place, note in writing.items():
                self._unwritten[place] = _merged(note, self._unwritten.get(place, note))
            return
        for place, note in writing.items():
            self._written[place] = _merged(self._written.get(place, note), note)


def _merged(older: StatusNote, newer: StatusNote) -> StatusNote:
    return StatusNote(
        newer.place,
        older.is_connected if newer.is_connected is None else newer.is_connected,
        newer.identity or older.identity,
        newer.last_inbound_at or older.last_inbound_at,
        older.error if newer.error is None else newer.error,
    )
