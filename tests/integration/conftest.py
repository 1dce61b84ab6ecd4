"""What several tests of one service share: a Bot API server, and a bot whose token is known."""

from collections.abc import AsyncIterator

import pytest

from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_channels import TOKEN, TOKEN_NAME
from tests.support.telegram_state import Bot


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
