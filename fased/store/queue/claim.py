"""Gives ready runs to workers. Decides nothing: the shares are `core.queue.claim_quotas`."""

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from uuid import UUID

from fased.core import queue
from fased.core.errors import FailedPrecondition
from fased.core.names import Namespace
from fased.core.queue import LeasedRun, Source
from fased.core.runs import RunClass
from fased.store.queue import checkpoints, rows
from fased.store.queue.lanes import Connection, LeftLane

# A worker is known from its first claim; then each class and namespace is read once, by index.
# Which runs are oldest matters between several only. Rows are compared whole, and ordered by all of
# run_ready: told to order by id alone, the planner may read the primary key instead.
_READY = """
WITH RECURSIVE made AS (
  INSERT INTO scheduler.worker (id, expires_at, heartbeat_at, providers)
  VALUES ($1, public.fased_now() + $2, public.fased_now(), $3) ON CONFLICT (id) DO NOTHING
), source AS (
  (SELECT class, namespace, id AS first FROM scheduler.run WHERE state = 1 AND worker IS NULL
   ORDER BY class, namespace, id LIMIT 1)
  UNION ALL
  SELECT n.class, n.namespace, n.id FROM source s, LATERAL (
    SELECT class, namespace, id FROM scheduler.run r
    WHERE r.state = 1 AND r.worker IS NULL AND (r.class, r.namespace) > (s.class, s.namespace)
    ORDER BY r.class, r.namespace, r.id LIMIT 1) n
)
SELECT class, namespace, first, CASE WHEN (SELECT count(*) FROM source) > 1 THEN ARRAY(
  SELECT r.id FROM scheduler.run r
  WHERE r.state = 1 AND r.worker IS NULL
    AND (r.class, r.namespace, r.id) >= (source.class, source.namespace, source.first)
    AND (r.class, r.namespace) <= (source.class, source.namespace)
  ORDER BY r.class, r.namespace, r.id LIMIT $4) END AS ids
FROM source
"""

_LEASE = """worker = $1, epoch = nextval('scheduler.lease_epoch'),
  leased_at = (SELECT public.fased_now()),
  deadline_at = (SELECT public.fased_now()) + time_left"""

# What `_leased_runs` reads, in its order.
_LEASED = """class, id, namespace, epoch, task_id, attempts, wake_seq, leased_at, deadline_at,
  coalesce(body, (SELECT p.body FROM scheduler.run_payload p WHERE p.run_id = run.id)) AS body,
  resumed"""

# A claim's row: its runs, the first of their deadlines, and whence both are known.
_LIST = """INSERT INTO scheduler.claim (worker, run_ids, claimed_at, first_deadline)
  SELECT $1, array_agg(id), public.fased_now(), {} HAVING count(*) > 0"""

# MATERIALIZED keeps the LIMIT where it is. It begins at the first run found ready: before it lie
# those that are leased, and the dead entries of those that are gone. A row that is locked stays at
# its place, its ctid; changed in no column of an index, it stays on its page too.
_CLAIM = f"""
WITH picked AS MATERIALIZED (
  SELECT r.* FROM unnest($2::smallint[], $3::text[], $4::bigint[], $5::int[])
    q(class, namespace, first, quota),
  LATERAL (
    SELECT ctid, id, time_left FROM scheduler.run
    WHERE state = 1 AND worker IS NULL
      AND (class, namespace, id) >= (q.class, q.namespace, q.first)
      AND (class, namespace) <= (q.class, q.namespace)
    ORDER BY class, namespace, id LIMIT q.quota FOR NO KEY UPDATE SKIP LOCKED) r
  WHERE EXISTS (
    SELECT 1 FROM scheduler.worker WHERE id = $1 AND expires_at > public.fased_now())
), listed AS (
  {_LIST.format("public.fased_now() + min(time_left) FROM picked")}
)
UPDATE scheduler.run SET {_LEASE}
WHERE ctid = ANY(ARRAY(SELECT ctid FROM picked))
RETURNING {_LEASED}
"""

# The next of a lane goes to the worker that ended its head, where nobody waits to be claimed and it
# is of the class whose place came free. Made ready in between, it would be written twice.
_HAND_OVER = f"""
WITH handed AS (
  UPDATE scheduler.run SET state = 2, {_LEASE}
  WHERE ctid = ANY(ARRAY(
      SELECT (
        SELECT CASE WHEN w.class = t.class THEN w.ctid END FROM scheduler.run w
        WHERE w.lane_id = t.id AND w.state = 0 AND w.seq > t.seq ORDER BY w.seq LIMIT 1)
      FROM unnest($2::bigint[], $3::bigint[], $4::smallint[]) t(id, seq, class)))
    AND (SELECT id FROM scheduler.worker WHERE id = $1 AND expires_at > public.fased_now())
      IS NOT NULL
    AND (SELECT id FROM scheduler.run WHERE state = 1 AND worker IS NULL
      ORDER BY class, namespace, id LIMIT 1) IS NULL
  RETURNING {_LEASED}, lane_id
), listed AS (
  {_LIST.format("min(deadline_at) FROM handed")}
)
SELECT * FROM handed
"""

# The most urgent first: by class, then by age.
_ORDER = itemgetter(0, 1)

_LEASE_ENDED = "SELECT expires_at = '-infinity' FROM scheduler.worker WHERE id = $1"


async def claim(
    conn: Connection,
    worker_id: UUID,
    max_runs: int,
    message_only: int,
    lease_for: timedelta,
    providers: Sequence[str],
) -> list[LeasedRun]:
    """Lease up to `max_runs` ready runs to a worker, the most urgent first.

    The worker's first claim makes it known, with a lease of `lease_for`; later ones do not
    lengthen it. A worker whose lease ran out, and is not ended yet, gets nothing until its
    heartbeat. Each statement is whole in itself, so it needs no transaction. Raises
    FailedPrecondition LEASE_LOST when the worker was given up.
    """
    found = await conn.fetch(_READY, worker_id, lease_for, list(providers), max_runs)
    if not found:
        return []
    ready = {_source(row): row["ids"] or range(max_runs) for row in found}
    first = {_source(row): row["first"] for row in found}
    order = random.sample(list(ready), len(ready))
    quotas = queue.claim_quotas(ready, max_runs, message_only, random.random(), order)
    leased = await conn.fetch(_CLAIM, worker_id, *_columns(quotas, first))
    if not leased and await conn.fetchval(_LEASE_ENDED, worker_id):
        raise lease_lost()
    return await _leased_runs(conn, leased)


async def hand_over(
    conn: Connection, worker_id: UUID, left: Mapping[int, LeftLane]
) -> tuple[list[LeasedRun], set[int]]:
    """Lease the next runs of lanes whose heads this worker has ended; the lanes must be held.

    `left` has the lanes by id. Answers with the runs, and with the lanes they lead now; none where
    a run of any lane is ready, since that one comes first, or where the worker's lease ran out.
    """
    leased = await conn.fetch(
        _HAND_OVER,
        worker_id,
        list(left),
        [lane.seq for lane in left.values()],
        [lane.run_class for lane in left.values()],
    )
    return await _leased_runs(conn, [row[:-1] for row in leased]), {row[-1] for row in leased}


def lease_lost() -> FailedPrecondition:
    """The error of a worker that was given up."""
    return FailedPrecondition(
        "the worker's lease was ended; stop everything and take a new worker id",
        reason="LEASE_LOST",
        metadata={"field": "worker_id"},
    )


def _source(row: rows.Row) -> Source:
    return RunClass(row["class"]), Namespace(row["namespace"])


def _columns(
    quotas: dict[Source, int], first: dict[Source, int]
) -> tuple[list[int], list[str], list[int], list[int]]:
    return (
        [int(run_class) for run_class, _ in quotas],
        [namespace for _, namespace in quotas],
        [first[source] for source in quotas],
        list(quotas.values()),
    )


async def _leased_runs(conn: Connection, leased: Sequence[rows.Row]) -> list[LeasedRun]:
    """Rows as core values; only a run that was held before is asked for checkpoints."""
    kept = await checkpoints.list_of(conn, [run_id for _, run_id, *_, resumed in leased if resumed])
    return [
        LeasedRun(run_id, namespace, epoch, rows.RUN_CLASSES[run_class], rows.run_body(body),
                  rows.task_id(task_id), attempts, wake_seq, leased_at, deadline_at,
                  kept.get(run_id, ()))
        for run_class, run_id, namespace, epoch, task_id, attempts, wake_seq, leased_at,
            deadline_at, body, _ in sorted(leased, key=_ORDER)
    ]  # fmt: skip
