"""Sessions in rows: found or made for a message, renewed, named and listed.

Functions take an asyncpg connection; the caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

import asyncpg

from fased.core.names import AgentId, Namespace, SessionId, SessionKey
from fased.core.sessions import chat_slug, named_key
from fased.core.stored_session import Session, distinct_key
from fased.store.database import Connection

_COLUMNS = """namespace, session_key, identity, agent_id, session_id, title, base_key, active_key,
    channel, account_id, peer_id, model, created_at, last_message_at, closed_at"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A conversation that is asked for; its row is made when it has none.

    `at` is when its message came, None for a conversation that no message asks for.
    """

    namespace: Namespace
    session_key: SessionKey
    identity: str
    agent_id: AgentId
    channel: str = ""
    account_id: str = ""
    peer_id: str = ""
    at: datetime | None = None


async def find_or_make(conn: Connection, wanted: Sequence[Wanted]) -> list[Session]:
    """The base sessions wanted, in their places, locked in one order for the transaction.

    By the unique (namespace, identity). A chat whose key another chat holds, since their ids
    differ only in case, gets a key of its own.
    """
    rows = await _locked(conn, wanted)
    if missing := [each for each in wanted if (each.namespace, each.identity) not in rows]:
        await _make(conn, missing)
        rows = await _locked(conn, wanted)
        if still := [each for each in wanted if (each.namespace, each.identity) not in rows]:
            await _make(conn, [_apart(each) for each in still])
            rows = await _locked(conn, wanted)
    return [rows[each.namespace, each.identity] for each in wanted]


async def get(
    conn: Connection, namespace: Namespace, key: SessionKey, *, lock: bool = False
) -> Session | None:
    """One session, by primary key; `lock` holds its row for an edit."""
    row = await conn.fetchrow(
        f"""SELECT {_COLUMNS} FROM router.session WHERE namespace = $1 AND session_key = $2
            {"FOR NO KEY UPDATE" if lock else ""}""",
        namespace,
        key,
    )
    return None if row is None else _session(row)


async def get_many(
    conn: Connection, keys: Sequence[tuple[Namespace, SessionKey]]
) -> dict[tuple[Namespace, SessionKey], Session]:
    """The sessions with these keys that exist, by primary key."""
    if not keys:
        return {}
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM router.session
             WHERE (namespace, session_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))""",
        [namespace for namespace, _ in keys],
        [key for _, key in keys],
    )
    found = (_session(row) for row in rows)
    return {(session.namespace, session.session_key): session for session in found}


async def touch(conn: Connection, used: Sequence[tuple[Namespace, SessionKey, datetime]]) -> None:
    """Note when sessions last had a message; a later instant stays."""
    await conn.execute(
        """UPDATE router.session s SET last_message_at = u.at
             FROM (SELECT n, k, max(a) AS at
                     FROM unnest($1::text[], $2::text[], $3::timestamptz[]) x(n, k, a)
                    GROUP BY n, k ORDER BY n, k) u
            WHERE s.namespace = u.n AND s.session_key = u.k AND s.last_message_at < u.at""",
        [namespace for namespace, _, _ in used],
        [key for _, key, _ in used],
        [at for _, _, at in used],
    )


async def renew(
    conn: Connection, namespace: Namespace, key: SessionKey, model: str | None = None
) -> Session:
    """Start a fresh session id under a key that is there; a `model` becomes its override, None
    keeps it.
    """
    row = await conn.fetchrow(
        f"""UPDATE router.session
               SET session_id = gen_random_uuid(), model = coalesce($3, model)
             WHERE namespace = $1 AND session_key = $2 RETURNING {_COLUMNS}""",
        namespace,
        key,
        model,
    )
    return _session(row)


async def add_named(conn: Connection, base: Session, title: str) -> Session:
    """Make a named session beside a base, under the first slug of its title that is free."""
    rows = await conn.fetch(
        """SELECT session_key FROM router.session
            WHERE namespace = $1 AND base_key = $2 AND base_key <> ''""",
        base.namespace,
        base.session_key,
    )
    taken = {row["session_key"].rpartition(":")[2] for row in rows}
    while True:
        slug = chat_slug(title, taken)
        session = await _insert_named(conn, base, named_key(base.session_key, slug), title)
        if session is not None:
            return session
        taken.add(slug)


async def named_beside(conn: Connection, base: Session) -> list[Session]:
    """The open named sessions of a base, in the order they were made. By `session_base`."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM router.session
             WHERE namespace = $1 AND base_key = $2 AND base_key <> '' AND closed_at IS NULL
             ORDER BY created_at, session_key""",
        base.namespace,
        base.session_key,
    )
    return [_session(row) for row in rows]


async def activate(conn: Connection, namespace: Namespace, base: SessionKey, active: str) -> None:
    """Let messages of a base go to another session, or with `""` to the base itself."""
    await conn.execute(
        "UPDATE router.session SET active_key = $3 WHERE namespace = $1 AND session_key = $2",
        namespace,
        base,
        active,
    )


async def set_model(conn: Connection, namespace: Namespace, key: SessionKey, model: str) -> None:
    """Set a session's own model."""
    await conn.execute(
        "UPDATE router.session SET model = $3 WHERE namespace = $1 AND session_key = $2",
        namespace,
        key,
        model,
    )


async def close(conn: Connection, namespace: Namespace, key: SessionKey) -> None:
    """Close a named session."""
    await conn.execute(
        """UPDATE router.session SET closed_at = public.fased_now()
            WHERE namespace = $1 AND session_key = $2""",
        namespace,
        key,
    )


async def list_recent(
    conn: Connection,
    namespace: Namespace,
    agent_id: str,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Session]:
    """Sessions, the last used first, after a position. By `session_recent`."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM router.session
             WHERE namespace = $1 AND ($2 = '' OR agent_id = $2)
               AND ($3::timestamptz IS NULL OR (last_message_at, session_key) < ($3, $4))
             ORDER BY last_message_at DESC, session_key DESC LIMIT $5""",
        namespace,
        agent_id,
        after[0] if after else None,
        after[1] if after else "",
        limit,
    )
    return [_session(row) for row in rows]


async def counts(conn: Connection, namespace: Namespace) -> dict[AgentId, int]:
    """How many sessions each Agent of a namespace has; Agents without any are left out."""
    rows = await conn.fetch(
        """SELECT agent_id, count(*) AS sessions FROM router.session
            WHERE namespace = $1 GROUP BY agent_id""",
        namespace,
    )
    return {AgentId(row["agent_id"]): row["sessions"] for row in rows}


async def _insert_named(
    conn: Connection, base: Session, key: SessionKey, title: str
) -> Session | None:
    """The session made; None where another has the key, be it one that was just made beside."""
    row = await conn.fetchrow(
        f"""INSERT INTO router.session (namespace, session_key, identity, agent_id, session_id,
                title, base_key, channel, account_id, peer_id)
            VALUES ($1, $2, $2, $3, gen_random_uuid(), $4, $5, $6, $7, $8)
            ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
        base.namespace,
        key,
        base.agent_id,
        title,
        base.session_key,
        base.channel,
        base.account_id,
        base.peer_id,
    )
    return None if row is None else _session(row)


async def _locked(
    conn: Connection, wanted: Sequence[Wanted]
) -> dict[tuple[Namespace, str], Session]:
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM router.session
             WHERE (namespace, identity) IN (SELECT * FROM unnest($1::text[], $2::text[]))
             ORDER BY namespace, identity FOR NO KEY UPDATE""",
        [each.namespace for each in wanted],
        [each.identity for each in wanted],
    )
    found = (_session(row) for row in rows)
    return {(session.namespace, session.identity): session for session in found}


async def _make(conn: Connection, wanted: Sequence[Wanted]) -> None:
    await conn.execute(
        """INSERT INTO router.session (namespace, session_key, identity, agent_id, session_id,
               channel, account_id, peer_id, last_message_at)
           SELECT n, k, i, a, gen_random_uuid(), c, o, p, coalesce(t, public.fased_now())
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::timestamptz[]) u(n, k, i, a, c, o, p, t)
            ORDER BY n, k
           ON CONFLICT DO NOTHING""",
        *([getattr(each, column.name) for each in wanted] for column in fields(Wanted)),
    )


def _apart(wanted: Wanted) -> Wanted:
    return replace(wanted, session_key=distinct_key(wanted.session_key, wanted.identity))


def _session(row: asyncpg.Record) -> Session:
    return Session(**{**dict(row), "session_id": SessionId(str(row["session_id"]))})
