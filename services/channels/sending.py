"""Sends what waits for one account, chat by chat, each chat in its order. Decides nothing itself:
what follows a call is `core/delivery.py`, who sends for a chat is `store/channels/lanes.py`.

The begin of each call is stored before it. Several replicas share an account's chats.
"""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import structlog
from opentelemetry.trace import SpanKind

from fased.core import delivery
from fased.core.accounts import Account
from fased.core.delivery import CallEnd, CallResult, DeliveryState
from fased.core.messages import Peer
from fased.process import Host, wait_or_stop
from fased.store import database, notify, outbox, transient
from fased.store.channels import lanes, leases
from fased.store.channels.accounts import Place
from fased.store.channels.lanes import Ended, Lane, Send
from fased.telemetry import metrics, tracing
from services.channels.adapters.port import Line
from services.channels.outcomes import events_of
from services.channels.settings import ChannelsSettings

SCHEMA = "channels"
POLL_S = 2.0
RETRY_S = 0.5
FLOODED_CHATS = 3
# A longer wait is the single chats' own; the account is tried again.
LONGEST_FLOOD_S = 60.0
# What is under way at the end may still hear its answer; then the call is given up.
LAST_SENDS_S = 5.0
SENDER_LOST = CallResult(
    CallEnd.UNKNOWN,
    reason="SENDER_LOST",
    message="Its sender was lost while it was sent: it may have been sent.",
)

logger = structlog.get_logger(__name__)


def hint_name(place: Place) -> str:
    """The hint that an account has something to send."""
    return f"deliveries/{'/'.join(place)}"


class Floods:
    """The chats that a platform asks to wait for. When it does so for several at once, what it
    means is the account: nothing is begun then until the last of them may go on.
    """

    def __init__(self) -> None:
        self._until: dict[Peer, float] = {}

    def note(self, peer: Peer, now: float, wait_s: float) -> None:
        """A chat is to wait; times are those of `time.monotonic()`."""
        self._until[peer] = now + min(wait_s, LONGEST_FLOOD_S)

    def wait_s(self, now: float) -> float:
        """How long the account is to wait; 0 while no more than single chats are."""
        self._until = {peer: until for peer, until in self._until.items() if until > now}
        return max(self._until.values()) - now if len(self._until) >= FLOODED_CHATS else 0.0


class Sender:
    """The sends of one account in this process."""

    def __init__(
        self, host: Host, owner: str, account: Account, line: Line, settings: ChannelsSettings
    ) -> None:
        self._host = host
        self._owner = owner
        self._place: Place = (account.namespace, account.channel, account.account_id)
        self._policy = account.settings.unknown_policy
        self._line = line
        self._ttl = timedelta(seconds=settings.send_lease_s)
        # A call that begins then ends while the chat is still ours.
        self._begins_within_s = settings.send_lease_s - settings.send_timeout_s
        self._limit = settings.sends_per_account
        self._stirred = asyncio.Event()
        self._floods = Floods()
        self._is_ending = False

    async def run(self) -> None:
        """Send until the process stops, or this is cancelled; then end what is under way."""
        drains: set[asyncio.Task[None]] = set()
        try:
            with self._host.hints.listen(self._stirred.set, hint_name(self._place)):
                while not self._host.stop.is_set():
                    try:
                        await self._send_more(drains)
                    except transient.DRIVER_ERRORS as exc:
                        # What is under way goes on: its end must be stored by who saw it.
                        logger.warning("sends_unclaimed", **database.log_fields(exc))
                        await wait_or_stop(self._host.stop, RETRY_S * random.uniform(0.5, 1.0))
        finally:
            self._is_ending = True
            if drains:
                await asyncio.wait(drains, timeout=LAST_SENDS_S)
            for task in drains:
                task.cancel()

    async def _send_more(self, drains: "set[asyncio.Task[None]]") -> None:
        """Begin with the chats that are due, then wait until more may be."""
        if (flood_s := self._floods.wait_s(time.monotonic())) > 0:
            await wait_or_stop(self._host.stop, flood_s)
            return
        for lane in await self._claim(self._limit - len(drains)):
            task = asyncio.create_task(self._drain(lane), name="channels-send")
            drains.add(task)
            task.add_done_callback(drains.discard)
            task.add_done_callback(lambda _: self._stirred.set())
        await self._wait(is_full=len(drains) >= self._limit)

    async def _claim(self, limit: int) -> list[Lane]:
        if limit <= 0:
            return []
        async with self._host.database.queue.acquire() as conn:
            return await lanes.claim(conn, self._place, self._owner, limit, self._ttl)

    async def _wait(self, *, is_full: bool) -> None:
        """Wait for a hint, a free place, or the time of the next chat that is due."""
        wait_s = POLL_S * random.uniform(0.75, 1.25)
        if not is_full and not self._stirred.is_set():
            async with self._host.database.queue.acquire() as conn:
                due_s = await lanes.next_due_s(conn, self._place)
            wait_s = wait_s if due_s is None else min(max(due_s, 0.01), wait_s)
        await notify.wait_any(wait_s, self._stirred, self._host.stop)
        self._stirred.clear()

    async def _drain(self, lane: Lane) -> None:
        """Send what a chat waits for, until there is no more, or not now."""
        try:
            while await self._send_next(lane):
                pass
        except Exception as exc:
            # One chat must not stop the others; its lane falls due again by itself.
            logger.error("chat_interrupted", account="/".join(lane.place), exc_info=exc)

    async def _send_next(self, lane: Lane) -> bool:
        pool = self._host.database.queue
        if self._is_ending or self._floods.wait_s(time.monotonic()) > 0:
            async with pool.acquire() as conn:
                await lanes.put_off(conn, lane)
            return False
        began_at = time.monotonic()
        async with pool.acquire() as conn:
            send = await lanes.begin(conn, lane, self._ttl)
            if send is None:
                return await lanes.leave(conn, lane)
        with (
            tracing.continued({"traceparent": send.traceparent}),
            tracing.tracer().start_as_current_span("deliver", kind=SpanKind.CLIENT),
        ):
            return await self._carry_out(lane, send, began_at + self._begins_within_s)

    async def _carry_out(self, lane: Lane, send: Send, not_after: float) -> bool:
        deadline = delivery.deadline_of(send.created_at, send.expires_at)
        if not send.is_ours:
            result = SENDER_LOST
        elif datetime.now(UTC) >= deadline:
            result = CallResult(
                CallEnd.REFUSED, reason="EXPIRED", message="It could not be delivered in time."
            )
        else:
            result = await self._line.send(send.target, send.chunk, not_after)
            if result.wait is not None:
                self._floods.note(lane.peer, time.monotonic(), result.wait.total_seconds())
        metrics.channel_sends.labels(lane.place[1], result.end).inc()
        if result.end is CallEnd.UNKNOWN:
            logger.warning(
                "send_outcome_unknown", delivery=str(send.delivery_id), reason=result.reason
            )
        step = delivery.after_call(
            send.chunk,
            result,
            self._policy,
            now=datetime.now(UTC),
            deadline=deadline,
            jitter=random.random(),
        )
        ended = await self._store(lane, send, step, result.moved_to)
        is_last = ended is not None and ended.is_last
        return step.state is not DeliveryState.PENDING and not is_last

    async def _store(
        self, lane: Lane, send: Send, step: delivery.Step, moved_to: str
    ) -> Ended | None:
        """Store what came of a send, however long the database is away: nobody else knows it.

        Gives the end of the delivery, where this was.
        """
        while True:
            try:
                ended = await self._try_store(lane, send, step, moved_to)
                break
            except transient.DRIVER_ERRORS as exc:
                if not transient.is_transient(exc):
                    raise
                logger.warning("send_unstored", error=type(exc).__name__)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))
        if ended is not None:
            metrics.deliveries_ended.labels(lane.place[1], ended.state).inc()
            self._host.hints.send(outbox.hint_name(SCHEMA))
            logger.info(
                "delivery_ended",
                delivery=str(ended.delivery_id),
                state=ended.state,
                reason=ended.reason,
            )
        return ended

    async def _try_store(
        self, lane: Lane, send: Send, step: delivery.Step, moved_to: str
    ) -> Ended | None:
        async with self._host.database.queue.acquire() as conn, conn.transaction():
            if moved_to:
                await leases.note_migration(conn, lane.place, send.target.peer.id, moved_to)
            ended = await lanes.end(conn, lane, send, step)
            if ended is not None:
                await outbox.insert(conn, SCHEMA, events_of(ended))
        return ended
