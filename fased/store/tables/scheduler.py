"""The tables of the `scheduler` schema, as the migrations make them. Decides no query."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, UUID

from fased.store.tables.bus import outbox as outbox_table
from fased.store.tables.metadata import metadata
from fased.store.tables.owners import owner as owner_table

SCHEMA = "scheduler"
_NOW = text("public.fased_now()")
_EMPTY_TEXT = text("''::text")
_EMPTY_JSON = text("'{}'::json")
_EMPTY_JSONB = text("'{}'::jsonb")
_ZERO = text("0")
_FALSE = text("false")
_AT = DateTime(timezone=True)
_NAME = Text(collation="C")

lane = Table(
    "lane",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("touched_at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

run = Table(
    "run",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("lane_key", BigInteger, nullable=False),
    Column("lane_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default=_ZERO),
    Column("run_for", Interval, nullable=False),
    Column("time_left", Interval, nullable=False),
    Column("created_at", _AT, nullable=False),
    Column("run_at", _AT, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    Column("crashes", Integer, nullable=False, server_default=_ZERO),
    Column("wake_seq", Integer, nullable=False, server_default=_ZERO),
    Column("class", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("cancel", Boolean, nullable=False, server_default=_FALSE),
    Column("resumed", Boolean, nullable=False, server_default=_FALSE),
    Column("has_children", Boolean, nullable=False, server_default=_FALSE),
    Column("namespace", _NAME, nullable=False),
    Column("lane", _NAME),
    Column("session_key", _NAME, nullable=False),
    Column("last_reason", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("leased_at", _AT),
    Column("deadline_at", _AT),
    Column("wake_at", _AT),
    Column("worker", UUID),
    Column("parent_run", BigInteger),
    Column("task_id", UUID),
    Column("body", JSON),
    schema=SCHEMA,
)

run_payload = Table(
    "run_payload",
    metadata,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("body", JSON, nullable=False),
    schema=SCHEMA,
)

enqueue_key = Table(
    "enqueue_key",
    metadata,
    Column("namespace", _NAME, primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("run_ids", ARRAY(BigInteger), nullable=False),
    Column("created_at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

worker = Table(
    "worker",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("expires_at", _AT, nullable=False),
    Column("heartbeat_at", _AT, nullable=False),
    Column("providers", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    schema=SCHEMA,
)

claim = Table(
    "claim",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("worker", UUID, nullable=False),
    Column("run_ids", ARRAY(BigInteger), nullable=False),
    Column("claimed_at", _AT, nullable=False),
    Column("first_deadline", _AT, nullable=False),
    schema=SCHEMA,
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("step", _NAME, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("created_at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

run_history = Table(
    "run_history",
    metadata,
    Column("id", BigInteger, nullable=False),
    Column("namespace", _NAME, nullable=False),
    Column("lane", _NAME),
    Column("class", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    Column("crashes", Integer, nullable=False, server_default=_ZERO),
    Column("epoch", BigInteger, nullable=False, server_default=_ZERO),
    Column("parent_run", BigInteger),
    Column("task_id", UUID),
    Column("worker", UUID),
    Column("session_key", _NAME, nullable=False),
    Column("last_reason", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("run_for", Interval, nullable=False),
    Column("created_at", _AT, nullable=False),
    Column("run_at", _AT, nullable=False),
    Column("leased_at", _AT),
    Column("ended_at", _AT, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("deliver", Boolean, nullable=False, server_default=_FALSE),
    Column("slot_count", BigInteger, nullable=False, server_default=_ZERO),
    Column("first_slot", _AT),
    Column("last_slot", _AT),
    Column("body", JSON, nullable=False),
    Column("result", JSON, nullable=False, server_default=_EMPTY_JSON),
    schema=SCHEMA,
    postgresql_partition_by="RANGE (ended_at)",
)

run_delivery = Table(
    "run_delivery",
    metadata,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("delivery_id", Text, primary_key=True),
    Column("namespace", _NAME, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

outbox = outbox_table(SCHEMA)

task = Table(
    "task",
    metadata,
    Column("namespace", _NAME, nullable=False),
    Column("id", UUID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("session_key", _NAME, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("message", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("setup_target", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    Column("managed_by", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("zone_data", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("request_id", Text),
    Column("created_at", _AT, nullable=False, server_default=_NOW),
    Column("updated_at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

task_due = Table(
    "task_due",
    metadata,
    Column("task_id", UUID, primary_key=True),
    Column("gen", BigInteger, nullable=False),
    Column("namespace", _NAME, nullable=False),
    Column("next_at", _AT),
    Column("last_slot", _AT, nullable=False, server_default=text("'-infinity'::timestamptz")),
    schema=SCHEMA,
)

task_stats = Table(
    "task_stats",
    metadata,
    Column("task_id", UUID, primary_key=True),
    Column("namespace", _NAME, nullable=False),
    Column("last_run_id", BigInteger),
    Column("last_outcome", Text, nullable=False, server_default=_EMPTY_TEXT),
    Column("last_ended_at", _AT),
    Column("failures_in_row", Integer, nullable=False, server_default=_ZERO),
    Column("runs_total", BigInteger, nullable=False, server_default=_ZERO),
    Column("successes_total", BigInteger, nullable=False, server_default=_ZERO),
    schema=SCHEMA,
)

answer = Table(
    "answer",
    metadata,
    Column("namespace", _NAME, primary_key=True),
    Column("request_id", _NAME, primary_key=True),
    Column("value", LargeBinary, nullable=False, server_default=text("''::bytea")),
    Column("at", _AT, nullable=False, server_default=_NOW),
    schema=SCHEMA,
)

owner = owner_table(SCHEMA)
