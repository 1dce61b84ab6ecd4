"""A strict Bot API server on loopback: what Telegram's own does, and what a test makes it do wrong.

Decides how calls and updates travel. What methods do is in `telegram_methods.py`, what is
remembered in `telegram_state.py`, what texts are refused in `telegram_rules.py`. It stands for a
local Bot API server, so webhooks may be plain HTTP to any port.

    python -m tests.support.telegram_api --port 8081

serves it alone: `POST /control/NAME` with a JSON object then does what `CONTROLS` offers, with the
bot's `token` beside the arguments.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from tests.support import raw_http
from tests.support.raw_http import Answer, Request
from tests.support.telegram_methods import METHODS, Parameters, drop_webhook, get_updates
from tests.support.telegram_rules import Refusal
from tests.support.telegram_state import Attempt, Bot, Call, Fault, FaultKind, Update, Webhook

WEBHOOK_TIMEOUT_S = 60.0
# Telegram begins with a second; a test has less time.
WEBHOOK_RETRY_S = 0.05
MAX_WEBHOOK_RETRY_S = 60.0
GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head></html>"

_CALL = re.compile(r"/bot(?P<token>[^/]*)/(?P<method>\w+)")
_TOKEN = re.compile(r"\d+:[\w-]{3,}")


class TelegramApi:
    """The server: its bots by token, and where it listens."""

    def __init__(self, webhook_retry_s: float = WEBHOOK_RETRY_S) -> None:
        self.base_url = ""
        self.bots: dict[str, Bot] = {}
        self._webhook_retry_s = webhook_retry_s
        self._http = httpx2.AsyncClient(
            timeout=WEBHOOK_TIMEOUT_S, limits=httpx2.Limits(), trust_env=False
        )

    def add_bot(self, token: str = "1000001:stub-token", username: str = "fased_bot") -> Bot:
        """Make a bot."""
        bot = Bot(token, username, "Fased", on_update=self._deliver)
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
        return await _recorded(bot, call["method"].lower(), request)

    def _control(self, name: str, request: Request) -> Answer:
        arguments = json.loads(request.body or b"{}")
        if name == "add_bot":
            return _success(self.add_bot(**arguments).user_json())
        if name not in CONTROLS:
            return _failure(Refusal(404, f"no control {name}"))
        return _success(CONTROLS[name](self.bots[arguments.pop("token")], **arguments))

    def _deliver(self, bot: Bot) -> None:
        """See to it that each chat's updates are on their way to the webhook, one by one."""
        webhook = bot.webhook
        if webhook is None:
            return
        for chat_id in {update.chat_id for update in bot.pending} - set(webhook.tasks):
            task = asyncio.get_running_loop().create_task(self._deliver_chat(bot, webhook, chat_id))
            webhook.tasks[chat_id] = task

    async def _deliver_chat(self, bot: Bot, webhook: Webhook, chat_id: int) -> None:
        while update := next((u for u in bot.pending if u.chat_id == chat_id), None):
            await self._deliver_update(bot, webhook, update)
            if update in bot.pending:
                bot.pending.remove(update)
        del webhook.tasks[chat_id]

    async def _deliver_update(self, bot: Bot, webhook: Webhook, update: Update) -> None:
        failures = 0
        while True:
            async with webhook.connections:
                status, retry_after_s = await self._post(webhook, update)
            bot.attempts.append(Attempt(update.update_id, status, time.time()))
            if 200 <= status < 300:
                return
            webhook.last_error = f"Wrong response from the webhook: {status}"
            webhook.last_error_at = time.time()
            # The first failure is tried again at once, as Telegram does.
            delay_s = self._webhook_retry_s * 2**failures if failures else 0.0
            failures += 1
            await asyncio.sleep(retry_after_s or min(delay_s, MAX_WEBHOOK_RETRY_S))

    async def _post(self, webhook: Webhook, update: Update) -> tuple[int, int]:
        """The status of the answer, 0 where there is none, and how long it asks to wait."""
        headers = {"Content-Type": "application/json"}
        if webhook.secret_token:
            headers["X-Telegram-Bot-Api-Secret-Token"] = webhook.secret_token
        body = json.dumps(update.json()).encode()
        try:
            answer = await self._http.post(webhook.url, content=body, headers=headers)
        except httpx2.TransportError:
            return 0, 0
        asked = answer.headers.get("retry-after", "")
        return answer.status_code, int(asked) if asked.isdigit() else 0


async def _recorded(bot: Bot, method: str, request: Request) -> Answer | None:
    parameters = _parameters(request)
    at = time.time()
    status = 0
    try:
        answer = await _carried_out(bot, method, parameters)
        status = answer.status if answer else 0
        return answer
    finally:
        bot.calls.append(Call(method, parameters.values, at, status))


async def _carried_out(bot: Bot, method: str, parameters: Parameters) -> Answer | None:
    fault = bot.take_fault(method, parameters.an_id("chat_id"))
    if fault is None:
        return await _answer(bot, method, parameters)
    if fault.kind in (FaultKind.SLOW, FaultKind.ACCEPT_DROP, FaultKind.ACCEPT_HANG):
        answer = await _answer(bot, method, parameters)
        if fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.delay_s)
            return answer
    if fault.kind in (FaultKind.HANG, FaultKind.ACCEPT_HANG):
        await bot.cleared.wait()
    return _fault_answer(fault)


async def _answer(bot: Bot, method: str, parameters: Parameters) -> Answer:
    try:
        if method == "getupdates":
            return _success(await get_updates(bot, parameters))
        if method not in METHODS:
            raise Refusal(404, "Not Found: method not found")
        result = METHODS[method](bot, parameters)
    except Refusal as refusal:
        return _failure(refusal)
    if method == "setwebhook":
        bot.on_update(bot)
    return _success(result)


def _parameters(request: Request) -> Parameters:
    values: dict[str, Any] = dict(parse_qsl(urlsplit(request.target).query))
    content_type = request.headers.get("content-type", "")
    if request.body and content_type.startswith("application/json"):
        values |= json.loads(request.body)
    elif request.body:
        values |= dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    return Parameters(values)


def _fault_answer(fault: Fault) -> Answer | None:
    match fault.kind:
        case FaultKind.FLOOD:
            retry_s = fault.retry_after_s
            description = f"Too Many Requests: retry after {retry_s}"
            return _failure(Refusal(429, description, retry_after=retry_s))
        case FaultKind.ERROR:
            return _failure(Refusal(fault.status or 500, "Internal Server Error"))
        case FaultKind.GATEWAY:
            return Answer(fault.status or 502, GATEWAY_PAGE, "text/html")
        case _:
            return None


def _success(result: Any) -> Answer:
    return Answer(200, json.dumps({"ok": True, "result": result}).encode())


def _failure(refusal: Refusal) -> Answer:
    said: dict[str, Any] = {
        "ok": False,
        "error_code": refusal.code,
        "description": refusal.description,
    }
    if refusal.parameters:
        said["parameters"] = refusal.parameters
    return Answer(refusal.code, json.dumps(said).encode())


def _set_chat(bot: Bot, chat_id: int, answers: str) -> None:
    bot.chats[chat_id].answers = answers


def _revoke(bot: Bot) -> None:
    bot.is_revoked = True


def _state(bot: Bot) -> dict[str, Any]:
    return {
        "pending": [update.json() for update in bot.pending],
        "webhook": bot.webhook.url if bot.webhook else "",
        "is_polled": bot.poll is not None,
        "conflicts": bot.conflicts,
    }


# What may be asked over HTTP, with the methods' own arguments.
CONTROLS: Mapping[str, Callable[..., Any]] = {
    "add_chat": lambda bot, **what: bot.add_chat(**what).json(),
    "add_topic": Bot.add_topic,
    "user_says": Bot.user_says,
    "push": Bot.push,
    "migrate": Bot.migrate,
    "set_chat": _set_chat,
    "revoke": _revoke,
    "add_fault": Bot.add_fault,
    "clear_faults": Bot.clear_faults,
    "sent": lambda bot, after=0: [asdict(sent) for sent in bot.sent[after:]],
    "calls": lambda bot, after=0: [asdict(call) for call in bot.calls[after:]],
    "attempts": lambda bot, after=0: [asdict(attempt) for attempt in bot.attempts[after:]],
    "state": _state,
}


@asynccontextmanager
async def telegram_api(
    port: int = 0, webhook_retry_s: float = WEBHOOK_RETRY_S, address: str = "127.0.0.1"
) -> AsyncIterator[TelegramApi]:
    """The server, running in this process while the context lasts."""
    api = TelegramApi(webhook_retry_s)
    async with raw_http.serving(api.respond, port, address) as bound:
        api.base_url = f"http://{address}:{bound}"
        try:
            yield api
        finally:
            await api.aclose()


async def _serve(port: int) -> None:
    async with telegram_api(port) as api:
        print(api.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A Bot API server for tests")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free one, and says it")
    asyncio.run(_serve(arguments.parse_args().port))
