"""The tables of the `channels` schema, as the migrations make them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from fased.store.tables.bus import outbox as outbox_table
from fased.store.tables.metadata import metadata

SCHEMA = "channels"
_now = func.public.fased_now()
_empty = text("''")

account = Table(
    "account",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("credential", Text, nullable=False, server_default=_empty),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("managed_by", Text, nullable=False, server_default=_empty),
    Column("last_error", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

conversation = Table(
    "conversation",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("session_key", Text, nullable=False),
    Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    schema=SCHEMA,
)

post = Table(
    "post",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("conversation_id", Uuid, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("post_created", "namespace", "created_at"),
    schema=SCHEMA,
)

conversation_event = Table(
    "conversation_event",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("conversation_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("text", Text, nullable=False, server_default=_empty),
    Column("message_kind", Text),
    Column("post_state", Text),
    Column("post_id", Text, nullable=False, server_default=_empty),
    Column("agent_id", Text, nullable=False, server_default=_empty),
    Column("run_id", BigInteger),
    Column("reply_to_id", Text, nullable=False, server_default=_empty),
    Column("sender_id", Text, nullable=False, server_default=_empty),
    Column("sender_name", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index(
        "conversation_event_message",
        "namespace",
        "conversation_id",
        "message_id",
        postgresql_where=text("kind <> 'state'"),
    ),
    schema=SCHEMA,
)

delivery = Table(
    "delivery",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("peer_kind", Text, nullable=False),
    Column("peer_id", Text, nullable=False),
    Column("thread_kind", Text),
    Column("thread_id", Text, nullable=False, server_default=_empty),
    Column("reply_to_id", Text, nullable=False, server_default=_empty),
    Column("run_id", BigInteger),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=_empty),
    Column("message", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("delivery_created", "namespace", "created_at", "id"),
    Index(
        "delivery_unsent",
        "namespace",
        "state",
        "created_at",
        "id",
        postgresql_where=text("state <> 'sent'"),
    ),
    Index(
        "delivery_account",
        "namespace",
        "channel",
        "account_id",
        "updated_at",
        postgresql_where=text("state = 'sent'"),
    ),
    schema=SCHEMA,
)

delivery_chunk = Table(
    "delivery_chunk",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("delivery_id", Uuid, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("text", Text, nullable=False, server_default=_empty),
    Column("receipt", Text, nullable=False, server_default=_empty),
    schema=SCHEMA,
)

outbox = outbox_table(SCHEMA)
