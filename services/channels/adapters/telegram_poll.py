"""Receives a bot's messages by long poll. Decides what is asked, and that what was got is stored
before it is confirmed: Telegram gives an update again until a poll asks for those after it.
"""

import asyncio
import random
from datetime import UTC, datetime

import structlog

from fased.core import delivery
from fased.core.accounts import Identity
from fased.core.errors import InvalidArgument
from fased.core.telegram import ALLOWED_UPDATES, BotIdentity
from fased.core.telegram_answers import Answer, AnswerKind
from fased.process import Host
from fased.store import outbox
from fased.store.channels import leases
from fased.store.channels.leases import Lease
from services.channels.adapters import telegram_intake
from services.channels.adapters.telegram_bot import Bot, CallFailed
from services.channels.adapters.telegram_intake import SCHEMA, Taken
from services.channels.statuses import Statuses

BATCH = 100
# Beyond what a poll waits at Telegram.
ANSWER_S = 10.0
# A credential that was mended is found this soon.
LONGEST_PAUSE_S = 10.0

logger = structlog.get_logger(__name__)


class Poller:
    """The poll of one account."""

    def __init__(self, host: Host, bot: Bot, statuses: Statuses, poll_s: int) -> None:
        self._host = host
        self._bot = bot
        self._statuses = statuses
        self._poll_s = poll_s
        self._failures = 0
        # The first poll waits for nothing, so that it is soon known whether polls are answered.
        self._is_answered = False

    async def poll(self, lease: Lease) -> float:
        """Poll once, and store what came; gives the seconds to pause."""
        try:
            identity = await self._bot.identity()
        except CallFailed as failed:
            return self._failed(lease, failed.answer)
        answer = await self._ask(lease, identity)
        if answer is None:
            return 0.0
        if answer.kind is not AnswerKind.OK:
            if answer.reason == "WEBHOOK_ACTIVE":
                await self._bot.call("deleteWebhook", {"drop_pending_updates": False})
            return self._failed(lease, answer)
        updates = answer.result if isinstance(answer.result, list) else []
        if updates and not await self._store(lease, identity, updates):
            unreadable = Answer(
                AnswerKind.PERMANENT, "MALFORMED_UPDATE", "What Telegram sends cannot be read."
            )
            return self._failed(lease, unreadable)
        self._failures, self._is_answered = 0, True
        self._statuses.connected(
            lease.place, Identity(identity.id, identity.username, identity.name)
        )
        return 0.0

    async def _ask(self, lease: Lease, identity: BotIdentity) -> Answer | None:
        """The answer to a poll; None where the process stops before there is one."""
        wait_s = self._poll_s if self._is_answered else 0
        parameters: dict[str, object] = {
            "timeout": wait_s,
            "limit": BATCH,
            "allowed_updates": list(ALLOWED_UPDATES),
        }
        # Update ids are counted by bot: another one behind the account begins anew.
        if lease.bot_id == identity.id and lease.next_update_id:
            parameters["offset"] = lease.next_update_id
        call = asyncio.create_task(
            self._bot.call("getUpdates", parameters, timeout_s=wait_s + ANSWER_S)
        )
        stopped = asyncio.create_task(self._host.stop.wait())
        try:
            await asyncio.wait({call, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return call.result() if call.done() else None
        finally:
            for task in (call, stopped):
                task.cancel()
            await asyncio.gather(call, stopped, return_exceptions=True)

    async def _store(self, lease: Lease, identity: BotIdentity, updates: list[object]) -> bool:
        """Store a batch and how far it goes; False where it goes nowhere."""
        taken: list[Taken] = []
        last_id = -1
        for update in updates:
            update_id = update.get("update_id") if isinstance(update, dict) else None
            last_id = max(last_id, update_id if isinstance(update_id, int) else -1)
            try:
                taken.append(telegram_intake.take(update, lease.place, identity))
            except InvalidArgument as exc:
                logger.warning("telegram_update_malformed", field=exc.metadata.get("field"))
        if last_id < 0:
            return False
        async with self._host.database.queue.acquire() as conn, conn.transaction():
            await telegram_intake.store(conn, [(lease.place, each) for each in taken])
            await leases.advance(conn, lease, identity.id, last_id + 1)
        if any(each.event for each in taken):
            self._statuses.received(lease.place, datetime.now(UTC))
            self._host.hints.send(outbox.hint_name(SCHEMA))
        return True

    def _failed(self, lease: Lease, answer: Answer) -> float:
        self._failures += 1
        self._is_answered = False
        # A poll only reads: no answer is no harm, and the first of them no news.
        if answer.kind is not AnswerKind.UNKNOWN or self._failures > 1:
            self._statuses.failed(lease.place, answer.reason, answer.message, receives=False)
        if answer.retry_after is not None:
            return answer.retry_after.total_seconds()
        pause_s = delivery.backoff(self._failures, random.random()).total_seconds()
        return min(pause_s, LONGEST_PAUSE_S)
