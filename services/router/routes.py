"""RouteService: decides for one message and keeps the bindings. Decides nothing itself."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from fased.api.router.v1 import binding_pb2, router_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import finding_pb2
from fased.core import route_explain, route_lint, routing
from fased.core.bindings import Binding, resource_position
from fased.core.errors import Aborted, InvalidArgument, NotFound
from fased.core.findings import Finding
from fased.core.names import (
    Namespace,
    canonical_id,
    checked_request_id,
    parse_parent,
    parse_resource_name,
)
from fased.core.owners import check_owner, is_resource
from fased.rpc import owner_pages
from fased.store import database
from fased.store.database import Database
from fased.store.owners import Owned
from fased.store.router import bindings, effects
from fased.store.router.bindings import Routing, Settings, StoredBinding
from fased.wire.findings import finding_to_pb
from fased.wire.routes import (
    BINDINGS,
    binding_from_pb,
    binding_to_pb,
    candidate_to_pb,
    check_to_pb,
    decision_to_pb,
    options_from_pb,
    route_input_from_pb,
    session_policy_from_pb,
)
from fased.wire.times import from_timestamp
from services.router import applying
from services.router.tables import RoutingTables


class RouteServicer(router_service_pb2_grpc.RouteServiceServicer):
    """Routes and bindings over gRPC."""

    def __init__(self, rows: Database, tables: RoutingTables) -> None:
        self._engine = rows.engine
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
            lint=_findings(explained.lint),
        )

    async def ListBindings(
        self, request: pb.ListBindingsRequest, context: Any
    ) -> pb.ListBindingsResponse:
        """A namespace's bindings in the order that decides, with what is odd about them."""
        namespace, agent_id = parse_parent(request.parent), canonical_id(request.agent_id)
        async with self._engine.connect() as conn:
            routes = await bindings.read(conn, namespace)
        return pb.ListBindingsResponse(
            bindings=[
                _binding_to_pb(namespace, each)
                for each in routes.bindings
                if agent_id in ("", each.binding.agent_id)
            ],
            version=routes.version,
            lint=await self._lint(namespace),
        )

    async def CreateBinding(
        self, request: pb.CreateBindingRequest, context: Any
    ) -> pb.CreateBindingResponse:
        """Add a binding, or move the one with the same match to another Agent."""
        namespace = parse_parent(request.parent)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._engine.begin() as conn:
            version = await bindings.lock(conn, namespace)
            driver = await database.driver(conn)
            routes = await bindings.read(conn, namespace)
            if made_before := await effects.resource_of(driver, namespace, request_id):
                return _created(namespace, _existing(routes, made_before), version)
            _check_version(request.version, version)
            position = await bindings.next_position(conn, namespace)
            binding = _checked(binding_from_pb(request.binding, _new_id(), position))
            stored = await _put(conn, namespace, routes, binding)
            if stored not in routes.bindings:
                version = await bindings.next_version(conn, namespace)
            await effects.keep_request(driver, namespace, request_id, stored.binding.id)
        return _created(namespace, stored, version)

    async def DeleteBinding(
        self, request: pb.DeleteBindingRequest, context: Any
    ) -> pb.DeleteBindingResponse:
        """Remove a binding."""
        namespace, binding_id = parse_resource_name(request.name, BINDINGS)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._engine.begin() as conn:
            version = await bindings.lock(conn, namespace)
            driver = await database.driver(conn)
            if not await effects.resource_of(driver, namespace, request_id):
                known = _existing(await bindings.read(conn, namespace), binding_id)
                check_owner("binding", binding_id, known.managed_by, "")
                await bindings.remove(conn, namespace, [binding_id])
                version = await bindings.next_version(conn, namespace)
                await effects.keep_request(driver, namespace, request_id, binding_id)
        return pb.DeleteBindingResponse(version=version)

    async def ApplyRouting(
        self, request: pb.ApplyRoutingRequest, context: Any
    ) -> pb.ApplyRoutingResponse:
        """Make one owner's bindings, session policy and options what the request says."""
        namespace = parse_parent(request.parent)
        wanted = _wanted(request)
        async with self._engine.begin() as conn:
            version = await applying.apply(conn, namespace, wanted)
        # There are many resources, each with an apply of its own: CheckBindings tells of them all.
        lint = [] if is_resource(wanted.owner) else await self._lint(namespace)
        return pb.ApplyRoutingResponse(version=version, lint=lint)

    async def ListRoutingOwners(
        self, request: pb.ListRoutingOwnersRequest, context: Any
    ) -> pb.ListRoutingOwnersResponse:
        """Who defines routing rules from elsewhere."""
        async with self._engine.begin() as conn:
            driver = await database.driver(conn)
            found, token = await owner_pages.read(driver, Owned.ROUTING, request)
        return pb.ListRoutingOwnersResponse(owners=found, next_page_token=token)

    async def CheckBindings(
        self, request: pb.CheckBindingsRequest, context: Any
    ) -> pb.CheckBindingsResponse:
        """What each of a namespace's bindings does among the others."""
        namespace = parse_parent(request.parent)
        table, _ = await self._tables.read(namespace)
        async with self._engine.connect() as conn:
            routes = await bindings.read(conn, namespace)
        owned_by = {each.binding.id: each.managed_by for each in routes.bindings}
        return pb.CheckBindingsResponse(
            checks=[
                check_to_pb(namespace, check, owned_by.get(check.binding.id, ""))
                for check in route_lint.check_bindings(table)
            ]
        )

    async def _lint(self, namespace: Namespace) -> list[finding_pb2.Finding]:
        table, _ = await self._tables.read(namespace)
        return _findings(route_lint.lint_bindings(table))


async def _put(
    conn: AsyncConnection, namespace: Namespace, routes: Routing, binding: Binding
) -> StoredBinding:
    """The binding stored, in the place of the one for the same messages if there is one."""
    for known in routes.bindings:
        if known.binding.selectors == binding.selectors:
            check_owner("binding", known.binding.id, known.managed_by, "")
            if known.binding.agent_id == binding.agent_id:
                return known
            moved = replace(known.binding, agent_id=binding.agent_id)
            return await bindings.put(conn, namespace, StoredBinding(moved))
    return await bindings.put(conn, namespace, StoredBinding(binding))


def _wanted(request: pb.ApplyRoutingRequest) -> applying.Wanted:
    owner = request.managed_by
    settings = None
    if request.HasField("session") or request.HasField("options"):
        settings = Settings(
            session_policy_from_pb(request.session), options_from_pb(request.options), owner
        )
    return applying.Wanted(
        owner,
        tuple(
            StoredBinding(_owned(each, place, owner), owner)
            for place, each in enumerate(request.bindings)
        ),
        settings,
        request.generation,
    )


def _owned(binding: binding_pb2.Binding, place: int, owner: str) -> Binding:
    """A binding at its owner's place: a file's by the file's order, a resource's by its own."""
    binding_id = parse_resource_name(binding.name, BINDINGS)[1]
    if not is_resource(owner):
        return binding_from_pb(binding, binding_id, place)
    made_at = from_timestamp(binding, "create_time")
    position = resource_position(binding.order)
    return _checked(binding_from_pb(binding, binding_id, position, made_at))


def _existing(routes: Routing, binding_id: str) -> StoredBinding:
    for known in routes.bindings:
        if known.binding.id == binding_id:
            return known
    raise NotFound(
        f"there is no binding {binding_id[:80]}; list them with: fased agents list --bindings",
        reason="BINDING_MISSING",
        metadata={"field": "name"},
    )


def _check_version(read: int, now: int) -> None:
    if read and read != now:
        raise Aborted(
            "the bindings were changed meanwhile; read them again",
            reason="VERSION_MISMATCH",
            metadata={"field": "version"},
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


def _created(namespace: Namespace, stored: StoredBinding, version: int) -> pb.CreateBindingResponse:
    return pb.CreateBindingResponse(binding=_binding_to_pb(namespace, stored), version=version)


def _binding_to_pb(namespace: Namespace, stored: StoredBinding) -> binding_pb2.Binding:
    return binding_to_pb(namespace, stored.binding, stored.managed_by)


def _findings(findings: Iterable[Finding]) -> list[finding_pb2.Finding]:
    return [each for each in map(finding_to_pb, findings) if each]


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
