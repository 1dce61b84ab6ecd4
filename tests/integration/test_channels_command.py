"""`fased channels` and the accounts of fased.json, against a real `fased up` and a Bot API server:
from a message on Telegram to its answer there.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.calls import eventually
from tests.support.postgres import remove_database, temporary_folder
from tests.support.scripted_provider import Rule, scripted_provider
from tests.support.telegram_api import telegram_api
from tests.support.telegram_channels import texts_of
from tests.support.telegram_state import Bot
from tests.support.up import NO_OLLAMA, Up

TOKEN = "7000001:AAcanary-telegram-token-000000000000000"


@dataclass(frozen=True, slots=True)
class Running:
    """A `fased up` beside the platform."""

    up: Up
    bot: Bot
    api_base: str

    async def fased(self, *words: str) -> Any:
        """The JSON that a command answers with; raises what it printed when it fails."""
        ended = await asyncio.to_thread(self.up.fased, *words, "-o", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """One whose fased.json has the account `alerts`, open to everyone."""
    with scripted_provider() as provider, temporary_folder() as base:
        provider.rules.append(Rule(match="ping", answer="**pong**"))
        async with telegram_api() as api:
            bot = api.add_bot(TOKEN)
            account = {
                "tokenEnv": "ALERTS_BOT",
                "apiBase": api.base_url,
                "dmPolicy": "open",
                "allowFrom": ["*"],
            }
            state = base / "state"
            state.mkdir(mode=0o700)
            config = {"channels": {"telegram": {"accounts": {"alerts": account}}}}
            (state / "fased.json").write_text(json.dumps(config))
            environment = {
                "HOME": str(base),
                **NO_OLLAMA,
                "ALERTS_BOT": TOKEN,
                "FASED_MODEL_BASE_URL": provider.base_url,
                "FASED_MODEL": "custom/test",
            }
            up = Up(state, environment)
            try:
                await up.start()
                yield Running(up, bot, api.base_url)
            finally:
                if up.process is not None:
                    await up.stop()
                remove_database(state)


async def test_a_message_is_answered_by_the_account_of_the_file_and_commands_tell_how_it_does(
    running: Running,
) -> None:
    running.bot.user_says(5, "ping", sender_name="Ada")

    async def is_answered() -> bool:
        return texts_of(running.bot, 5) == ["pong"]

    await eventually(is_answered)
    (listed,) = [
        each
        for each in (await running.fased("channels", "list"))["accounts"]
        if each["channel"] == "telegram"
    ]
    assert (listed["accountId"], listed["managedBy"]) == ("alerts", "file:fased.json")
    assert listed["credential"] == "env:ALERTS_BOT"
    status = await running.fased("channels", "status", "telegram:alerts", "--probe")
    (alerts,) = status["accounts"]
    assert (alerts["configured"], alerts["connected"], alerts["probe"]["ok"]) == (True, True, True)
    assert alerts["identity"]["username"] == "fased_bot"
    assert alerts["lastInboundTime"]
    assert alerts["lastOutboundTime"]
    refused = await asyncio.to_thread(running.up.fased, "channels", "remove", "telegram:alerts")
    assert refused.returncode == 1
    assert "fased.json" in refused.stderr
    assert TOKEN not in running.up.output() + json.dumps(status)


async def test_an_account_is_added_listed_and_removed_by_command(running: Running) -> None:
    words = ("telegram", "--account", "ops", "--token-env", "MISSING_BOT")
    added = await running.fased("channels", "add", *words, "--api-base", running.api_base)
    assert added["name"] == "namespaces/default/accounts/telegram:ops"
    (ops,) = (await running.fased("channels", "status", "telegram:ops", "--probe"))["accounts"]
    assert (ops["configured"], ops["probe"]["reason"]) == (False, "SECRET_MISSING")
    table = await asyncio.to_thread(running.up.fased, "channels", "list")
    assert "telegram:ops" in table.stdout
    await running.fased("channels", "remove", "telegram:ops")
    again = await asyncio.to_thread(running.up.fased, "channels", "status", "telegram:ops")
    assert (again.returncode, "no channel account telegram:ops" in again.stderr) == (1, True)
    both = await asyncio.to_thread(
        running.up.fased, "channels", "add", "telegram", "--token-env", "A", "--token-file", "b"
    )
    assert both.returncode == 2
