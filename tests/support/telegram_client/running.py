"""Starts the client written with python-telegram-bot, and asks it. Decides nothing it does."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("program.py")
ENSURE = Path(__file__).parents[3] / "scripts" / "ensure-telegram-client.sh"
START_LIMIT_S = 60.0


class TelegramClient:
    """The running program; several orders may be under way at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(self, method: str, **arguments: Any) -> Any:
        """The result of one method; fails the test when the client raised."""
        answer = await self.order(do="call", method=method, arguments=arguments)
        assert "result" in answer, answer
        return answer["result"]

    async def refused(self, method: str, **arguments: Any) -> dict[str, Any]:
        """What the client raised; fails the test when it did not."""
        answer = await self.order(do="call", method=method, arguments=arguments)
        assert "error" in answer, answer
        error: dict[str, Any] = answer["error"]
        return error

    async def order(self, **order: Any) -> dict[str, Any]:
        """What the program answers to one order."""
        order_id = next(self._ids)
        answered = asyncio.get_running_loop().create_future()
        self._waiting[order_id] = answered
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order | {"id": order_id}).encode() + b"\n")
        async with asyncio.timeout(START_LIMIT_S):
            answer: dict[str, Any] = await answered
        return answer

    async def read_answers(self) -> None:
        """Hand each answer to whoever waits for it, until the program ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(answer)
        for waiting in self._waiting.values():
            waiting.set_exception(RuntimeError("the client ended"))


def client_python() -> str:
    """The Python of the client's environment, made where it is missing."""
    made = subprocess.run([ENSURE], check=True, capture_output=True, text=True)
    return made.stdout.strip()


@asynccontextmanager
async def telegram_client(python: str, base_url: str, token: str) -> AsyncIterator[TelegramClient]:
    """The client, running while the context lasts."""
    process = await asyncio.create_subprocess_exec(
        python,
        str(PROGRAM),
        base_url,
        token,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    client = TelegramClient(process)
    reading = asyncio.create_task(client.read_answers())
    try:
        yield client
    finally:
        process.kill()
        await process.wait()
        await reading
