"""The tables of the `policy` schema, as the migrations make them."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from fased.store.tables.metadata import metadata
from fased.store.tables.owners import owner as owner_table

SCHEMA = "policy"
_now = func.public.fased_now()

agent = Table(
    "agent",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("managed_by", Text, nullable=False, server_default=text("''")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

agent_revision = Table(
    "agent_revision",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("definition", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

model_provider = Table(
    "model_provider",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text(collation="C"), primary_key=True),
    Column("definition", JSONB, nullable=False),
    Column("managed_by", Text, nullable=False, server_default=text("''")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

namespace_default = Table(
    "namespace_default",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("model", Text, nullable=False, server_default=text("''")),
    Column("managed_by", Text, nullable=False, server_default=text("''")),
    schema=SCHEMA,
)

request = Table(
    "request",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("resource", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

token = Table(
    "token",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("role", SmallInteger, nullable=False),
    Column("namespaces", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    schema=SCHEMA,
)

owner = owner_table(SCHEMA)
