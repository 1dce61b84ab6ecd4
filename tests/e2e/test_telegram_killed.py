"""People write to a bot while processes are killed, in both shapes: every message is answered
once and in order, or its delivery is listed as unknown.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.lengths import length
from tests.support.load import ANSWER
from tests.support.shapes import SHAPES, Shape, running_shape
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_people import (
    HOLD,
    POLL,
    QUICK,
    RESEND,
    WEBHOOK,
    open_people,
    token_name,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

CHATS = length(short=20, full=100)
EACH = 10
KILLS = 3
TOKENS = {HOLD: "7000001:AA-first", RESEND: "7000002:AA-second"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as started:
        yield started


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "script.json"
    path.write_text(json.dumps({"rules": [{"answer": ANSWER, "delay_ms": 20}]}))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SHAPES)
async def shape(
    request: pytest.FixtureRequest, api: TelegramApi, script: Path
) -> AsyncIterator[Shape]:
    for token in TOKENS.values():
        api.add_bot(token)
    async with running_shape(
        request.param,
        dm_scope="per-account-channel-peer",
        FASED_SCRIPTED_MODEL=str(script),
        **QUICK,
        **{token_name(token): token for token in TOKENS.values()},
    ) as running:
        yield running


@pytest.mark.parametrize(("on_unknown", "mode"), [(HOLD, POLL), (RESEND, WEBHOOK)])
async def test_every_message_to_a_bot_is_answered_or_told_as_unknown_though_processes_are_killed(
    shape: Shape, api: TelegramApi, on_unknown: str, mode: str
) -> None:
    people = await open_people(
        shape, api, TOKENS[on_unknown], on_unknown=on_unknown, mode=mode, chats=CHATS
    )
    chance = random.Random(20261121)
    writing = asyncio.create_task(people.write(EACH, pause_s=0.3))
    for kill in range(KILLS):
        await people.until_answered(CHATS * EACH * (kill + 1) // (KILLS + 2))
        await shape.kill_some(chance, meanwhile=people.note_in_flight)
    await writing
    counts = await people.check()
    print(json.dumps({"on_unknown": on_unknown, "mode": mode, **counts}))
    # No chat is stuck, whatever became of what was in flight.
    await people.write(1, pause_s=0)
    assert (await people.check())["messages"] == CHATS * (EACH + 1)
