"""The tables of the `router` schema, as the migrations make them."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from fased.store.tables.bus import outbox as outbox_table
from fased.store.tables.metadata import metadata
from fased.store.tables.owners import owner as owner_table

SCHEMA = "router"
_now = func.public.fased_now()
_empty = text("''")

routing = Table(
    "routing",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("session", Text, nullable=False, server_default=text("'{}'")),
    Column("options", JSONB, nullable=False, server_default=text("'{}'")),
    Column("settings_managed_by", Text, nullable=False, server_default=_empty),
    schema=SCHEMA,
)

binding = Table(
    "binding",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("match", JSONB, nullable=False),
    Column("managed_by", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

session = Table(
    "session",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("session_key", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("title", Text, nullable=False, server_default=_empty),
    Column("base_key", Text, nullable=False, server_default=_empty),
    Column("active_key", Text, nullable=False, server_default=_empty),
    Column("channel", Text, nullable=False, server_default=_empty),
    Column("account_id", Text, nullable=False, server_default=_empty),
    Column("peer_id", Text, nullable=False, server_default=_empty),
    Column("model", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("last_message_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("closed_at", DateTime(timezone=True)),
    UniqueConstraint("namespace", "identity"),
    Index("session_recent", "namespace", "last_message_at", "session_key"),
    Index("session_base", "namespace", "base_key", postgresql_where=text("base_key <> ''::text")),
    schema=SCHEMA,
)

gate = Table(
    "gate",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("policy", JSONB, nullable=False),
    Column("managed_by", Text, nullable=False, server_default=_empty),
    schema=SCHEMA,
)

pairing = Table(
    "pairing",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("sender_id", Text, primary_key=True),
    Column("sender_name", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("namespace", "code"),
    schema=SCHEMA,
)

allowed_sender = Table(
    "allowed_sender",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("sender_id", Text, primary_key=True),
    Column("sender_name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

group_history = Table(
    "group_history",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("line", Text, nullable=False),
    Column("given_to", Text, nullable=False, server_default=_empty),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Index("group_history_received", "received_at"),
    schema=SCHEMA,
)

command_effect = Table(
    "command_effect",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("command_effect_at", "at"),
    schema=SCHEMA,
)

request = Table(
    "request",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("resource", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("request_at", "at"),
    schema=SCHEMA,
)

outbox = outbox_table(SCHEMA)

owner = owner_table(SCHEMA)
