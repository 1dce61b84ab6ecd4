"""The tables of the `channels` schema, as the migrations make them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from fased.store.tables.bus import outbox as outbox_table
from fased.store.tables.metadata import metadata
from fased.store.tables.owners import owner as owner_table

SCHEMA = "channels"
_now = func.public.fased_now()
_empty = text("''")

account = Table(
    "account",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("managed_by", Text, nullable=False, server_default=_empty),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("credential", Text, nullable=False, server_default=_empty),
    Column("mode", Text, nullable=False, server_default=text("'poll'")),
    Column("api_base", Text, nullable=False, server_default=_empty),
    Column("webhook_url", Text, nullable=False, server_default=_empty),
    Column("unknown_policy", Text, nullable=False, server_default=text("'hold'")),
    Column("connected", Boolean, nullable=False, server_default=text("false")),
    Column("bot_id", Text, nullable=False, server_default=_empty),
    Column("bot_username", Text, nullable=False, server_default=_empty),
    Column("bot_name", Text, nullable=False, server_default=_empty),
    Column("last_inbound_at", DateTime(timezone=True)),
    Column("last_error_reason", Text, nullable=False, server_default=_empty),
    Column("last_error", Text, nullable=False, server_default=_empty),
    Column("last_error_at", DateTime(timezone=True)),
    Column("probed_at", DateTime(timezone=True)),
    Column("probe_reason", Text, nullable=False, server_default=_empty),
    Column("probe_message", Text, nullable=False, server_default=_empty),
    schema=SCHEMA,
)

connection_lease = Table(
    "connection_lease",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("owner", Text, nullable=False, server_default=_empty),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("bot_id", Text, nullable=False, server_default=_empty),
    Column("next_update_id", BigInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["namespace", "channel", "account_id"],
        [account.c.namespace, account.c.channel, account.c.account_id],
        ondelete="CASCADE",
    ),
    schema=SCHEMA,
)

migrated_chat = Table(
    "migrated_chat",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("old_id", Text, primary_key=True),
    Column("new_id", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_now),
    Index("migrated_chat_new", "namespace", "channel", "account_id", "new_id"),
    schema=SCHEMA,
)

request = Table(
    "request",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("resource", Text, nullable=False),
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
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    Column("not_before", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("outbound", LargeBinary),
    Column("traceparent", Text, nullable=False, server_default=_empty),
    Index(
        "delivery_next",
        "namespace",
        "channel",
        "account_id",
        "peer_kind",
        "peer_id",
        "sequence",
        postgresql_where=text("state = 'pending'"),
    ),
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

delivery_lane = Table(
    "delivery_lane",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("peer_kind", Text, primary_key=True),
    Column("peer_id", Text, primary_key=True),
    Column("waiting", Integer, nullable=False),
    Column("next_at", DateTime(timezone=True), nullable=False),
    Column("owner", Text, nullable=False, server_default=_empty),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Index("delivery_lane_due", "namespace", "channel", "account_id", "next_at"),
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
    Column("plain", Text, nullable=False, server_default=_empty),
    Column("is_plain", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("unknowns", Integer, nullable=False, server_default=text("0")),
    schema=SCHEMA,
)

outbox = outbox_table(SCHEMA)

owner = owner_table(SCHEMA)
