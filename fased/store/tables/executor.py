"""The tables of the `executor` schema, as the migrations make them."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Table, Text, func

from fased.store.tables.metadata import metadata

SCHEMA = "executor"

transcript = Table(
    "transcript",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("step", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("session_key", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.public.fased_now(),
    ),
    Index("transcript_key_sequence", "namespace", "session_key", "sequence", unique=True),
    Index("transcript_session_sequence", "namespace", "session_key", "session_id", "sequence"),
    schema=SCHEMA,
)

transcript_counter = Table(
    "transcript_counter",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("session_key", Text, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    schema=SCHEMA,
)

undelivered_run = Table(
    "undelivered_run",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    schema=SCHEMA,
)
