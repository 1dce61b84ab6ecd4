"""History's partitions, one a UTC day: made ahead, dropped whole. Decides names and bounds."""

from datetime import UTC, date, datetime, timedelta

from fased.store.queue.lanes import Connection

_PREFIX = "run_history_"
# Two schedulers make partitions one after the other; the number is arbitrary.
_LOCK = 746_002

_TODAY = "SELECT (public.fased_now() AT TIME ZONE 'UTC')::date"

_EXISTING = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'scheduler.run_history'::regclass AND c.relname ~ '^run_history_[0-9]{8}$'
"""

# A row that ended outside every day went to the default partition: it moves before the attach.
_MAKE = """
LOCK TABLE scheduler.run_history_default IN ACCESS EXCLUSIVE MODE;
CREATE TABLE scheduler.{name} (LIKE scheduler.run_history INCLUDING DEFAULTS);
WITH moved AS (
  DELETE FROM scheduler.run_history_default
  WHERE ended_at >= '{begin}' AND ended_at < '{end}' RETURNING *
)
INSERT INTO scheduler.{name} SELECT * FROM moved;
ALTER TABLE scheduler.run_history ATTACH PARTITION scheduler.{name}
  FOR VALUES FROM ('{begin}') TO ('{end}');
"""

_DROP_STRAYS = """
DELETE FROM scheduler.run_history_default WHERE ended_at < public.fased_now() - $1::interval
"""


async def make_partitions(conn: Connection, days_ahead: int = 2) -> list[str]:
    """Make today's partition and those of the days ahead, as far as missing; answers with them."""
    made: list[str] = []
    today: date = await conn.fetchval(_TODAY)
    for offset in range(days_ahead + 1):
        day = today + timedelta(days=offset)
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if _name(day) not in await _existing(conn):
                await conn.execute(_make_statement(day))
                made.append(_name(day))
    return made


async def drop_partitions(conn: Connection, keep_days: int) -> list[str]:
    """Drop the partitions of days before the last `keep_days`; answers with their names."""
    today: date = await conn.fetchval(_TODAY)
    oldest = _name(today - timedelta(days=keep_days))
    dropped: list[str] = []
    for name in sorted(await _existing(conn)):
        if name < oldest:
            await conn.execute(f"DROP TABLE IF EXISTS scheduler.{name}")
            dropped.append(name)
    await conn.execute(_DROP_STRAYS, timedelta(days=keep_days + 1))
    return dropped


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _make_statement(day: date) -> str:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + timedelta(days=1)
    return _MAKE.format(name=_name(day), begin=begin.isoformat(), end=end.isoformat())


async def _existing(conn: Connection) -> set[str]:
    return {row["relname"] for row in await conn.fetch(_EXISTING)}
