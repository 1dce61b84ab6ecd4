"""Puts messages into sessions: the row behind each decision's key, renewed when it is stale.

Decides nothing itself: keys and staleness are `core/sessions.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg

from fased.core import sessions as core_sessions
from fased.core.bindings import MatchedBy
from fased.core.messages import InboundEvent
from fased.core.names import Namespace, SessionKey
from fased.core.routing import RouteDecision
from fased.core.sessions import SessionPolicy
from fased.core.stored_session import Session
from fased.store.database import Connection
from fased.store.router import sessions
from fased.store.router.sessions import Wanted


@dataclass(frozen=True, slots=True)
class Routed:
    """An event and where it goes."""

    event: InboundEvent
    decision: RouteDecision
    policy: SessionPolicy


@dataclass(frozen=True, slots=True)
class Placed:
    """A routed event in its session: `base` holds the pointer, `session` is the one in use."""

    routed: Routed
    base: Session
    session: Session


async def place(pool: "asyncpg.Pool[asyncpg.Record]", routed: Sequence[Routed]) -> list[Placed]:
    """The sessions of routed events, in their places, in one transaction.

    Done again for the same events it finds the same sessions: none of them is stale any more.
    """
    if not routed:
        return []
    async with pool.acquire() as conn, conn.transaction():
        bases = await sessions.find_or_make(conn, await _wanted(conn, routed))
        active = await sessions.get_many(conn, [_pointed(base) for base in bases])
        used: dict[tuple[Namespace, SessionKey], Session] = {}
        placed = []
        for each, base in zip(routed, bases, strict=True):
            session = _in_use(base, active.get(_pointed(base)))
            key = session.namespace, session.session_key
            session = used.get(key, session)
            if _is_stale(each, session):
                session = await sessions.renew(conn, *key)
            last_at = max(session.last_message_at, each.event.received_at)
            used[key] = replace(session, last_message_at=last_at)
            placed.append(Placed(each, base, used[key]))
        await sessions.touch(conn, [(*key, each.last_message_at) for key, each in used.items()])
    return placed


async def _wanted(conn: Connection, routed: Sequence[Routed]) -> list[Wanted]:
    picked = await sessions.get_many(
        conn,
        [
            (each.event.namespace, each.decision.session_key)
            for each in routed
            if each.decision.matched_by is MatchedBy.ATTACHED
        ],
    )
    return [_wanted_by(each.event, each.decision, picked) for each in routed]


def _wanted_by(
    event: InboundEvent,
    decision: RouteDecision,
    picked: Mapping[tuple[Namespace, SessionKey], Session],
) -> Wanted:
    """What to find or make; a session that a person picked is that one, whatever its identity."""
    identity = decision.session_identity
    if decision.matched_by is MatchedBy.ATTACHED:
        known = picked.get((event.namespace, decision.session_key))
        identity = known.identity if known else identity
    return Wanted(
        event.namespace,
        decision.session_key,
        identity,
        decision.agent_id,
        decision.channel,
        decision.account_id,
        event.peer.id,
        event.received_at,
    )


def _pointed(base: Session) -> tuple[Namespace, SessionKey]:
    return base.namespace, SessionKey(base.active_key)


def _in_use(base: Session, active: Session | None) -> Session:
    return base if active is None or active.closed_at is not None else active


def _is_stale(routed: Routed, session: Session) -> bool:
    event = routed.event
    policy = routed.policy.reset_policy(core_sessions.session_kind(event.peer, event.thread))
    return core_sessions.is_stale(policy, session.last_message_at, event.received_at)
