"""Receives bots' messages by webhook: tells Telegram where, and takes its calls over HTTP.

Decides who is believed (the secret token in constant time, before a byte of the body is read),
what is too large, and that only what is durable is answered 2xx. Telegram repeats the rest.
"""

import hmac
import json
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from fased.bus.coalesce import Coalescer
from fased.core import delivery
from fased.core.accounts import Identity
from fased.core.errors import FasedError, InvalidArgument
from fased.core.names import AccountId, Namespace
from fased.core.telegram import ALLOWED_UPDATES, CHANNEL
from fased.core.telegram_answers import Answer, AnswerKind
from fased.process import Host
from fased.store import outbox, transient
from fased.store.channels.accounts import Place
from fased.store.channels.leases import Lease
from fased.telemetry import metrics
from services.channels.adapters import telegram_intake
from services.channels.adapters.telegram_bot import Bot, CallFailed
from services.channels.adapters.telegram_intake import SCHEMA, Taken
from services.channels.statuses import Statuses

MAX_BODY_BYTES = 1024 * 1024
MAX_TOGETHER = 200
# How many calls Telegram makes at once, its most.
MAX_CONNECTIONS = 100
# Somebody else may have told Telegram another address since.
REGISTER_AGAIN_S = 600.0
LONGEST_PAUSE_S = 10.0
SECRET_HEADER = b"x-telegram-bot-api-secret-token"

_PATH = re.compile(r"/telegram/(?P<namespace>[a-z0-9-]{1,63})/(?P<account>[a-z0-9_-]{1,64})")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
FindBot = Callable[[Place], Bot | None]

logger = structlog.get_logger(__name__)


def webhook_path(place: Place) -> str:
    """Where an account's calls come in, below the public address."""
    return f"/telegram/{place[0]}/{place[2]}"


class Registrar:
    """Tells Telegram where one account's webhook is."""

    def __init__(self, bot: Bot, statuses: Statuses, webhook_url: str, check_s: float) -> None:
        self._bot = bot
        self._statuses = statuses
        self._webhook_url = webhook_url
        self._check_s = check_s
        self._failures = 0
        self._registered: tuple[str, datetime] | None = None

    async def register(self, lease: Lease) -> float:
        """See to it that Telegram knows the webhook; gives the seconds to pause."""
        try:
            identity, secret = await self._bot.identity(), await self._bot.webhook_secret()
        except CallFailed as failed:
            return self._failed(lease, failed.answer)
        if not self._is_registered(secret):
            answer = await self._bot.call(
                "setWebhook",
                {
                    "url": self._webhook_url + webhook_path(lease.place),
                    "secret_token": secret,
                    "allowed_updates": list(ALLOWED_UPDATES),
                    "max_connections": MAX_CONNECTIONS,
                },
            )
            if answer.kind is not AnswerKind.OK:
                return self._failed(lease, answer)
            self._registered = secret, datetime.now(UTC)
        self._failures = 0
        self._statuses.connected(
            lease.place, Identity(identity.id, identity.username, identity.name)
        )
        return self._check_s

    def _is_registered(self, secret: str) -> bool:
        if self._registered is None or self._registered[0] != secret:
            return False
        return (datetime.now(UTC) - self._registered[1]).total_seconds() < REGISTER_AGAIN_S

    def _failed(self, lease: Lease, answer: Answer) -> float:
        self._failures += 1
        self._registered = None
        self._statuses.failed(lease.place, answer.reason, answer.message, receives=False)
        if answer.retry_after is not None:
            return answer.retry_after.total_seconds()
        pause_s = delivery.backoff(self._failures, random.random()).total_seconds()
        return min(pause_s, LONGEST_PAUSE_S)


class Webhooks:
    """The HTTP endpoint, an ASGI application."""

    def __init__(self, host: Host, statuses: Statuses, find_bot: FindBot) -> None:
        self._host = host
        self._statuses = statuses
        self._find_bot = find_bot
        self._storing: Coalescer[tuple[Place, Taken], None] = Coalescer(
            self._store, max_calls=MAX_TOGETHER
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with a status and nothing else."""
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} is served here")
        status = await self._status(scope, receive)
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _status(self, scope: Scope, receive: Receive) -> int:
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            return 404
        if scope["method"] != "POST":
            return 405
        place = (Namespace(found["namespace"]), CHANNEL, AccountId(found["account"]))
        bot = self._find_bot(place)
        headers = dict(scope["headers"])
        if not await _is_telegram(bot, headers.get(SECRET_HEADER, b"")) or bot is None:
            metrics.channel_received.labels(CHANNEL, "refused").inc()
            return 401
        body = await _body(headers.get(b"content-length", b""), receive)
        return 413 if body is None else await self._take(place, bot, body)

    async def _take(self, place: Place, bot: Bot, body: bytes) -> int:
        try:
            update = json.loads(body)
        except (ValueError, RecursionError):
            metrics.channel_received.labels(CHANNEL, "malformed").inc()
            return 400
        try:
            taken = telegram_intake.take(update, place, await bot.identity())
            if taken.event or taken.migrated:
                await self._storing.call((place, taken))
        except InvalidArgument as exc:
            logger.warning("telegram_update_malformed", field=exc.metadata.get("field"))
            return 400
        except (CallFailed, FasedError, *transient.DRIVER_ERRORS) as exc:
            logger.warning("telegram_update_refused", error=type(exc).__name__)
            return 503
        if taken.event:
            self._statuses.received(place, datetime.now(UTC))
        return 200

    async def _store(self, calls: Sequence[tuple[Place, Taken]]) -> Sequence[None]:
        async with self._host.database.queue.acquire() as conn, conn.transaction():
            await telegram_intake.store(conn, calls)
        self._host.hints.send(outbox.hint_name(SCHEMA))
        return [None] * len(calls)


async def _is_telegram(bot: Bot | None, given: bytes) -> bool:
    """Whether a call proves itself; an account that is not there takes as long."""
    try:
        expected = (await bot.webhook_secret()).encode() if bot else b""
    except CallFailed:
        expected = b""
    return hmac.compare_digest(given, expected or b"-" * 64) and bool(expected)


async def _body(declared: bytes, receive: Receive) -> bytes | None:
    """A request's body; None for one that is too large, of which no more is read."""
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)
