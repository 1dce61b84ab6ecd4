"""Routes, bindings and sessions between core and protobuf; nothing else."""

from datetime import datetime

from fased.api.router.v1 import binding_pb2, route_pb2, router_service_pb2, session_pb2
from fased.api.types.v1 import message_pb2
from fased.core import zones
from fased.core.bindings import RESOURCE_POSITION, Binding, BindingPeer, make_binding
from fased.core.errors import InvalidArgument
from fased.core.messages import PeerKind
from fased.core.names import Namespace, resource_name
from fased.core.owners import is_resource
from fased.core.route_explain import Candidate
from fased.core.route_lint import BindingCheck
from fased.core.route_table import RoutingOptions
from fased.core.routing import RouteDecision, RouteInput
from fased.core.sessions import DmScope, ResetPolicy, SessionKind, SessionPolicy
from fased.core.stored_session import Session
from fased.wire.findings import finding_to_pb
from fased.wire.messages import attachment_from_pb, peer_from_pb, thread_from_pb
from fased.wire.times import from_duration, to_duration, to_timestamp

BINDINGS = "bindings"
SESSIONS = "sessions"
_PEER_KINDS = {
    PeerKind.DIRECT: message_pb2.PEER_KIND_DIRECT,
    PeerKind.GROUP: message_pb2.PEER_KIND_GROUP,
    PeerKind.CHANNEL: message_pb2.PEER_KIND_CHANNEL,
}
_PEER_KINDS_BACK = {number: kind for kind, number in _PEER_KINDS.items()}


def binding_to_pb(
    namespace: Namespace, binding: Binding, managed_by: str = ""
) -> binding_pb2.Binding:
    """A binding; a peer of unknown kind travels as unspecified."""
    peer = None
    if binding.peer is not None:
        kind = _PEER_KINDS.get(binding.peer.kind)  # type: ignore[call-overload]  # a plain word
        peer = message_pb2.Peer(kind=kind, id=binding.peer.id)
    return binding_pb2.Binding(
        name=resource_name(namespace, BINDINGS, binding.id),
        agent_id=binding.agent_id,
        match=binding_pb2.Match(
            channel=binding.channel,
            account_id=binding.account_id,
            peer=peer,
            guild_id=binding.guild_id,
            role_ids=binding.role_ids,
            team_id=binding.team_id,
        ),
        position=binding.position,
        managed_by=managed_by,
        create_time=to_timestamp(binding.created_at),
        order=binding.position - RESOURCE_POSITION if is_resource(managed_by) else 0,
    )


def binding_from_pb(
    binding: binding_pb2.Binding,
    binding_id: str,
    position: int,
    created_at: datetime | None = None,
) -> Binding:
    """A binding under the id and place given, made now unless it is said when."""
    match = binding.match
    peer = None
    if match.HasField("peer"):
        kind = _PEER_KINDS_BACK.get(match.peer.kind)
        peer = BindingPeer(str(kind) if kind else "unknown", match.peer.id)
    return make_binding(
        id=binding_id,
        position=position,
        agent_id=binding.agent_id,
        channel=match.channel,
        account_id=match.account_id,
        peer=peer,
        guild_id=match.guild_id,
        team_id=match.team_id,
        role_ids=tuple(match.role_ids),
        created_at=created_at,
    )


def session_policy_to_pb(policy: SessionPolicy) -> binding_pb2.SessionPolicy:
    """A session policy."""
    return binding_pb2.SessionPolicy(
        dm_scope=policy.dm_scope,
        identity_links=[
            binding_pb2.IdentityLink(name=name, ids=ids)
            for name, ids in policy.identity_links.items()
        ],
        resets=[
            binding_pb2.ResetRule(
                kind=kind,
                daily_hour=rule.daily_hour,
                timezone=rule.zone,
                idle=to_duration(rule.idle),
            )
            for kind, rule in policy.reset.items()
        ],
    )


def options_to_pb(options: RoutingOptions) -> binding_pb2.RoutingOptions:
    """Routing options."""
    return binding_pb2.RoutingOptions(
        wildcard_peer=options.wildcard_peer, group_channel_alike=options.group_channel_alike
    )


def options_from_pb(options: binding_pb2.RoutingOptions) -> RoutingOptions:
    """Routing options."""
    return RoutingOptions(options.wildcard_peer, options.group_channel_alike)


def session_policy_from_pb(policy: binding_pb2.SessionPolicy) -> SessionPolicy:
    """A session policy; an unknown scope counts as main.

    Raises InvalidArgument for an unknown kind or zone, and an hour the clock does not show.
    """
    known = set(DmScope)
    return SessionPolicy(
        dm_scope=DmScope(policy.dm_scope) if policy.dm_scope in known else DmScope.MAIN,
        identity_links={link.name: tuple(link.ids) for link in policy.identity_links},
        reset=dict(_reset_from_pb(rule) for rule in policy.resets),
    )


def _reset_from_pb(rule: binding_pb2.ResetRule) -> tuple[SessionKind, ResetPolicy]:
    if rule.kind not in tuple(SessionKind):
        raise _invalid_reset("kind", f"{rule.kind[:40]!r} is none of {', '.join(SessionKind)}")
    if not 0 <= rule.daily_hour <= 23:
        raise _invalid_reset("daily_hour", f"{rule.daily_hour} is not from 0 to 23")
    return SessionKind(rule.kind), ResetPolicy(
        daily_hour=rule.daily_hour if rule.HasField("daily_hour") else None,
        zone=zones.find_zone(rule.timezone).key,
        idle=from_duration(rule, "idle"),
    )


def _invalid_reset(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"session.resets.{field}: {why}",
        reason="INVALID_RESET",
        metadata={"field": f"session.resets.{field}"},
    )


def route_input_from_pb(request: router_service_pb2.ResolveRouteRequest) -> RouteInput:
    """What routing looks at in a request."""
    return RouteInput(
        channel=request.channel,
        account_id=request.account_id,
        peer=peer_from_pb(request.peer) if request.HasField("peer") else None,
        parent_peer=peer_from_pb(request.parent_peer) if request.HasField("parent_peer") else None,
        guild_id=request.guild_id,
        role_ids=tuple(request.role_ids),
        team_id=request.team_id,
        thread=thread_from_pb(request.thread) if request.HasField("thread") else None,
        attached=attachment_from_pb(request.attached) if request.HasField("attached") else None,
    )


def decision_to_pb(namespace: Namespace, decision: RouteDecision) -> route_pb2.RouteDecision:
    """A decision with its reasons."""
    binding = decision.binding
    return route_pb2.RouteDecision(
        agent_id=decision.agent_id,
        channel=decision.channel,
        account_id=decision.account_id,
        session_key=decision.session_key,
        main_session_key=decision.main_session_key,
        matched_by=decision.matched_by,
        binding=None if binding is None else binding_to_pb(namespace, binding),
        message=decision.message,
        findings=[each for each in map(finding_to_pb, decision.findings) if each],
    )


def candidate_to_pb(namespace: Namespace, candidate: Candidate) -> route_pb2.RouteCandidate:
    """A binding that did not win."""
    return route_pb2.RouteCandidate(
        binding=binding_to_pb(namespace, candidate.binding),
        tier=candidate.tier or "",
        failed=candidate.failed,
        message=candidate.message,
    )


def check_to_pb(
    namespace: Namespace, check: BindingCheck, managed_by: str
) -> binding_pb2.BindingCheck:
    """What a binding does among the others."""
    return binding_pb2.BindingCheck(
        binding=binding_to_pb(namespace, check.binding, managed_by),
        matched_by=check.matched_by or "",
        shadowed_by=check.shadowed_by,
        tied_with=check.tied_with,
        findings=[each for each in map(finding_to_pb, check.findings) if each],
    )


def session_to_pb(session: Session) -> session_pb2.Session:
    """A session's row."""
    return session_pb2.Session(
        name=resource_name(session.namespace, SESSIONS, session.session_key),
        agent_id=session.agent_id,
        session_key=session.session_key,
        session_id=session.session_id,
        title=session.title,
        active_key=session.active_key,
        base_key=session.base_key,
        channel=session.channel,
        account_id=session.account_id,
        peer_id=session.peer_id,
        model=session.model,
        create_time=to_timestamp(session.created_at),
        last_message_time=to_timestamp(session.last_message_at),
        closed=session.closed_at is not None,
    )
