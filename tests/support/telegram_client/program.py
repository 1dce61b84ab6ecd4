"""A bot written with python-telegram-bot, told what to do by lines of JSON: somebody else's idea of
what the Bot API says. Runs in an environment of its own and imports nothing of ours.

    {"do": "call", "method": M, "arguments": {...}}   one method of telegram.Bot
    {"do": "poll", "updates": N}                      long polling until N updates came
    {"do": "listen", "updates": N, "port": P, "secret": S}   the same by a webhook

Each is answered by a line with its `id`: `result`, or `error` with the exception's class.
"""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from telegram import Bot, TelegramObject, Update  # type: ignore[import-not-found]
from telegram.error import TelegramError  # type: ignore[import-not-found]
from telegram.ext import Updater  # type: ignore[import-not-found]


def plain(value: Any) -> Any:
    """A result as JSON."""
    if isinstance(value, TelegramObject):
        return json.loads(value.to_json())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def failure(error: TelegramError) -> dict[str, Any]:
    """What the client made of a refusal."""
    told: dict[str, Any] = {"class": type(error).__name__, "message": error.message}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        is_span = isinstance(retry_after, timedelta)
        told["retry_after"] = retry_after.total_seconds() if is_span else retry_after
    new_chat_id = getattr(error, "new_chat_id", None)
    return told if new_chat_id is None else told | {"new_chat_id": new_chat_id}


async def receive(bot: Bot, order: dict[str, Any]) -> list[Any]:
    """The updates that come until there are as many as asked for."""
    queue: asyncio.Queue[Update] = asyncio.Queue()
    updater = Updater(bot, queue)
    async with updater:
        if order["do"] == "poll":
            await updater.start_polling(poll_interval=0.0, timeout=10)
        else:
            await updater.start_webhook(
                listen="127.0.0.1",
                port=order["port"],
                url_path="hook",
                secret_token=order["secret"],
                webhook_url=f"http://127.0.0.1:{order['port']}/hook",
                max_connections=5,
            )
        updates = [await queue.get() for _ in range(order["updates"])]
        await updater.stop()
    return updates


async def carry_out(bot: Bot, order: dict[str, Any]) -> None:
    """Do what a line says, and answer it."""
    try:
        if order["do"] == "call":
            result = await getattr(bot, order["method"])(**order["arguments"])
        else:
            result = await receive(bot, order)
        answer = {"result": plain(result)}
    except TelegramError as exc:
        answer = {"error": failure(exc)}
    print(json.dumps({"id": order["id"]} | answer), flush=True)


async def main(base_url: str, token: str) -> None:
    """Carry out orders, several at once, until there are no more."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with Bot(token, base_url=f"{base_url}/bot") as bot, asyncio.TaskGroup() as tasks:
        while line := await lines.readline():
            tasks.create_task(carry_out(bot, json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
