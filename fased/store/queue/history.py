"""Runs as people read them: one, a page, counts. Reads only; every list goes by an index."""

from uuid import UUID

from fased.core.errors import NotFound
from fased.core.names import Namespace, RunId, SessionKey, TaskId
from fased.core.queue import QueueStatus, RunCursor, RunView
from fased.core.runs import Outcome, session_lane
from fased.store.queue import lanes, rows
from fased.store.queue.lanes import Connection, Lane

_LIVE_COLUMNS = f"""r.id, r.namespace, r.lane, r.class, {rows.LIVE_STATE} AS state,
  r.cancel, r.attempts, r.crashes, r.task_id, r.worker, r.last_reason, r.created_at, r.run_at,
  r.leased_at, r.deadline_at,
  coalesce(r.body, (SELECT p.body FROM scheduler.run_payload p WHERE p.run_id = r.id)) AS body"""

_GET_LIVE = f"SELECT {_LIVE_COLUMNS} FROM scheduler.run r WHERE id = $1 AND namespace = $2"

_GET_ENDED = """
SELECT * FROM scheduler.run_history WHERE id = $1 AND namespace = $2
ORDER BY ended_at DESC LIMIT 1
"""

# One snapshot: between two, a run may end or be retried, and be missed by both.
_WHEREABOUTS = """
SELECT EXISTS (SELECT 1 FROM scheduler.run WHERE id = $1 AND namespace = $2) AS is_live,
  (SELECT outcome FROM scheduler.run_history WHERE id = $1 AND namespace = $2
   ORDER BY ended_at DESC LIMIT 1) AS outcome
"""

LANE_ID = "(SELECT id FROM scheduler.lane WHERE key = {})"

# The live runs of session $2: by its lane (run_head, run_waiting), the others by run_session.
OF_SESSION = """
SELECT id FROM scheduler.run WHERE lane_id = {lane_id} AND namespace = $1
  AND lane IS NULL AND session_key = $2::text AND state IN (1, 2, 3)
UNION ALL
SELECT id FROM scheduler.run WHERE lane_id = {lane_id} AND namespace = $1
  AND lane IS NULL AND session_key = $2::text AND state = 0
UNION ALL
SELECT id FROM scheduler.run WHERE namespace = $1 AND session_key = $2::text
  AND (state = 4 OR lane IS NOT NULL)
"""

_ANY = "$2::text IS NULL"
_BY_TASK = "task_id = $2::uuid"
_BY_SESSION = "session_key = $2::text"
_LIVE_BY_SESSION = f"id = ANY(ARRAY({OF_SESSION.format(lane_id=LANE_ID.format('$5'))}))"

# Indexes: the primary key or run_task.
_LIVE_PAGE = """
SELECT {columns} FROM scheduler.run r WHERE namespace = $1 AND {only} AND id < $3
ORDER BY id DESC LIMIT $4
"""

_ENDED_BY_SESSION = f"""{_BY_SESSION} AND
  hashtextextended(session_key, hashtextextended(namespace, 0))
    = hashtextextended($2::text, hashtextextended($1::text, 0))"""

# Indexes: run_history_namespace, run_history_task or run_history_session.
_ENDED_PAGE = """
SELECT * FROM scheduler.run_history WHERE namespace = $1 AND {only} AND (ended_at, id) < ($3, $4)
ORDER BY ended_at DESC, id DESC LIMIT $5
"""

_STATUS = f"""
SELECT count(*) FILTER (WHERE state IN (0, 1)) AS queued,
  count(*) FILTER (WHERE state = 2) AS running,
  count(*) FILTER (WHERE state = 3) AS parked,
  count(*) FILTER (WHERE state = 4) AS delayed,
  (SELECT count(*) FROM scheduler.worker WHERE expires_at > public.fased_now()) AS workers,
  coalesce(extract(epoch FROM public.fased_now() - min(run_at) FILTER (WHERE state = 1)), 0)
    AS oldest_ready_age_s
FROM (
  SELECT {rows.LIVE_STATE} AS state, run_at FROM scheduler.run
  WHERE namespace = $1 AND lane_id BETWEEN $2 AND $3 AND state IN (1, 2, 3)
  UNION ALL
  SELECT state, run_at FROM scheduler.run
  WHERE namespace = $1 AND lane_id BETWEEN $2 AND $3 AND state = 0
  UNION ALL
  SELECT state, run_at FROM scheduler.run WHERE namespace = $1 AND state = 4
) live
"""

_LAST_ID = 2**63 - 1


async def get(conn: Connection, namespace: Namespace, run_id: RunId) -> RunView:
    """One run, live or ended. Raises NotFound, for another namespace's run too."""
    while True:
        live = await conn.fetchrow(_GET_LIVE, run_id, namespace)
        if live is not None:
            return rows.live_view(live)
        ended = await conn.fetchrow(_GET_ENDED, run_id, namespace)
        if ended is not None:
            return rows.ended_view(ended)
        if await whereabouts(conn, namespace, run_id) == (False, None):
            raise NotFound(f"no run {run_id}", reason="RUN_NOT_FOUND", metadata={"field": "name"})


async def whereabouts(
    conn: Connection, namespace: Namespace, run_id: RunId
) -> tuple[bool, Outcome | None]:
    """Whether a run lives, and the outcome of one that has ended; neither: there is none."""
    row = await conn.fetchrow(_WHEREABOUTS, run_id, namespace)
    return row["is_live"], None if row["outcome"] is None else Outcome(row["outcome"])


async def list_runs(
    conn: Connection,
    namespace: Namespace,
    *,
    task_id: TaskId | None = None,
    session_key: SessionKey | None = None,
    limit: int = 50,
    after: RunCursor | None = None,
) -> tuple[list[RunView], RunCursor | None]:
    """A page of runs of a namespace, of a task or of a session, and where the next page begins.

    Live ones first, the latest made first; then history, the latest ended first. No cursor at
    the end.
    """
    only, value = _filter(task_id, session_key)
    views: list[RunView] = []
    if after is None or after.ended_at is None:
        first = after.run_id if after else _LAST_ID
        views = await _live(conn, only, namespace, value, first, limit)
    if len(views) < limit:
        left = limit - len(views)
        views += await _ended(conn, only, namespace, value, after, left)
    if len(views) < limit:
        return views, None
    return views, RunCursor(views[-1].run_id, views[-1].ended_at)


async def queue_status(conn: Connection, namespace: Namespace) -> QueueStatus:
    """The live runs of a namespace, counted (run_head, run_waiting, run_session)."""
    return QueueStatus(**dict(await conn.fetchrow(_STATUS, namespace, *lanes.ids_of(namespace))))


def session_lane_key(namespace: Namespace, session_key: SessionKey) -> Lane:
    """The key of a session's own lane, for `OF_SESSION`."""
    return lanes.key_of(namespace, session_lane(session_key))


async def _live(
    conn: Connection, only: str, namespace: Namespace, value: object, before: int, limit: int
) -> list[RunView]:
    values = [namespace, value, before, limit]
    if only is _BY_SESSION:
        only = _LIVE_BY_SESSION
        values.append(session_lane_key(namespace, SessionKey(str(value))))
    statement = _LIVE_PAGE.format(columns=_LIVE_COLUMNS, only=only)
    return [rows.live_view(row) for row in await conn.fetch(statement, *values)]


async def _ended(
    conn: Connection,
    only: str,
    namespace: Namespace,
    value: object,
    after: RunCursor | None,
    limit: int,
) -> list[RunView]:
    if only is _BY_SESSION:
        only = _ENDED_BY_SESSION
    statement = _ENDED_PAGE.format(only=only)
    if after is not None and after.ended_at is not None:
        found = await conn.fetch(statement, namespace, value, after.ended_at, after.run_id, limit)
    else:
        latest = statement.replace("(ended_at, id) < ($3, $4)", "$3::bigint = $4::bigint")
        found = await conn.fetch(latest, namespace, value, 0, 0, limit)
    return [rows.ended_view(row) for row in found]


def _filter(task_id: TaskId | None, session_key: SessionKey | None) -> tuple[str, object]:
    if task_id is not None:
        return _BY_TASK, UUID(task_id)
    if session_key is not None:
        return _BY_SESSION, session_key
    return _ANY, None
