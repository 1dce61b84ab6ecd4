"""The fixtures that every room of the tests shares. Decides none of their behaviour."""

from tests.support.kafka import kafka_bootstrap, own_kafka
from tests.support.kubernetes.apiserver import kubernetes, own_apiserver
from tests.support.postgres import database_url, migrated_template, postgres_dsn, private_postgres

__all__ = [
    "database_url",
    "kafka_bootstrap",
    "kubernetes",
    "migrated_template",
    "own_apiserver",
    "own_kafka",
    "postgres_dsn",
    "private_postgres",
]
