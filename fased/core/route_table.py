"""The compiled form of a set of bindings: immutable, cheap to ask, cheap to change by one.

Decides how bindings are indexed and in which order their shapes are asked for; not what a message
asks (`routing.py`).

A channel's bindings are held by the exact values they ask for: account, peer kind, peer id, guild,
team and role. A *probe* names the values that one shape of binding uses; a message asks once per
shape that is configured, in tier order, and the first of a bucket is the winner. Nothing is
searched, so that ten thousand bindings cost what ten do.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import NamedTuple

from fased.core.bindings import ANY_ACCOUNT, Binding, MatchedBy, tier_of
from fased.core.messages import PeerKind
from fased.core.names import DEFAULT_AGENT, AgentId, ChannelId
from fased.core.sessions import SessionPolicy

# The account, peer kind, peer id, guild, team and role asked for; "" for what is not. A wildcard
# peer is a kind without an id, which no message's peer is.
SelectorKey = tuple[str, str, str, str, str, str]

# The tiers a binding can win in, best first; a probe's rank is an index here.
TIERS = (
    MatchedBy.PEER,
    MatchedBy.PARENT_PEER,
    MatchedBy.WILDCARD_PEER,
    MatchedBy.GUILD_ROLES,
    MatchedBy.GUILD,
    MatchedBy.TEAM,
    MatchedBy.ACCOUNT,
    MatchedBy.CHANNEL,
)
_BY_ORDER = attrgetter("order")


@dataclass(frozen=True, slots=True)
class RoutingOptions:
    """What may be switched on: peers `{kind, id: "*"}`, and groups and channels treated alike."""

    wildcard_peer: bool = False
    group_channel_alike: bool = False


class Probe(NamedTuple):
    """One shape of binding in one tier: the tier's rank and the values it uses."""

    rank: int
    any_account: bool
    guild: bool
    team: bool
    role: bool


@dataclass(frozen=True, slots=True)
class ChannelIndex:
    """One channel's bindings by what they ask for; each bucket is in configuration order.

    `shapes` counts the bindings of each probe, so that the last of a shape takes its probe along;
    `probes` are its keys in tier order.
    """

    buckets: Mapping[SelectorKey, tuple[Binding, ...]]
    shapes: Mapping[Probe, int]
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Compiled bindings; `compile_table` makes one, and nothing changes it in place.

    With no `agents` known every id is taken as written: there is nothing to check against.
    """

    bindings: Mapping[str, Binding]
    agents: frozenset[AgentId]
    default_agent: AgentId
    session: SessionPolicy
    options: RoutingOptions
    channels: Mapping[ChannelId, ChannelIndex] = field(repr=False)

    def has_agent(self, agent_id: AgentId) -> bool:
        """Whether the Agent exists, as far as is known here."""
        return agent_id in self.agents if self.agents else bool(agent_id)


def compile_table(
    bindings: Iterable[Binding],
    *,
    agents: Iterable[AgentId] = (),
    default_agent: AgentId = DEFAULT_AGENT,
    session: SessionPolicy | None = None,
    options: RoutingOptions | None = None,
) -> RoutingTable:
    """The table for a set of bindings with distinct ids, in whatever order they come."""
    options = options or RoutingOptions()
    by_id = {binding.id: binding for binding in bindings}
    drafts: dict[ChannelId, _Draft] = {}
    for binding in sorted(by_id.values(), key=_BY_ORDER):
        if binding.is_matchable:
            drafts.setdefault(binding.channel, _Draft({}, {})).insert(binding, options)
    return RoutingTable(
        bindings=by_id,
        agents=frozenset(agents),
        default_agent=default_agent,
        session=session or SessionPolicy(),
        options=options,
        channels={channel: draft.index() for channel, draft in drafts.items()},
    )


def with_binding(table: RoutingTable, binding: Binding) -> RoutingTable:
    """The table with a binding added, or replaced where its id is known."""
    return _edited(table, table.bindings.get(binding.id), binding)


def without_binding(table: RoutingTable, binding_id: str) -> RoutingTable:
    """The table without a binding; the same table where none has that id."""
    known = table.bindings.get(binding_id)
    return table if known is None else _edited(table, known, None)


def with_agents(
    table: RoutingTable, agents: Iterable[AgentId], default_agent: AgentId
) -> RoutingTable:
    """The table with other Agents known."""
    return replace(table, agents=frozenset(agents), default_agent=default_agent)


def compared_kind(kind: str, options: RoutingOptions) -> str:
    """The peer kind as it is compared: `channel` counts as `group` where they are alike."""
    if options.group_channel_alike and kind == PeerKind.CHANNEL:
        return PeerKind.GROUP.value
    return kind


def selector_keys(binding: Binding, options: RoutingOptions) -> Iterator[SelectorKey]:
    """The values a matchable binding asks for: one key per role, since any of them will do."""
    kind = peer_id = ""
    if binding.peer is not None:
        is_wildcard = tier_of(binding, options.wildcard_peer) is MatchedBy.WILDCARD_PEER
        kind = compared_kind(binding.peer.kind, options)
        peer_id = "" if is_wildcard else binding.peer.id
    # A blank role is nobody's; as a key it would stand for a binding without roles.
    roles = [role for role in binding.role_ids if role] if binding.role_ids else [""]
    for role in roles:
        yield (binding.account_scope, kind, peer_id, binding.guild_id, binding.team_id, role)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A channel's index while it is built: the only place where its dictionaries change."""

    buckets: dict[SelectorKey, tuple[Binding, ...]]
    shapes: dict[Probe, int]

    def insert(self, binding: Binding, options: RoutingOptions) -> None:
        for key in selector_keys(binding, options):
            bucket = self.buckets.get(key, ())
            at = bisect_left(bucket, binding.order, key=_BY_ORDER)
            self.buckets[key] = (*bucket[:at], binding, *bucket[at:])
        for probe in _probes(binding, options):
            self.shapes[probe] = self.shapes.get(probe, 0) + 1

    def remove(self, binding: Binding, options: RoutingOptions) -> None:
        for key in selector_keys(binding, options):
            self.buckets[key] = tuple(kept for kept in self.buckets[key] if kept is not binding)
            if not self.buckets[key]:
                del self.buckets[key]
        for probe in _probes(binding, options):
            self.shapes[probe] -= 1
            if not self.shapes[probe]:
                del self.shapes[probe]

    def index(self) -> ChannelIndex:
        return ChannelIndex(self.buckets, self.shapes, tuple(sorted(self.shapes)))


def _edited(table: RoutingTable, removed: Binding | None, added: Binding | None) -> RoutingTable:
    """The table after one change. Copies only the registry and the channels concerned."""
    bindings = dict(table.bindings)
    drafts: dict[ChannelId, _Draft] = {}
    if removed is not None:
        del bindings[removed.id]
        if removed.is_matchable:
            _draft(table, drafts, removed.channel).remove(removed, table.options)
    if added is not None:
        bindings[added.id] = added
        if added.is_matchable:
            _draft(table, drafts, added.channel).insert(added, table.options)
    channels = dict(table.channels)
    for channel, draft in drafts.items():
        channels[channel] = draft.index()
        if not draft.shapes:
            del channels[channel]
    return replace(table, bindings=bindings, channels=channels)


def _draft(table: RoutingTable, drafts: dict[ChannelId, _Draft], channel: ChannelId) -> _Draft:
    if channel not in drafts:
        index = table.channels.get(channel)
        known = (dict(index.buckets), dict(index.shapes)) if index else ({}, {})
        drafts[channel] = _Draft(*known)
    return drafts[channel]


def _probes(binding: Binding, options: RoutingOptions) -> Iterator[Probe]:
    tier = tier_of(binding, options.wildcard_peer)
    tiers = (tier, MatchedBy.PARENT_PEER) if tier is MatchedBy.PEER else (tier,)
    for one in tiers:
        yield Probe(
            TIERS.index(one),
            binding.account_scope == ANY_ACCOUNT,
            bool(binding.guild_id),
            bool(binding.team_id),
            bool(binding.role_ids),
        )
