"""The topics on the brokers, made by `fased migrate`. Decides their partitions, retention and
replicas.

What is there is kept: a topic may have more partitions and a longer retention than ours. Fewer
partitions are refused, since adding some would send a key to another partition, out of its order.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from fased.bus import kafka_access
from fased.bus.topics import Topic
from fased.core.errors import FailedPrecondition, PermissionDenied, Unavailable

DEADLINE_S = 60.0
REQUEST_TIMEOUT_MS = 20_000
RETRY_S = 0.3
_RETENTION = "retention.ms"
# `ConfigEntry.config_source`: set for this topic, not a default of the broker's.
_SET_ON_TOPIC = 1

logger = structlog.get_logger(__name__)


async def ensure_topics(
    bootstrap: str,
    topics: Sequence[Topic],
    *,
    replicas: int,
    security: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Make the topics that are missing, each partition on `replicas` brokers.

    `security` is of `kafka_security.py`. Raises FailedPrecondition for what a person must mend,
    PermissionDenied, Unavailable.
    """
    with kafka_access.translated():
        async with asyncio.timeout(DEADLINE_S):
            admin = AIOKafkaAdminClient(
                bootstrap_servers=bootstrap,
                client_id="fased-migrate",
                request_timeout_ms=REQUEST_TIMEOUT_MS,
                **security,
            )
            try:
                with kafka_access.connecting(bootstrap):
                    await admin.start()
                await _create(admin, topics, replicas)
                await _check_partitions(admin, topics)
                await _lengthen_retention(admin, topics)
            finally:
                await admin.close()


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replicas: int) -> None:
    there = set(await admin.list_topics())
    missing = [topic for topic in topics if topic.name not in there]
    if not missing:
        return
    response = await admin.create_topics([_new_topic(topic, replicas) for topic in missing])
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise _refused(name, error, replicas)
        logger.info("bus_topic_created", topic=name)


def _new_topic(topic: Topic, replicas: int) -> NewTopic:
    configs = {
        _RETENTION: _milliseconds(topic),
        # `published_at` is the bus's own time, whatever the publisher's clock says.
        "message.timestamp.type": "LogAppendTime",
        # With two copies of each record a broker can be lost; with all three asked for, none could.
        "min.insync.replicas": "2" if replicas > 2 else "1",
    }
    return NewTopic(topic.name, topic.partitions, replicas, topic_configs=configs)


def _refused(
    topic: str, error: type[Exception], replicas: int
) -> FailedPrecondition | PermissionDenied | Unavailable:
    metadata = {"topic": topic, "error": error.__name__}
    if error is InvalidReplicationFactorError:
        return FailedPrecondition(
            f"topic {topic} cannot have {replicas} replicas: there are fewer brokers;"
            " ask for fewer replicas or start more brokers",
            reason="REPLICAS_TOO_MANY",
            metadata=metadata,
        )
    if error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
        return PermissionDenied(
            f"the brokers do not let us create topic {topic}",
            reason="TOPIC_DENIED",
            metadata=metadata,
        )
    if getattr(error, "retriable", False):
        return Unavailable(
            f"topic {topic} could not be created now: {error.__name__}; try again",
            reason="BUS_UNAVAILABLE",
            metadata=metadata,
        )
    return FailedPrecondition(
        f"the brokers refuse topic {topic}: {error.__name__}",
        reason="TOPIC_REFUSED",
        metadata=metadata,
    )


async def _check_partitions(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Each topic has enough partitions, and each partition a leader; waits for both."""
    wanted = {topic.name: topic.partitions for topic in topics}
    while True:
        found = await admin.describe_topics(list(wanted))
        counts = {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if not topic["error_code"] and all(p["leader"] >= 0 for p in topic["partitions"])
        }
        for topic in found:
            error = for_code(topic["error_code"])
            if topic["error_code"] and not _may_pass(error):
                raise _refused(topic["topic"], error, 0)
        if counts.keys() == wanted.keys():
            break
        await asyncio.sleep(RETRY_S)
    for name, count in counts.items():
        if count < wanted[name]:
            raise FailedPrecondition(
                f"topic {name} has {count} partitions and needs {wanted[name]}: adding some would"
                " break the order of keys; let its readers finish, delete it, then migrate again",
                reason="TOPIC_PARTITIONS",
                metadata={"topic": name},
            )


def _may_pass(error: type[Exception]) -> bool:
    return bool(getattr(error, "retriable", False)) or error is UnknownTopicOrPartitionError


async def _lengthen_retention(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    wanted = {topic.name: topic for topic in topics}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    for response in await admin.describe_configs(resources):
        for code, _, _, name, entries in response.resources:
            if code:
                raise _refused(name, for_code(code), 0)
            values = {entry[0]: entry[1] for entry in entries}
            kept_ms = int(values[_RETENTION])
            if kept_ms < 0 or kept_ms >= int(_milliseconds(wanted[name])):
                continue
            # The request replaces all that is set on the topic, so it repeats the rest.
            own = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
            await _set(admin, name, {**own, _RETENTION: _milliseconds(wanted[name])})


async def _set(admin: AIOKafkaAdminClient, topic: str, configs: Mapping[str, str]) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))
    for response in await admin.alter_configs([resource]):
        for code, *_ in response.resources:
            if code:
                raise _refused(topic, for_code(code), 0)
    logger.info("bus_topic_retention_lengthened", topic=topic)


def _milliseconds(topic: Topic) -> str:
    return str(round(topic.retention.total_seconds() * 1000))
