"""Explains a route: the decision, and for every other binding why it did not win.

Decides what is said of the losers, one binding at a time and without the compiled index, so that
it is a second opinion on `routing.py`. It is for people: its cost grows with the bindings.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fased.core import route_lint, routing
from fased.core.bindings import ANY_ACCOUNT, Binding, MatchedBy, tier_of
from fased.core.findings import Finding
from fased.core.messages import Peer
from fased.core.names import AccountId, ChannelId
from fased.core.route_table import RoutingTable, compared_kind
from fased.core.routing import RouteDecision, RouteInput


class Failed(StrEnum):
    """The first selector of a binding that does not fit, or that all fit and another won."""

    CHANNEL = "channel"
    ACCOUNT = "account"
    PEER = "peer"
    GUILD = "guild"
    ROLES = "roles"
    TEAM = "team"
    OUTRANKED = "OUTRANKED"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A binding that did not win. `tier` is None for one that no message can fit."""

    binding: Binding
    tier: MatchedBy | None
    failed: Failed
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with every loser, in configuration order, and what is odd about the bindings."""

    decision: RouteDecision
    candidates: tuple[Candidate, ...]
    lint: tuple[Finding, ...]


def explain_route(
    table: RoutingTable,
    message: RouteInput,
    accounts: Mapping[ChannelId, Collection[AccountId]] | None = None,
) -> Explanation:
    """Where a message goes, and why every other binding of the table did not get it.

    The lint is that of the message's channel; `accounts` are the known accounts by channel.
    """
    decision = routing.resolve_route(table, message)
    losers = (one for one in table.bindings.values() if one is not decision.binding)
    return Explanation(
        decision,
        tuple(
            _judge(table, message, decision, binding)
            for binding in sorted(losers, key=lambda one: one.order)
        ),
        tuple(route_lint.lint_bindings(table, accounts, channel=decision.channel)),
    )


def _judge(
    table: RoutingTable, message: RouteInput, decision: RouteDecision, binding: Binding
) -> Candidate:
    tier = _tier(table, message, binding)
    failed = _failed_selector(table, message, decision, binding)
    return Candidate(binding, tier, failed, _sentence(decision, binding, tier, failed))


def _tier(table: RoutingTable, message: RouteInput, binding: Binding) -> MatchedBy | None:
    """The tier a binding could win in; a peer's is the parent's where only the parent is it."""
    if not binding.is_matchable:
        return None
    tier = tier_of(binding, table.options.wildcard_peer)
    if tier is not MatchedBy.PEER or _is_peer(table, binding, message.peer):
        return tier
    return MatchedBy.PARENT_PEER if _is_peer(table, binding, message.parent_peer) else tier


def _failed_selector(
    table: RoutingTable, message: RouteInput, decision: RouteDecision, binding: Binding
) -> Failed:
    roles = {role.strip() for role in message.role_ids} - {""}
    fits = {
        Failed.CHANNEL: bool(binding.channel) and binding.channel == decision.channel,
        Failed.ACCOUNT: binding.account_scope in (ANY_ACCOUNT, decision.account_id),
        Failed.PEER: binding.peer is None
        or _is_peer(table, binding, message.peer)
        or _is_peer(table, binding, message.parent_peer, is_parent=True),
        Failed.GUILD: binding.guild_id in ("", message.guild_id.strip()),
        Failed.ROLES: not binding.role_ids or not roles.isdisjoint(binding.role_ids),
        Failed.TEAM: binding.team_id in ("", message.team_id.strip()),
    }
    return next((selector for selector, holds in fits.items() if not holds), Failed.OUTRANKED)


def _is_peer(
    table: RoutingTable, binding: Binding, peer: Peer | None, *, is_parent: bool = False
) -> bool:
    """Whether a binding is about this peer; a wildcard is about no parent."""
    compared = routing.peer_key(peer, table.options)
    if binding.peer is None or compared is None:
        return False
    kind = compared_kind(binding.peer.kind, table.options)
    if tier_of(binding, table.options.wildcard_peer) is MatchedBy.WILDCARD_PEER:
        return kind == compared[0] and not is_parent
    return (kind, binding.peer.id) == compared


def _sentence(
    decision: RouteDecision, binding: Binding, tier: MatchedBy | None, failed: Failed
) -> str:
    if binding.peer is not None and not binding.peer.is_valid:
        return "Its peer is not valid, so that it matches nothing."
    peer = f"{binding.peer.kind} {binding.peer.id}" if binding.peer else ""
    sentences = {
        Failed.CHANNEL: f"It is for the channel {binding.channel or '(none)'}.",
        Failed.ACCOUNT: f"It is for the account {binding.account_scope}, "
        f"not for {decision.account_id}.",
        Failed.PEER: f"It is for the chat {peer}.",
        Failed.GUILD: f"It is for the guild {binding.guild_id}.",
        Failed.ROLES: f"It is for the roles {', '.join(binding.role_ids)}, "
        "of which the sender has none.",
        Failed.TEAM: f"It is for the team {binding.team_id}.",
        Failed.OUTRANKED: _outranked_sentence(decision, tier),
    }
    return sentences[failed]


def _outranked_sentence(decision: RouteDecision, tier: MatchedBy | None) -> str:
    if decision.binding is None:
        return "It fits, but the Agent picked for this conversation goes first."
    why = "comes first" if decision.matched_by is tier else "is more specific"
    return f"It fits, but the binding {decision.binding.id} {why}."
