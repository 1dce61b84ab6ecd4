"""`fased migrate`: makes a database's schemas and a broker's topics what this version needs.

Decides nothing about their shape (`fased/store/migrations`, `fased/bus/topics.py`).
"""

from fased.bus import topics
from fased.settings import KafkaSettings
from fased.store import migrate


async def run(database_url: str, kafka: KafkaSettings, kafka_replicas: int) -> None:
    """Make schemas, and topics where brokers are named; says what was done."""
    changed = await migrate.upgrade(database_url)
    head = migrate.head_revision()
    print(f"schemas are at {head}" if changed else f"schemas were at {head} already")
    if kafka.kafka_bootstrap:
        # Imported here: most machines have no Kafka, and its client is large.
        from fased.bus.kafka_security import security_options
        from fased.bus.kafka_topics import ensure_topics

        await ensure_topics(
            kafka.kafka_bootstrap,
            topics.ALL,
            replicas=kafka_replicas,
            security=security_options(kafka),
        )
        print(f"topics are there on {kafka.kafka_bootstrap}")
