"""Tables of the `bus` schema, and the shape of every service's outbox. Decides names and types."""

from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    BigInteger,
    Column,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from fased.store.tables.metadata import metadata

_NOW = text("public.fased_now()")

partition = Table(
    "partition",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False, server_default=text("0")),
    schema="bus",
)

record = Table(
    "record",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("published_at", TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    schema="bus",
)

member = Table(
    "member",
    metadata,
    Column("consumer_group", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("topics", ARRAY(Text), nullable=False),
    Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
    schema="bus",
)

consumer_offset = Table(
    "consumer_offset",
    metadata,
    Column("consumer_group", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False, server_default=text("0")),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("owner", Uuid),
    schema="bus",
)


def outbox(schema: str) -> Table:
    """The outbox of the service that owns `schema`; call it once a schema."""
    return Table(
        "outbox",
        metadata,
        Column("shard", SmallInteger, primary_key=True, autoincrement=False),
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("events", Integer, nullable=False),
        Column("packed", LargeBinary, nullable=False),
        Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        schema=schema,
    )
