"""What the channels forget in time, and what they keep however old it is."""

from collections.abc import Sequence
from datetime import timedelta

from fased.process import Host
from services.channels import retention
from services.channels.settings import ChannelsSettings
from tests.support.webchat import answer, open_webchat

DELIVERIES = ("delivery", "delivery_chunk")
CONVERSATIONS = ("conversation", "post", "conversation_event")
SETTINGS = ChannelsSettings(delivery_days=30, conversation_days=60)


async def counts(host: Host, tables: Sequence[str]) -> list[int]:
    async with host.database.queue.acquire() as conn:
        return [await conn.fetchval(f"SELECT count(*) FROM channels.{each}") for each in tables]


async def age(host: Host, days: int, *tables: str) -> None:
    async with host.database.queue.acquire() as conn:
        for table in tables:
            await conn.execute(
                f"UPDATE channels.{table} SET created_at = created_at - $1::interval",
                timedelta(days=days),
            )


async def test_deliveries_that_ended_go_with_their_chunks_and_those_that_wait_stay(
    database_url: str,
) -> None:
    async with open_webchat(database_url) as webchat:
        host = webchat.running.host
        conversation = await webchat.open()
        await webchat.publish(answer(conversation, "one"), answer(conversation, "two"))
        await webchat.until(conversation, 2)
        await age(host, 29, "delivery")
        await retention.forget(host, SETTINGS)
        assert await counts(host, DELIVERIES) == [2, 2]
        async with host.database.queue.acquire() as conn:
            await conn.execute(
                """UPDATE channels.delivery SET state = 'pending'
                    WHERE id = (SELECT id FROM channels.delivery LIMIT 1)"""
            )
        await age(host, 2, "delivery")
        await retention.forget(host, SETTINGS)
        assert await counts(host, DELIVERIES) == [1, 1]


async def test_a_conversation_goes_as_a_whole_once_nothing_happens_in_it(
    database_url: str,
) -> None:
    async with open_webchat(database_url) as webchat:
        host = webchat.running.host
        conversation = await webchat.open()
        await webchat.post(conversation, "m-1", "hello")
        await age(host, 61, "conversation")
        await retention.forget(host, SETTINGS)
        assert await counts(host, CONVERSATIONS) == [1, 1, 1]
        await age(host, 61, "post", "conversation_event")
        await retention.forget(host, ChannelsSettings())
        assert await counts(host, CONVERSATIONS) == [1, 1, 1]
        await retention.forget(host, SETTINGS)
        assert await counts(host, CONVERSATIONS) == [0, 0, 0]
