"""Puts runs into the queue, once for each key. Decides nothing about what they are.

Order of locks: keys (sorted), lanes (sorted, the parents' too), then the rows. Under its lane's
lock a run that finds the lane empty is inserted as ready; a run that brings a time of its own is
inserted as waiting or delayed, as the database's clock says, and its lane promoted after that.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fased.core.errors import FailedPrecondition
from fased.core.names import RunId
from fased.core.queue import Enqueued, EnqueueItem
from fased.core.runs import LiveState, NewRun, Outcome
from fased.store import codec
from fased.store.queue import lanes, rows
from fased.store.queue.lanes import Connection, Held, Lane

Key = tuple[str, str]

_WAITING, _READY = int(LiveState.WAITING), int(LiveState.READY)


class Numbered(NamedTuple):
    """A run to insert, with its lane and its id."""

    run: NewRun
    lane: Lane
    run_id: int
    parent: RunId | None


# Numbers follow the order of the items, locks the order of the keys.
_KEYS = """
WITH u AS MATERIALIZED (
  SELECT n, k, CASE WHEN c = 1 THEN ARRAY[nextval('scheduler.run_id')]
    ELSE ARRAY(SELECT nextval('scheduler.run_id') FROM generate_series(1, c)) END AS ids
  FROM unnest($1::text[], $2::text[], $3::int[]) WITH ORDINALITY u(n, k, c, place) ORDER BY place
)
INSERT INTO scheduler.enqueue_key (namespace, key, run_ids)
SELECT n, k, ids FROM u ORDER BY n COLLATE "C", k COLLATE "C"
ON CONFLICT DO NOTHING
RETURNING namespace, key, run_ids
"""

_KNOWN = """
SELECT namespace, key, run_ids FROM scheduler.enqueue_key
WHERE (namespace, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""

_PARENT_LANES = "SELECT id, lane_key FROM scheduler.run WHERE id = ANY($1::bigint[])"

_PARENTS = "SELECT id, epoch, worker, cancel FROM scheduler.run WHERE id = ANY($1::bigint[])"

# So that the end of a run looks for children of those alone that have some.
_MARK_PARENTS = """
UPDATE scheduler.run SET has_children = true WHERE id = ANY($1::bigint[]) AND NOT has_children
"""

_ENDED_PARENT = """
SELECT outcome FROM scheduler.run_history WHERE id = $1 ORDER BY ended_at DESC LIMIT 1
"""

_INSERT = """
INSERT INTO scheduler.run (id, lane_key, lane_id, namespace, lane, seq, class, state, session_key,
  task_id, parent_run, run_for, time_left, created_at, run_at, body)
SELECT id, lane_key, lane_id, n, l, seq, class,
  CASE WHEN run_at > public.fased_now() THEN 4 ELSE state END, session_key, task_id, parent_run,
  run_for, run_for, now.at, coalesce(run_at, now.at), body
FROM (SELECT public.fased_now() AS at) now, unnest($1::bigint[], $2::bigint[], $3::bigint[],
  $4::text[], $5::text[], $6::bigint[], $7::smallint[], $8::smallint[], $9::text[], $10::uuid[],
  $11::bigint[], $12::interval[], $13::timestamptz[], $14::json[])
  u(id, lane_key, lane_id, n, l, seq, class, state, session_key, task_id, parent_run, run_for,
  run_at, body)
"""

# Asked under the lanes' locks, so that no head comes or goes. Scalar subqueries: as lanes.PROMOTE.
_OCCUPIED = """
SELECT t.id FROM unnest($1::bigint[]) t(id)
WHERE coalesce(
  (SELECT x.id FROM scheduler.run x WHERE x.lane_id = t.id AND x.state IN (1, 2, 3) LIMIT 1),
  (SELECT w.id FROM scheduler.run w WHERE w.lane_id = t.id AND w.state = 0 LIMIT 1)) IS NOT NULL
"""

_PAYLOAD = """
INSERT INTO scheduler.run_payload (run_id, body) SELECT * FROM unnest($1::bigint[], $2::json[])
"""

_BEHIND_PARKED = """
SELECT r.id FROM scheduler.run r JOIN scheduler.run h
  ON h.lane_id = r.lane_id AND h.state IN (1, 2, 3)
WHERE r.id = ANY($1::bigint[]) AND r.state = 0 AND h.state = 3
"""


async def enqueue(conn: Connection, items: Sequence[EnqueueItem]) -> list[Enqueued]:
    """Make the runs of `items`, in order; a known key answers with the runs it made first.

    In a transaction of its own, or in a savepoint of the caller's. Raises FailedPrecondition
    CANCELLED or STALE, and makes nothing, when a parent is gone.
    """
    async with conn.transaction():
        first: dict[Key, EnqueueItem] = {}
        for item in items:
            first.setdefault((item.namespace, item.key), item)
        made = await _insert_keys(conn, first)
        known = await _known(conn, [key for key in first if key not in made])
        parked = await _insert_runs(conn, [(first[key], made[key]) for key in first if key in made])
        return _answers(items, made, known, parked)


async def _insert_keys(conn: Connection, first: dict[Key, EnqueueItem]) -> dict[Key, list[int]]:
    found = await conn.fetch(
        _KEYS,
        [namespace for namespace, _ in first],
        [key for _, key in first],
        [len(item.runs) for item in first.values()],
    )
    return {(row["namespace"], row["key"]): row["run_ids"] for row in found}


async def _known(conn: Connection, keys: list[Key]) -> dict[Key, list[int]]:
    if not keys:
        return {}
    found = await conn.fetch(_KNOWN, [n for n, _ in keys], [k for _, k in keys])
    return {(row["namespace"], row["key"]): row["run_ids"] for row in found}


async def _insert_runs(conn: Connection, fresh: list[tuple[EnqueueItem, list[int]]]) -> set[int]:
    """Insert them; answers with the new runs that wait behind a parked one."""
    numbered = [
        Numbered(
            run,
            lanes.key_of(run.namespace, run.lane),
            run_id,
            item.parent.run_id if item.parent else None,
        )
        for item, ids in fresh
        for run, run_id in zip(item.runs, ids, strict=True)
    ]
    parents = [item for item, _ in fresh if item.parent]
    counts: Counter[Lane] = Counter(each.lane for each in numbered)
    counts.update(dict.fromkeys(await _parent_lanes(conn, parents), 0))
    if not counts:
        return set()
    held = await lanes.advance(conn, counts)
    await _take_parents(conn, parents)
    before = {lane: held[lane].seq - n for lane, n in counts.items()}
    timed = {each.lane for each in numbered if each.run.run_at is not None}
    heads = await _heads(conn, numbered, held, before, timed)
    await _insert_rows(conn, numbered, held, before, heads)
    if timed:
        heads |= await lanes.promote(conn, [held[lane] for lane in timed])
    waiting = [each.run_id for each in numbered if each.run_id not in heads]
    if not waiting:
        return set()
    return {row["id"] for row in await conn.fetch(_BEHIND_PARKED, waiting)}


async def _heads(
    conn: Connection,
    numbered: list[Numbered],
    held: Held,
    before: dict[Lane, int],
    timed: set[Lane],
) -> set[int]:
    """The runs that find their lane empty, and so lead it; none of lanes that are `timed`.

    A lane that has given no number out has never had a run.
    """
    first: dict[Lane, int] = {}
    for each in numbered:
        first.setdefault(each.lane, each.run_id)
    old = [held[lane].id for lane in first if before[lane] and lane not in timed]
    occupied = {row["id"] for row in await conn.fetch(_OCCUPIED, old)} if old else set()
    return {
        run_id
        for lane, run_id in first.items()
        if lane not in timed and held[lane].id not in occupied
    }


async def _parent_lanes(conn: Connection, parents: list[EnqueueItem]) -> list[Lane]:
    if not parents:
        return []
    ids = [item.parent.run_id for item in parents if item.parent]
    return [row["lane_key"] for row in await conn.fetch(_PARENT_LANES, ids)]


async def _take_parents(conn: Connection, parents: list[EnqueueItem]) -> None:
    """Note that these runs have children; raises FailedPrecondition when one may have no more."""
    if not parents:
        return
    ids = [item.parent.run_id for item in parents if item.parent]
    found = {row["id"]: row for row in await conn.fetch(_PARENTS, ids)}
    for item in parents:
        if item.parent is None:
            continue
        row = found.get(item.parent.run_id)
        if row is None:
            ended = await conn.fetchval(_ENDED_PARENT, item.parent.run_id)
            raise _refused("CANCELLED" if ended == Outcome.CANCELLED else "STALE")
        if row["cancel"]:
            raise _refused("CANCELLED")
        if row["epoch"] != item.parent.epoch or row["worker"] is None:
            raise _refused("STALE")
    await conn.execute(_MARK_PARENTS, ids)


def _refused(reason: str) -> FailedPrecondition:
    return FailedPrecondition(
        "the run that asks for a child is cancelled or no longer held by this worker",
        reason=reason,
        metadata={"field": "parent"},
    )


async def _insert_rows(
    conn: Connection,
    numbered: list[Numbered],
    held: Held,
    before: dict[Lane, int],
    heads: set[int],
) -> None:
    """Insert the rows; `before` holds each lane's last number before them."""
    columns: list[tuple[object, ...]] = []
    large: list[tuple[int, str]] = []
    for run, lane, run_id, parent in numbered:
        before[lane] += 1
        body = codec.dump(run.body)
        is_large = rows.is_large(body)
        if is_large:
            large.append((run_id, body))
        state = _READY if run_id in heads else _WAITING
        columns.append(
            (run_id, lane, held[lane].id, run.namespace, rows.own_lane(run), before[lane],
             int(run.run_class), state, run.body.session_key, rows.uuid_or_none(run.task_id),
             parent, run.run_for, run.run_at, None if is_large else body)
        )  # fmt: skip
    if columns:
        await conn.execute(_INSERT, *map(list, zip(*columns, strict=True)))
    if large:
        await conn.execute(_PAYLOAD, *map(list, zip(*large, strict=True)))


def _answers(
    items: Sequence[EnqueueItem],
    made: dict[Key, list[int]],
    known: dict[Key, list[int]],
    parked: set[int],
) -> list[Enqueued]:
    answers: list[Enqueued] = []
    told: set[Key] = set()
    for item in items:
        key = (item.namespace, item.key)
        repeated = key in known or key in told
        told.add(key)
        ids = tuple(RunId(run_id) for run_id in made.get(key) or known[key])
        behind = () if repeated else tuple(run_id for run_id in ids if run_id in parked)
        answers.append(Enqueued(ids, repeated, behind))
    return answers
