"""People write to a bot while what the cluster stands on fails: every message is answered once
and in order, or its delivery is listed as unknown, and a minute later nothing is left to do.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, running_cluster
from tests.support.lengths import length
from tests.support.load import ANSWER
from tests.support.shapes import ManyProcesses
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_people import HOLD, QUICK, RESEND, People, open_people, token_name

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

CHATS = length(short=20, full=100)
EACH = 10
KAFKA_AWAY_S = float(length(short=10, full=60))
# Longer than a member of a consumer group may be silent (`kafka_access.Timing.session_s`), and
# than a chat is one sender's own.
PAST_SESSION_S = 26.0
MINUTE_S = 60.0
TOKENS = [f"700001{number}:AA-token" for number in range(6)]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "script.json"
    path.write_text(json.dumps({"rules": [{"answer": ANSWER, "delay_ms": 20}]}))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as started:
        for token in TOKENS:
            started.add_bot(token)
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(script: Path) -> AsyncIterator[Cluster]:
    async with running_cluster(
        FASED_SCRIPTED_MODEL=str(script),
        **QUICK,
        **{token_name(token): token for token in TOKENS},
    ) as running:
        await running.set_dm_scope("per-account-channel-peer")
        yield running


@pytest.fixture(scope="module")
def tokens() -> "itertools.chain[str]":
    return itertools.chain(TOKENS)


@asynccontextmanager
async def people_writing(
    cluster: Cluster, api: TelegramApi, token: str, for_s: float, on_unknown: str = HOLD
) -> AsyncIterator[People]:
    """While the block runs people write, about so long; after it all is answered, or told as
    unknown, a minute later there is no lag, and every chat goes on.
    """
    people = await open_people(
        ManyProcesses(cluster), api, token, on_unknown=on_unknown, chats=CHATS
    )
    writing = asyncio.create_task(people.write(EACH, pause_s=for_s / EACH))
    await people.until_answered(CHATS)
    yield people
    await writing
    print(json.dumps({"on_unknown": on_unknown, **await people.check()}))
    await cluster.until_no_lag(MINUTE_S)
    await people.write(1, pause_s=0)
    assert (await people.check())["messages"] == CHATS * (EACH + 1)


async def test_kafka_stopped_for_a_while_loses_and_doubles_no_message_to_a_bot(
    cluster: Cluster, api: TelegramApi, tokens: "itertools.chain[str]"
) -> None:
    async with people_writing(cluster, api, next(tokens), for_s=KAFKA_AWAY_S):
        await cluster.kafka.stop_immediate()
        await asyncio.sleep(KAFKA_AWAY_S)
        await cluster.kafka.restart()


@pytest.mark.parametrize("on_unknown", [HOLD, RESEND])
async def test_postgresql_restarted_at_once_loses_and_doubles_no_message_to_a_bot(
    cluster: Cluster, api: TelegramApi, tokens: "itertools.chain[str]", on_unknown: str
) -> None:
    async with people_writing(cluster, api, next(tokens), 4, on_unknown) as people:
        await cluster.postgres.stop_immediate()
        await cluster.postgres.restart()
        await people.note_in_flight()


@pytest.mark.parametrize(
    ("service", "on_unknown"), [("router", HOLD), ("channels", HOLD), ("channels", RESEND)]
)
async def test_consumers_frozen_past_their_session_lose_and_double_no_message_to_a_bot(
    cluster: Cluster,
    api: TelegramApi,
    tokens: "itertools.chain[str]",
    service: str,
    on_unknown: str,
) -> None:
    frozen = f"{service}-0"
    async with people_writing(cluster, api, next(tokens), PAST_SESSION_S, on_unknown) as people:
        cluster.freeze(frozen)
        await people.note_in_flight()
        await asyncio.sleep(PAST_SESSION_S)
        cluster.thaw(frozen)


async def test_nothing_crashed_on_the_way(cluster: Cluster) -> None:
    assert "call_crashed" not in cluster.output()
    assert "loop_failed" not in cluster.output()
    assert "bus_record_dead_lettered" not in cluster.output()
