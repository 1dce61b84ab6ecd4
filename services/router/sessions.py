"""SessionService: keeps conversations. Decides nothing itself (`core/sessions.py`)."""

from datetime import datetime
from typing import Any

from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.core import sessions as core_sessions
from fased.core.errors import InvalidArgument, NotFound
from fased.core.names import (
    AgentId,
    Namespace,
    SessionKey,
    canonical_agent,
    canonical_id,
    checked_request_id,
    parse_parent,
    parse_resource_name,
)
from fased.core.stored_session import Session
from fased.rpc import paging
from fased.store.database import Database
from fased.store.router import effects, sessions
from fased.store.router.sessions import Wanted
from fased.wire.routes import SESSIONS, session_to_pb
from services.router.tables import RoutingTables, default_agent


class SessionServicer(router_service_pb2_grpc.SessionServiceServicer):
    """Sessions over gRPC."""

    def __init__(self, database: Database, tables: RoutingTables) -> None:
        self._pool = database.queue
        self._tables = tables

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Any
    ) -> pb.ListSessionsResponse:
        """Sessions, the last used first."""
        namespace = parse_parent(request.parent)
        size, agent_id = paging.page_size(request.page_size), canonical_id(request.agent_id)
        query = {"sessions": namespace, "agent": agent_id}
        position = paging.decode(request.page_token, query)
        after = (datetime.fromisoformat(position[0]), str(position[1])) if position else None
        async with self._pool.acquire() as conn:
            found = await sessions.list_recent(conn, namespace, agent_id, after, size + 1)
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = paging.encode([last.last_message_at.isoformat(), last.session_key], query)
        return pb.ListSessionsResponse(
            sessions=[session_to_pb(each) for each in found[:size]], next_page_token=token
        )

    async def CountSessions(
        self, request: pb.CountSessionsRequest, context: Any
    ) -> pb.CountSessionsResponse:
        """How many sessions each Agent has."""
        async with self._pool.acquire() as conn:
            counts = await sessions.counts(conn, parse_parent(request.parent))
        return pb.CountSessionsResponse(
            counts={str(agent): count for agent, count in counts.items()}
        )

    async def GetSession(
        self, request: pb.GetSessionRequest, context: Any
    ) -> pb.GetSessionResponse:
        """One session."""
        namespace, key = _named(request.name)
        async with self._pool.acquire() as conn:
            session = await sessions.get(conn, namespace, key)
        return pb.GetSessionResponse(session=session_to_pb(_existing(session, key)))

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: Any
    ) -> pb.CreateSessionResponse:
        """A named session beside an Agent's main one; a repeat answers with the first one."""
        namespace = parse_parent(request.parent)
        agent_id = await self._agent(namespace, request.agent_id)
        title = " ".join(request.title.split())
        if not title or len(title) > core_sessions.MAX_SLUG_CHARS:
            raise InvalidArgument(
                f"title has 1 to {core_sessions.MAX_SLUG_CHARS} characters",
                reason="INVALID_TITLE",
                metadata={"field": "title"},
            )
        request_id = checked_request_id(request.request_id) if request.request_id else None
        base_key = core_sessions.main_key(agent_id)
        async with self._pool.acquire() as conn, conn.transaction():
            # Holding the base, a repeat beside the first finds what that one made.
            [base] = await sessions.find_or_make(
                conn, [Wanted(namespace, base_key, base_key, agent_id)]
            )
            key = SessionKey(await effects.resource_of(conn, namespace, request_id))
            if key:
                session = _existing(await sessions.get(conn, namespace, key), key)
            else:
                session = await sessions.add_named(conn, base, title)
                await effects.keep_request(conn, namespace, request_id, session.session_key)
        return pb.CreateSessionResponse(session=session_to_pb(session))

    async def ResetSession(
        self, request: pb.ResetSessionRequest, context: Any
    ) -> pb.ResetSessionResponse:
        """A fresh session id under the same key, once a request."""
        namespace, key = _named(request.name)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._pool.acquire() as conn, conn.transaction():
            session = _existing(await sessions.get(conn, namespace, key, lock=True), key)
            if not await effects.resource_of(conn, namespace, request_id):
                session = await sessions.renew(conn, namespace, key)
                await effects.keep_request(conn, namespace, request_id, key)
        return pb.ResetSessionResponse(session=session_to_pb(session))

    async def ResolveSession(
        self, request: pb.ResolveSessionRequest, context: Any
    ) -> pb.ResolveSessionResponse:
        """The session that a key stands for, made when it has no row."""
        namespace, key = _named(request.name)
        agent_id, _ = core_sessions.parse_session_key(key)
        if canonical_id(request.agent_id) not in ("", agent_id):
            raise InvalidArgument(
                f"session {key[:120]} does not belong to Agent {request.agent_id[:64]}",
                reason="SESSION_OF_ANOTHER_AGENT",
                metadata={"field": "agent_id"},
            )
        async with self._pool.acquire() as conn, conn.transaction():
            session = await sessions.get(conn, namespace, key)
            if session is None:
                [session] = await sessions.find_or_make(
                    conn, [Wanted(namespace, key, key, agent_id)]
                )
        return pb.ResolveSessionResponse(session=session_to_pb(session))

    async def _agent(self, namespace: Namespace, asked: str) -> AgentId:
        _, agents = await self._tables.read(namespace)
        if not asked:
            return default_agent(agents)
        agent_id = canonical_agent(asked)
        if all(agent.id != agent_id for agent in agents):
            raise NotFound(
                f"there is no Agent {agent_id}; list them with: fased agents list",
                reason="AGENT_MISSING",
                metadata={"field": "agent_id"},
            )
        return agent_id


def _named(name: str) -> tuple[Namespace, SessionKey]:
    namespace, key = parse_resource_name(name, SESSIONS)
    return namespace, SessionKey(key.lower())


def _existing(session: Session | None, key: str) -> Session:
    if session is None:
        raise NotFound(
            f"there is no session {key[:120]}; list them with: fased sessions list",
            reason="SESSION_MISSING",
            metadata={"field": "name"},
        )
    return session
