"""Bindings and messages for tests, and routing's tier table read row by row, without any index.

The table is what the compiled resolver is compared with: slow, and written from behaviour §1 alone.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from fased.core import names
from fased.core.bindings import Binding, BindingPeer, MatchedBy, make_binding
from fased.core.messages import Peer, PeerKind
from fased.core.route_table import RoutingOptions
from fased.core.routing import RouteInput

# Few values, and the plain ones often, so that bindings and messages meet.
PEER_IDS = st.sampled_from(["1", "1", "1", " 1 ", "2", "A", "a", "*", "*", ""])
KINDS = st.sampled_from(["direct", "direct", "DM", "group", "Channel", "room", ""])
PEERS = st.none() | st.builds(Peer, st.sampled_from(PeerKind), PEER_IDS)
BINDING_PEERS = st.none() | st.none() | st.builds(BindingPeer, KINDS, PEER_IDS)
SELECTORS: Mapping[str, st.SearchStrategy[Any]] = {
    "channel": st.sampled_from(["telegram", "telegram", "telegram", " Telegram ", "slack", ""]),
    "account_id": st.sampled_from(["", "", "*", "*", "default", " Biz", "biz", "!!!"]),
    "guild_id": st.sampled_from(["", "", "g1", " g1", "g2"]),
    "team_id": st.sampled_from(["", "", "T1", "t1"]),
    "role_ids": st.lists(st.sampled_from(["r1", "r1 ", "r2", ""]), max_size=2).map(tuple),
}
MESSAGES = st.builds(RouteInput, peer=PEERS, parent_peer=PEERS, **SELECTORS)
# Nothing that is stored lacks an age; what does is older than all.
AGES = st.sampled_from([None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)])
OPTIONS = st.builds(RoutingOptions, st.booleans(), st.booleans())


def binding(position: int, agent: str, channel: str = "telegram", **match: Any) -> Binding:
    """The binding `bindings[position]`; a peer is given as `(kind, id)`."""
    peer = match.pop("peer", None)
    return make_binding(
        id=f"bindings[{position}]",
        position=position,
        agent_id=agent,
        channel=channel,
        peer=BindingPeer(*peer) if peer else None,
        **match,
    )


@st.composite
def binding_lists(draw: st.DrawFn, max_size: int = 12) -> list[Binding]:
    """Bindings `b0`, `b1` … whose positions clash and whose selectors often meet a message's."""
    positions = draw(st.lists(st.integers(0, 5), max_size=max_size))
    return [
        make_binding(
            id=f"b{at}",
            position=position,
            agent_id=draw(st.sampled_from(["a", "b", "ghost", ""])),
            peer=draw(BINDING_PEERS),
            created_at=draw(AGES),
            **{name: draw(values) for name, values in SELECTORS.items()},
        )
        for at, position in enumerate(positions)
    ]


def reference_winner(
    bindings: list[Binding], message: RouteInput, options: RoutingOptions
) -> tuple[Binding | None, MatchedBy]:
    """The binding that wins, and its tier."""
    for tier, belongs in _TIERS.items():
        matching = [
            one
            for one in bindings
            if _selectors_hold(one, message) and belongs(one, message, options)
        ]
        if matching:
            return min(matching, key=_place), tier
    return None, MatchedBy.DEFAULT


def _place(one: Binding) -> tuple[int, float, str]:
    """Smallest position first, then the elder, then the smaller id."""
    return one.position, one.created_at.timestamp() if one.created_at else -1.0, one.id


def _selectors_hold(one: Binding, message: RouteInput) -> bool:
    account = names.canonical_account(message.account_id)
    accounts = {account, "*"} | ({""} if account == "default" else set())
    roles = {role.strip() for role in message.role_ids} - {""}
    return (
        one.channel == message.channel.strip().casefold() != ""
        and one.account_id in accounts
        and one.guild_id in ("", message.guild_id.strip())
        and one.team_id in ("", message.team_id.strip())
        and (not one.role_ids or bool(roles & set(one.role_ids)))
    )


def _is_peer(one: Binding, message: RouteInput, options: RoutingOptions) -> bool:
    return not _is_wildcard(one, options) and _is_same(one.peer, message.peer, options)


def _is_parent(one: Binding, message: RouteInput, options: RoutingOptions) -> bool:
    return not _is_wildcard(one, options) and _is_same(one.peer, message.parent_peer, options)


def _is_any_peer(one: Binding, message: RouteInput, options: RoutingOptions) -> bool:
    if one.peer is None or message.peer is None or not message.peer.id.strip():
        return False
    same_kind = _kind(one.peer.kind, options) == _kind(message.peer.kind, options)
    return _is_wildcard(one, options) and same_kind


def _is_wildcard(one: Binding, options: RoutingOptions) -> bool:
    return options.wildcard_peer and one.peer is not None and one.peer.id == "*"


def _is_same(wanted: BindingPeer | None, peer: Peer | None, options: RoutingOptions) -> bool:
    if wanted is None or peer is None or not peer.id.strip():
        return False
    same_kind = _kind(wanted.kind, options) == _kind(peer.kind, options)
    return same_kind and wanted.id == peer.id.strip()


def _kind(word: str, options: RoutingOptions) -> str:
    return "group" if options.group_channel_alike and word == "channel" else word


_Belongs = Callable[[Binding, RouteInput, RoutingOptions], bool]
_TIERS: dict[MatchedBy, _Belongs] = {
    MatchedBy.PEER: _is_peer,
    MatchedBy.PARENT_PEER: _is_parent,
    MatchedBy.WILDCARD_PEER: _is_any_peer,
    MatchedBy.GUILD_ROLES: lambda one, *_: bool(not one.peer and one.guild_id and one.role_ids),
    MatchedBy.GUILD: lambda one, *_: bool(not one.peer and one.guild_id and not one.role_ids),
    MatchedBy.TEAM: lambda one, *_: bool(not one.peer and not one.guild_id and one.team_id),
    MatchedBy.ACCOUNT: lambda one, *_: _asks_no_more(one) and one.account_id != "*",
    MatchedBy.CHANNEL: lambda one, *_: _asks_no_more(one) and one.account_id == "*",
}


def _asks_no_more(one: Binding) -> bool:
    return not (one.peer or one.guild_id or one.team_id)
