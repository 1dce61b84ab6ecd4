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
    checked_request_id,
    parse_parent,
    parse_resource_name,
)
from fased.core.stored_session import Session
from fased.rpc import paging
from fased.store.database import Connection, Database
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
        size = paging.page_size(request.page_size)
        query = {"sessions": namespace, "agent": request.agent_id}
        position = paging.decode(request.page_token, query)
        after = (datetime.fromisoformat(position[0]), str(position[1])) if position else None
        async with self._pool.acquire() as conn:
            found = await sessions.list_recent(conn, namespace, request.agent_id, after, size + 1)
        token = ""
        if len(found) > size and (last_at := found[size - 1].last_message_at):
            token = paging.encode([last_at.isoformat(), found[size - 1].session_key], query)
        return pb.ListSessionsResponse(
            sessions=[session_to_pb(each) for each in found[:size]], next_page_token=token
        )

    async def GetSession(
        self, request: pb.GetSessionRequest, context: Any
    ) -> pb.GetSessionResponse:
        """One session."""
        namespace, key = parse_resource_name(request.name, SESSIONS)
        async with self._pool.acquire() as conn:
            session = await sessions.get(conn, namespace, SessionKey(key))
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
        base_key = core_sessions.main_key(agent_id)
        async with self._pool.acquire() as conn, conn.transaction():
            [base] = await sessions.find_or_make(
                conn, [Wanted(namespace, base_key, base_key, agent_id)]
            )
            taken = await sessions.slugs_under(conn, namespace, base_key)
            key = core_sessions.named_key(base_key, core_sessions.chat_slug(title, taken))
            if request.request_id:
                request_id = checked_request_id(request.request_id)
                key = SessionKey(await effects.claim_request(conn, namespace, request_id, key))
            made = await sessions.add_named(conn, base, key, title)
            session = made or await sessions.get(conn, namespace, key)
        return pb.CreateSessionResponse(session=session_to_pb(_existing(session, key)))

    async def ResetSession(
        self, request: pb.ResetSessionRequest, context: Any
    ) -> pb.ResetSessionResponse:
        """A fresh session id under the same key, once a request."""
        namespace, key = parse_resource_name(request.name, SESSIONS)
        async with self._pool.acquire() as conn, conn.transaction():
            session = _existing(await sessions.get(conn, namespace, SessionKey(key)), key)
            if await _is_new(conn, namespace, request.request_id, session.session_id):
                session = _existing(await sessions.renew(conn, namespace, SessionKey(key)), key)
        return pb.ResetSessionResponse(session=session_to_pb(session))

    async def ResolveSession(
        self, request: pb.ResolveSessionRequest, context: Any
    ) -> pb.ResolveSessionResponse:
        """The session that a key stands for, made when it has no row."""
        namespace, key = parse_resource_name(request.name, SESSIONS)
        session_key = SessionKey(key)
        async with self._pool.acquire() as conn, conn.transaction():
            session = await sessions.get(conn, namespace, session_key)
            if session is None:
                wanted = Wanted(namespace, session_key, key, AgentId(request.agent_id))
                [session] = await sessions.find_or_make(conn, [wanted])
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


async def _is_new(
    conn: Connection, namespace: Namespace, request_id: str, session_id: str
) -> bool:
    if not request_id:
        return True
    # The first claim keeps the id that was current before: a repeat finds it, and no other.
    claimed = await effects.claim_request(
        conn, namespace, checked_request_id(request_id), session_id
    )
    return claimed == session_id


def _existing(session: Session | None, key: str) -> Session:
    if session is None:
        raise NotFound(
            f"there is no session {key[:120]}; list them with: fased sessions list",
            reason="SESSION_MISSING",
            metadata={"field": "name"},
        )
    return session
