"""RouteService: decides for one message and keeps the bindings. Decides nothing itself."""

import uuid
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.core import route_explain, route_lint, routing
from fased.core.agents import check_owner
from fased.core.bindings import Binding
from fased.core.errors import Aborted, InvalidArgument, NotFound
from fased.core.findings import Finding
from fased.core.names import Namespace, parse_parent, parse_resource_name
from fased.core.route_table import RoutingTable
from fased.core.sessions import SessionPolicy
from fased.store.database import Database
from fased.store.router import bindings
from fased.store.router.bindings import Routing, StoredBinding
from fased.wire.findings import finding_to_pb
from fased.wire.routes import (
    BINDINGS,
    binding_from_pb,
    binding_to_pb,
    candidate_to_pb,
    decision_to_pb,
    route_input_from_pb,
    session_policy_from_pb,
)
from services.router.tables import RoutingTables


class RouteServicer(router_service_pb2_grpc.RouteServiceServicer):
    """Routes and bindings over gRPC."""

    def __init__(self, database: Database, tables: RoutingTables) -> None:
        self._engine = database.engine
        self._tables = tables

    async def ResolveRoute(
        self, request: pb.ResolveRouteRequest, context: Any
    ) -> pb.ResolveRouteResponse:
        """Decide for one message, with reasons when asked."""
        namespace = parse_parent(request.parent)
        table, _ = await self._tables.read(namespace)
        message = route_input_from_pb(request)
        if not request.explain:
            decision = routing.resolve_route(table, message)
            return pb.ResolveRouteResponse(decision=decision_to_pb(namespace, decision))
        explained = route_explain.explain_route(table, message)
        return pb.ResolveRouteResponse(
            decision=decision_to_pb(namespace, explained.decision),
            candidates=[candidate_to_pb(namespace, each) for each in explained.candidates],
            lint=[each for each in map(finding_to_pb, explained.lint) if each],
        )

    async def ListBindings(
        self, request: pb.ListBindingsRequest, context: Any
    ) -> pb.ListBindingsResponse:
        """A namespace's bindings in the order that decides, with what is odd about them."""
        namespace = parse_parent(request.parent)
        async with self._engine.connect() as conn:
            stored = await bindings.read(conn, namespace)
        table, _ = await self._tables.read(namespace)
        return pb.ListBindingsResponse(
            bindings=[
                binding_to_pb(namespace, each.binding, each.managed_by, each.created_at)
                for each in stored.bindings
                if request.agent_id in ("", each.binding.agent_id)
            ],
            version=stored.version,
            lint=[each for each in map(finding_to_pb, _lint(table)) if each],
        )

    async def CreateBinding(
        self, request: pb.CreateBindingRequest, context: Any
    ) -> pb.CreateBindingResponse:
        """Add a binding, or move the one with the same match to another Agent."""
        namespace = parse_parent(request.parent)
        async with self._engine.begin() as conn:
            version = await bindings.lock(conn, namespace)
            if request.version and request.version != version:
                raise Aborted(
                    "the bindings were changed meanwhile; read them again",
                    reason="VERSION_MISMATCH",
                    metadata={"field": "version"},
                )
            routes = await bindings.read(conn, namespace)
            position = await bindings.next_position(conn, namespace)
            binding = _checked(binding_from_pb(request.binding, uuid.uuid4().hex[:12], position))
            known = next((s for s in routes.bindings if _same_match(s.binding, binding)), None)
            if known is not None:
                check_owner("binding", known.binding.id, known.managed_by, "")
                if known.binding.agent_id == binding.agent_id:
                    return _created(namespace, known, version)
                binding = binding_from_pb(request.binding, known.binding.id, known.binding.position)
            stored = StoredBinding(binding)
            await bindings.put(conn, namespace, stored)
            version = await bindings.next_version(conn, namespace)
        return _created(namespace, stored, version)

    async def DeleteBinding(
        self, request: pb.DeleteBindingRequest, context: Any
    ) -> pb.DeleteBindingResponse:
        """Remove a binding."""
        namespace, binding_id = parse_resource_name(request.name, BINDINGS)
        async with self._engine.begin() as conn:
            await bindings.lock(conn, namespace)
            routes = await bindings.read(conn, namespace)
            known = next((s for s in routes.bindings if s.binding.id == binding_id), None)
            if known is None:
                raise NotFound(f"there is no binding {binding_id[:80]}", reason="BINDING_MISSING")
            check_owner("binding", binding_id, known.managed_by, "")
            await bindings.remove(conn, namespace, [binding_id])
            version = await bindings.next_version(conn, namespace)
        return pb.DeleteBindingResponse(version=version)

    async def ApplyRouting(
        self, request: pb.ApplyRoutingRequest, context: Any
    ) -> pb.ApplyRoutingResponse:
        """Make one owner's bindings and session policy what the request says."""
        namespace, owner = parse_parent(request.parent), request.managed_by
        wanted = tuple(
            StoredBinding(binding_from_pb(each, f"{_tag(owner)}-{place}", place), owner)
            for place, each in enumerate(request.bindings)
        )
        policy = session_policy_from_pb(request.session) if request.HasField("session") else None
        async with self._engine.begin() as conn:
            version = await bindings.lock(conn, namespace)
            routes = await bindings.read(conn, namespace)
            if not _is_applied(routes, wanted, policy, owner):
                await _apply(conn, namespace, routes, wanted, owner)
                if policy is not None:
                    await bindings.set_session(conn, namespace, policy, owner)
                version = await bindings.next_version(conn, namespace)
        table, _ = await self._tables.read(namespace)
        return pb.ApplyRoutingResponse(
            version=version, lint=[each for each in map(finding_to_pb, _lint(table)) if each]
        )


async def _apply(
    conn: AsyncConnection,
    namespace: Namespace,
    routes: Routing,
    wanted: tuple[StoredBinding, ...],
    owner: str,
) -> None:
    kept = {stored.binding.id for stored in wanted}
    gone = [
        stored.binding.id
        for stored in routes.bindings
        if stored.managed_by == owner and stored.binding.id not in kept
    ]
    await bindings.remove(conn, namespace, gone)
    for stored in wanted:
        await bindings.put(conn, namespace, stored)


def _is_applied(
    routes: Routing,
    wanted: tuple[StoredBinding, ...],
    policy: SessionPolicy | None,
    owner: str,
) -> bool:
    owned = [stored.binding for stored in routes.bindings if stored.managed_by == owner]
    same = owned == [stored.binding for stored in wanted]
    return same and (policy is None or policy == routes.session)


def _created(namespace: Namespace, stored: StoredBinding, version: int) -> pb.CreateBindingResponse:
    return pb.CreateBindingResponse(
        binding=binding_to_pb(namespace, stored.binding, stored.managed_by, stored.created_at),
        version=version,
    )


def _checked(binding: Binding) -> Binding:
    for field, text in (("agent_id", binding.agent_id), ("match.channel", binding.channel)):
        if not text:
            raise InvalidArgument(
                f"{field} is needed, as in: fased agents bind --agent main --bind telegram:default",
                reason="INVALID_BINDING",
                metadata={"field": field},
            )
    if not binding.is_matchable:
        raise InvalidArgument(
            "match.peer needs a kind (direct, group, channel) and an id",
            reason="INVALID_BINDING",
            metadata={"field": "match.peer"},
        )
    return binding


def _same_match(one: Binding, other: Binding) -> bool:
    def match(binding: Binding) -> tuple[object, ...]:
        return (
            binding.channel,
            binding.account_scope,
            binding.peer,
            binding.guild_id,
            binding.team_id,
            frozenset(binding.role_ids),
        )

    return match(one) == match(other)


def _tag(owner: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, owner).hex[:8]


def _lint(table: RoutingTable) -> tuple[Finding, ...]:
    return tuple(route_lint.lint_bindings(table))
