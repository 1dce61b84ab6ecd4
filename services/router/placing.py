"""Puts messages into sessions: the row behind each decision's key, renewed when it is stale.

Decides nothing itself: keys and staleness are `core/sessions.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from fased.core import sessions as core_sessions
from fased.core.messages import InboundEvent
from fased.core.names import Namespace, SessionKey
from fased.core.routing import RouteDecision
from fased.core.sessions import SessionPolicy
from fased.core.stored_session import Session
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
    """The sessions of routed events, in their places, in one transaction."""
    if not routed:
        return []
    async with pool.acquire() as conn, conn.transaction():
        bases = await sessions.find_or_make(conn, [_wanted(each) for each in routed])
        named = await sessions.get_many(
            conn, [(b.namespace, SessionKey(b.active_key)) for b in bases if b.active_key]
        )
        placed: list[Placed] = []
        renewed: dict[tuple[Namespace, SessionKey], Session] = {}
        for each, base in zip(routed, bases, strict=True):
            active = named.get((base.namespace, SessionKey(base.active_key)), base)
            key = (active.namespace, active.session_key)
            if key not in renewed and _is_stale(each, active):
                fresh = await sessions.renew(conn, *key)
                renewed[key] = fresh or active
            placed.append(Placed(each, base, renewed.get(key, active)))
        await sessions.touch(
            conn,
            [
                (p.session.namespace, p.session.session_key, p.routed.event.received_at)
                for p in placed
            ],
        )
    return placed


def _is_stale(routed: Routed, session: Session) -> bool:
    event = routed.event
    policy = routed.policy.reset_policy(core_sessions.session_kind(event.peer, event.thread))
    last_at = session.last_message_at or event.received_at
    return core_sessions.is_stale(policy, last_at, event.received_at)


def _wanted(routed: Routed) -> Wanted:
    event, decision = routed.event, routed.decision
    return Wanted(
        event.namespace,
        decision.session_key,
        decision.session_identity,
        decision.agent_id,
        decision.channel,
        decision.account_id,
        event.peer.id,
    )
