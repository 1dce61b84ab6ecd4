"""How `fased migrate` makes the topics, over a real broker."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from fased.bus import kafka_topics
from fased.bus.topics import Topic
from fased.core.errors import FailedPrecondition, Unavailable


@pytest.fixture
def topic() -> Topic:
    return Topic(f"test.{uuid4()}", 3, timedelta(days=7))


@asynccontextmanager
async def admin_of(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def configs(admin: AIOKafkaAdminClient, topic: str) -> Mapping[str, str]:
    [response] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [(_, _, _, _, entries)] = response.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_a_topic_is_made_as_it_is_described(kafka_bootstrap: str, topic: Topic) -> None:
    await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
    async with admin_of(kafka_bootstrap) as admin:
        [found] = await admin.describe_topics([topic.name])
        assert len(found["partitions"]) == topic.partitions
        made = await configs(admin, topic.name)
    assert made["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert made["message.timestamp.type"] == "LogAppendTime"


async def test_making_topics_again_changes_nothing(kafka_bootstrap: str, topic: Topic) -> None:
    async with admin_of(kafka_bootstrap) as admin:
        await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
        before = await configs(admin, topic.name)
        await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
        assert await configs(admin, topic.name) == before


async def test_a_retention_that_is_too_short_is_lengthened_and_the_rest_is_kept(
    kafka_bootstrap: str, topic: Topic
) -> None:
    async with admin_of(kafka_bootstrap) as admin:
        own = {"retention.ms": "1000", "segment.ms": "123456"}
        await admin.create_topics([NewTopic(topic.name, 3, 1, topic_configs=own)])
        await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
        found = await configs(admin, topic.name)
    assert (found["retention.ms"], found["segment.ms"]) == (str(7 * 24 * 3600 * 1000), "123456")


@pytest.mark.parametrize("longer", ["-1", str(30 * 24 * 3600 * 1000)])
async def test_more_partitions_and_a_longer_retention_than_ours_are_kept(
    kafka_bootstrap: str, topic: Topic, longer: str
) -> None:
    async with admin_of(kafka_bootstrap) as admin:
        own = {"retention.ms": longer}
        await admin.create_topics([NewTopic(topic.name, 5, 1, topic_configs=own)])
        await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
        [found] = await admin.describe_topics([topic.name])
        assert len(found["partitions"]) == 5
        assert (await configs(admin, topic.name))["retention.ms"] == longer


async def test_too_few_partitions_are_refused_since_keys_would_move(
    kafka_bootstrap: str, topic: Topic
) -> None:
    async with admin_of(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(topic.name, 2, 1)])
        with pytest.raises(FailedPrecondition) as caught:
            await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=1)
    assert caught.value.reason == "TOPIC_PARTITIONS"
    assert caught.value.metadata["topic"] == topic.name
    assert "2 partitions and needs 3" in caught.value.message


async def test_more_replicas_than_brokers_are_refused_in_words(
    kafka_bootstrap: str, topic: Topic
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await kafka_topics.ensure_topics(kafka_bootstrap, [topic], replicas=100)
    assert caught.value.reason == "REPLICAS_TOO_MANY"
    assert "100 replicas" in caught.value.message


async def test_brokers_that_are_not_there_are_unavailable(topic: Topic) -> None:
    with pytest.raises(Unavailable) as caught:
        await kafka_topics.ensure_topics("127.0.0.1:1", [topic], replicas=1)
    assert caught.value.reason == "BUS_UNAVAILABLE"
