"""The plans of the queue's statements with 100,000 live and 100,000 ended runs (law 14).

Read three times: with the statistics of an empty table, with those of the full one, and as the
generic plan that a prepared statement ends up with.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from fased.store.queue import (
    cancel,
    checkpoints,
    claim,
    delay,
    ends,
    enqueue,
    finish,
    history,
    lanes,
    leases,
    park,
    recover,
    retry,
    workers,
)
from tests.support.queues import connection

BATCH = 500
GROWING = re.compile(r"run|run_history.*|enqueue_key|lane|checkpoint|run_payload")
_ONLY = {"columns": history._LIVE_COLUMNS}

_FILL = """
INSERT INTO scheduler.lane (key, id, seq)
SELECT key, key, 10
FROM generate_series(1, 50000) n, LATERAL (SELECT ((n % 5)::bigint << 48) + n AS key) l;
INSERT INTO scheduler.run (id, lane_key, lane_id, namespace, lane, seq, class, state, session_key,
  task_id, run_for, time_left, created_at, run_at, worker, deadline_at, wake_at, epoch, body)
SELECT n, key, key, 'ns' || n % 5, 'l' || n % 50000, n, n % 4,
  CASE WHEN n > 50000 THEN CASE WHEN n % 10 = 0 THEN 4 ELSE 0 END
    WHEN n % 40 = 0 THEN 2 WHEN n % 21 = 0 THEN 3 ELSE 1 END,
  'agent:main:' || n % 1000, CASE WHEN n % 50 = 0 THEN gen_random_uuid() END, '10 min', '10 min',
  now(), now(),
  CASE WHEN n <= 50000 AND n % 20 = 0 THEN '00000000-0000-0000-0000-000000000001'::uuid END,
  now() + n % 600 * interval '1 s', now() + n % 600 * interval '1 s', n, '{"agent_id": "main"}'
FROM generate_series(1, 100000) n,
  LATERAL (SELECT ((n % 5)::bigint << 48) + n % 50000 AS key) l;
INSERT INTO scheduler.claim (worker, run_ids, claimed_at, first_deadline)
SELECT worker, array_agg(id), now() - interval '1 min', min(deadline_at) FROM scheduler.run
WHERE worker IS NOT NULL GROUP BY worker, id / 500;
INSERT INTO scheduler.run_history (id, namespace, lane, class, session_key, task_id, run_for,
  created_at, run_at, ended_at, outcome, body)
SELECT n, 'ns' || n % 5, 'l' || n % 50000, n % 4, 'agent:main:' || n % 1000,
  CASE WHEN n % 50 = 0 THEN gen_random_uuid() END, '10 min', now(), now(),
  now() - n * interval '1 s', 'succeeded', '{"agent_id": "main"}'
FROM generate_series(200001, 300000) n;
INSERT INTO scheduler.enqueue_key (namespace, key, run_ids)
SELECT 'ns' || n % 5, 'k' || n, ARRAY[n] FROM generate_series(1, 100000) n;
INSERT INTO scheduler.checkpoint (run_id, step, value)
SELECT n, 'plan', '1' FROM generate_series(1, 100000) n;
INSERT INTO scheduler.run_payload (run_id, body)
SELECT n, '{"agent_id": "main"}' FROM generate_series(1, 20000) n;
"""

IDS = list(range(1, BATCH + 1))
NAMES = [f"ns{n % 5}" for n in IDS]
KEYS = [f"k{n}" for n in IDS]
LANES = [((n % 5) << 48) + n for n in IDS]
ID, TASK = uuid4(), uuid4()
AT = datetime.now(UTC) - timedelta(days=3)
NOTHING = "{}"

# A sweep over a class of passing rows may read all of them, so only the hot ones stand here.
STATEMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "advance": (lanes._ADVANCE, (LANES, IDS)),
    "lock": (lanes._LOCK_FAMILIES, (IDS,)),
    "lock one": (lanes._LOCK_FAMILIES, ([7],)),
    "promote": (lanes._PROMOTE, (LANES,)),
    "promote next": (lanes._PROMOTE_NEXT, (LANES, IDS)),
    "hand over": (claim._HAND_OVER, (ID, LANES, IDS, [n % 4 for n in IDS])),
    "occupied": (enqueue._OCCUPIED, (LANES,)),
    "mark parents": (enqueue._MARK_PARENTS, (IDS,)),
    "known": (enqueue._KNOWN, (NAMES, KEYS)),
    "parents": (enqueue._PARENTS, (IDS,)),
    "behind parked": (enqueue._BEHIND_PARKED, (IDS,)),
    "ready": (claim._READY, (ID, timedelta(seconds=15), [], BATCH)),
    "claim": (claim._CLAIM, (ID, [0, 3], ["ns0", "ns1"], [1, 1], [100, 400])),
    "checkpoints": (checkpoints._OF_RUNS, (IDS,)),
    "put": (checkpoints._PUT, (IDS, IDS, ["plan"] * BATCH, [NOTHING] * BATCH)),
    "earlier": (checkpoints._GET, (IDS, ["plan"] * BATCH)),
    "end": (
        ends._END,
        (IDS, IDS, ["failed"] * BATCH, [NOTHING] * BATCH, [False] * BATCH, NOTHING, False, True),
    ),
    "children": (ends._CHILDREN, (IDS,)),
    "wake parents": (ends._WAKE_PARENTS, (IDS,)),
    "flagged": (ends._FLAGGED, (IDS, IDS)),
    "recorded": (finish._RECORDED, (IDS[:3],)),
    "release": (finish._RELEASE_FREE, (IDS, IDS)),
    "park": (park._PARK, (7, 7, 0, None)),
    "expired": (park._EXPIRED, (BATCH,)),
    "reschedule": (delay._RESCHEDULE, (7, 7, None, "X")),
    "due": (delay._DUE, (BATCH,)),
    "return": (delay._RETURN, (IDS, IDS)),
    "recover": (recover._RECOVER, (BATCH,)),
    "past deadline": (recover._PAST_DEADLINE, (BATCH,)),
    "settle": (leases._SETTLE, (timedelta(seconds=1), BATCH)),
    "forget": (leases._FORGET, (timedelta(seconds=1), BATCH)),
    "heartbeat": (workers._HELD, (ID, timedelta(seconds=5))),
    "cancel session": (cancel._OF_SESSION, ("ns1", "agent:main:6", LANES[5])),
    "cancel tasks": (cancel._OF_TASKS, ("ns1", [TASK])),
    "retry": (retry._TAKE, (200_007, "ns2")),
    "get live": (history._GET_LIVE, (7, "ns2")),
    "get ended": (history._GET_ENDED, (200_007, "ns2")),
    "live page": (
        history._LIVE_PAGE.format(only=history._ANY, **_ONLY),
        ("ns1", None, 90_000, 50),
    ),
    "live page of a task": (
        history._LIVE_PAGE.format(only=history._BY_TASK, **_ONLY),
        ("ns1", TASK, 90_000, 50),
    ),
    "live page of a session": (
        history._LIVE_PAGE.format(only=history._LIVE_BY_SESSION, **_ONLY),
        ("ns1", "agent:main:6", 90_000, 50, LANES[5]),
    ),
    "ended page": (
        history._ENDED_PAGE.format(only=history._ANY),
        ("ns1", None, AT, 250_000, 50),
    ),
    "ended page of a session": (
        history._ENDED_PAGE.format(only=history._ENDED_BY_SESSION),
        ("ns1", "agent:main:6", AT, 250_000, 50),
    ),
    "status": (history._STATUS, ("ns1", 1 << 48, (2 << 48) - 1)),
}


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Any]:
    opened = await connection(database_url)
    yield opened
    await opened.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def bad_scans(plan: dict[str, Any]) -> list[str]:
    """Sequential scans of tables that grow."""
    return [
        f"{node['Node Type']} on {node['Relation Name']}"
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and GROWING.fullmatch(node["Relation Name"])
    ]


async def plan_of(conn: Any, sql: str, args: tuple[Any, ...]) -> dict[str, Any]:
    prepared = await conn.prepare(sql)
    plan: dict[str, Any] = (await prepared.explain(*args))[0]["Plan"]
    return plan


async def generic_plan_of(conn: Any, sql: str, args: tuple[Any, ...]) -> dict[str, Any]:
    await conn.execute("SET plan_cache_mode = force_generic_plan")
    await conn.execute(f"PREPARE generic AS {sql}")
    values = f"({', '.join('NULL' for _ in args)})" if args else ""
    text = await conn.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE generic{values}")
    await conn.execute("DEALLOCATE generic")
    await conn.execute("RESET plan_cache_mode")
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


async def test_no_hot_statement_reads_a_growing_table_whole(conn: Any) -> None:
    await conn.execute("ANALYZE")
    await conn.execute(_FILL)
    found: list[str] = []
    for statistics in ("of the empty table", "of the full table"):
        for name, (sql, args) in STATEMENTS.items():
            for kind, explain in (("custom", plan_of), ("generic", generic_plan_of)):
                plan = await explain(conn, sql, args)
                found += [f"{name}, {kind}, {statistics}: {bad}" for bad in bad_scans(plan)]
        await conn.execute("ANALYZE")

    assert not found, "\n".join(found)


async def test_complete_reaches_its_rows_by_primary_key(conn: Any) -> None:
    await conn.execute(_FILL)
    await conn.execute("ANALYZE")
    for explain in (plan_of, generic_plan_of):
        plan = await explain(conn, *STATEMENTS["end"])
        [delete] = [node for node in nodes(plan) if node.get("Operation") == "Delete"]
        scans = [node for node in nodes(delete) if node.get("Alias") == delete["Alias"]]
        assert [scan.get("Index Name") for scan in scans[1:]] == ["run_pkey"]


async def test_an_end_locks_its_lanes_before_it_deletes(conn: Any) -> None:
    await conn.execute(_FILL)
    await conn.execute("ANALYZE")
    for explain in (plan_of, generic_plan_of):
        plan = await explain(conn, *STATEMENTS["end"])
        [delete] = [node for node in nodes(plan) if node.get("Operation") == "Delete"]
        [lock] = [node for node in nodes(plan) if node["Node Type"] == "LockRows"]
        [gate] = [node for node in delete["Plans"] if "One-Time Filter" in node]

        [locked] = [node for node in lock["Plans"] if node["Parent Relationship"] == "Outer"]
        assert locked.get("Index Name") == "lane_pkey" or locked["Node Type"] == "Sort"
        assert gate["Node Type"] == "Result"


async def test_pages_of_history_are_read_in_order_by_index(conn: Any) -> None:
    await conn.execute(_FILL)
    await conn.execute("ANALYZE")
    now = await conn.fetchval("SELECT now()")
    for only, value in (
        (history._ANY, None),
        (history._BY_TASK, TASK),
        (history._BY_SESSION, "agent:main:6"),
    ):
        plan = await plan_of(
            conn, history._ENDED_PAGE.format(only=only), ("ns1", value, now, 300_000, 50)
        )
        kinds = [node["Node Type"] for node in nodes(plan)]
        assert "Seq Scan" not in kinds
        assert "Sort" not in kinds or only != history._ANY
