"""A strict Bot API server on loopback: what Telegram's own does, and what a test makes it do wrong.

Decides how its methods answer, and takes updates to webhooks; what it remembers is in
`telegram_state.py`, what it refuses in texts in `telegram_rules.py`. It stands for a local Bot API
server, so webhooks may be plain HTTP to any port.

    python -m tests.support.telegram_api --port 8081

serves it alone; then `POST /control/NAME` with a JSON object calls what `Control` offers.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from tests.support import raw_http
from tests.support.raw_http import Answer, Request
from tests.support.telegram_rules import Refusal
from tests.support.telegram_state import Attempt, Bot, Fault, FaultKind, Json, Update, Webhook

MAX_POLL_S = 50
MAX_BATCH = 100
WEBHOOK_TIMEOUT_S = 60.0
WEBHOOK_RETRY_S = 1.0
MAX_WEBHOOK_RETRY_S = 60.0
OTHER_POLL = (
    "terminated by other getUpdates request; make sure that only one bot instance is running"
)
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)
ACTIONS = frozenset(
    "typing upload_photo record_video upload_video record_voice upload_voice upload_document "
    "choose_sticker find_location record_video_note upload_video_note".split()
)

_CALL = re.compile(r"/bot(?P<token>[^/]*)/(?P<method>\w+)")
_TOKEN = re.compile(r"\d+:[\w-]{3,}")
_SECRET_TOKEN = re.compile(r"[\w-]{1,256}")


class Parameters:
    """A call's parameters: JSON, a form or a query, with nested values as JSON in text or not."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        """A parameter as text, `""` where it is missing."""
        value = self.values.get(name)
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    def whole(self, name: str, default: int) -> int:
        """A whole number; what is none counts as `default`, as it does for Telegram."""
        text = self.text(name)
        return int(text) if re.fullmatch(r"-?\d+", text) else default

    def positive(self, name: str) -> int | None:
        """The id of a message or a topic, None where it is missing."""
        return self.whole(name, 0) or None

    def flag(self, name: str) -> bool:
        """A boolean."""
        return self.text(name).lower() in ("true", "1", "yes", "t")

    def nested(self, name: str) -> Any:
        """An object or a list, None where it is missing; raises Refusal where it is no JSON."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            return value or None
        try:
            return json.loads(value)
        except ValueError:
            raise Refusal(400, f"Bad Request: can't parse {name} JSON object") from None


class TelegramApi:
    """The server: its bots by token, and where it listens."""

    def __init__(self, webhook_retry_s: float) -> None:
        self.base_url = ""
        self.bots: dict[str, Bot] = {}
        self._webhook_retry_s = webhook_retry_s
        self._http = httpx2.AsyncClient(timeout=WEBHOOK_TIMEOUT_S)

    def add_bot(self, token: str = "1000001:stub-token", username: str = "fased_bot") -> Bot:
        """Make a bot."""
        bot = Bot(token, username, "Fased")
        self.bots[token] = bot
        return bot

    async def aclose(self) -> None:
        """Take no more updates to webhooks."""
        for bot in self.bots.values():
            drop_webhook(bot)
        await self._http.aclose()

    async def respond(self, request: Request) -> Answer | None:
        """Answer a request; None where the connection is to be closed instead."""
        path = urlsplit(request.target).path
        if path.startswith("/control/"):
            return self._control(path.removeprefix("/control/"), request)
        call = _CALL.fullmatch(path)
        if call is None or not _TOKEN.fullmatch(call["token"]):
            return _failure(Refusal(404, "Not Found"))
        bot = self.bots.get(call["token"])
        if bot is None or bot.is_revoked:
            return _failure(Refusal(401, "Unauthorized"))
        return await self._record(bot, call["method"].lower(), request)

    async def _record(self, bot: Bot, method: str, request: Request) -> Answer | None:
        parameters = _parameters(request)
        at = time.time()
        status = 0
        try:
            answer = await self._carry_out(bot, method, parameters)
            status = answer.status if answer else 0
            return answer
        finally:
            bot.calls.append(Call(method, parameters.values, at, status))

    async def _carry_out(self, bot: Bot, method: str, parameters: Parameters) -> Answer | None:
        fault = bot.take_fault(method, parameters.positive("chat_id"))
        if fault is None:
            return await self._answer(bot, method, parameters)
        if fault.kind in (FaultKind.SLOW, FaultKind.ACCEPT_DROP, FaultKind.ACCEPT_HANG):
            answer = await self._answer(bot, method, parameters)
            if fault.kind is FaultKind.SLOW:
                await asyncio.sleep(fault.delay_s)
                return answer
        if fault.kind in (FaultKind.HANG, FaultKind.ACCEPT_HANG):
            await bot.cleared.wait()
        return _fault_answer(fault)

    async def _answer(self, bot: Bot, method: str, parameters: Parameters) -> Answer:
        try:
            if method == "getupdates":
                return _success(await get_updates(bot, parameters))
            if method not in METHODS:
                raise Refusal(404, "Not Found: method not found")
            result = METHODS[method](bot, parameters)
        except Refusal as refusal:
            return _failure(refusal)
        self.deliver_updates(bot)
        return _success(result)
