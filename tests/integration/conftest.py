"""What several tests of one service share: connections to a database, a Bot API server, and a bot
whose token is known.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.queues import connections
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_channels import TOKEN, TOKEN_NAME
from tests.support.telegram_state import Bot


@pytest.fixture
async def conns(database_url: str) -> AsyncIterator[list[Any]]:
    """As many callers at once as a test of the queue needs."""
    async with connections(database_url, 4) as opened:
        yield opened


@pytest.fixture
async def api() -> AsyncIterator[TelegramApi]:
    """The platform."""
    async with telegram_api() as started:
        yield started


@pytest.fixture
def bot(api: TelegramApi, monkeypatch: pytest.MonkeyPatch) -> Bot:
    """A bot whose token is in the environment."""
    monkeypatch.setenv(TOKEN_NAME, TOKEN)
    return api.add_bot(TOKEN)
