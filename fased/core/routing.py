"""Routing: which Agent and which conversation a message belongs to, and why.

Decides the winner (behaviour §1). It does not explain the losers (`route_explain.py`), does not
judge a set of bindings (`route_lint.py`), and gates nothing: a message that comes here may be
answered.
"""

from dataclasses import dataclass
from functools import lru_cache

from fased.core import names, sessions
from fased.core.bindings import ANY_ACCOUNT, Binding, MatchedBy
from fased.core.findings import Finding
from fased.core.messages import Attachment, InboundEvent, Peer, Thread
from fased.core.names import AccountId, AgentId, ChannelId, SessionKey
from fased.core.route_table import TIERS, RoutingOptions, RoutingTable, compared_kind

_REASONS = {
    MatchedBy.PEER: ("MATCHED_PEER", "names this chat"),
    MatchedBy.PARENT_PEER: ("MATCHED_PARENT_PEER", "names the chat this thread belongs to"),
    MatchedBy.WILDCARD_PEER: ("MATCHED_WILDCARD_PEER", "names every chat of this kind"),
    MatchedBy.GUILD_ROLES: ("MATCHED_GUILD_ROLES", "names this guild and a role of the sender"),
    MatchedBy.GUILD: ("MATCHED_GUILD", "names this guild"),
    MatchedBy.TEAM: ("MATCHED_TEAM", "names this team"),
    MatchedBy.ACCOUNT: ("MATCHED_ACCOUNT", "names this account"),
    MatchedBy.CHANNEL: ("MATCHED_CHANNEL", "names every account of this channel"),
    MatchedBy.DEFAULT: ("DEFAULT_FALLBACK", ""),
    MatchedBy.ATTACHED: ("ATTACHED", ""),
}
# Tiers below the peers compare none: the empty peer of a binding without one.
_NO_PEERS = (("", ""),) * (len(TIERS) - 3)
_NO_ROLE = ("",)
# There are few channels and accounts, and each message names one of them again.
_canonical_channel = lru_cache(maxsize=256)(names.canonical_channel)
_canonical_account = lru_cache(maxsize=4096)(names.canonical_account)


@dataclass(frozen=True, slots=True)
class RouteInput:
    """What routing looks at in a message, as the channel wrote it; all but the channel may be
    missing.
    """

    channel: str
    account_id: str = ""
    peer: Peer | None = None
    parent_peer: Peer | None = None
    guild_id: str = ""
    role_ids: tuple[str, ...] = ()
    team_id: str = ""
    thread: Thread | None = None
    attached: Attachment | None = None


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Where a message goes, and why.

    `session_identity` is the session key with the case of the platform's ids kept: a session with
    this key and another identity belongs to another chat. `binding` is None for `attached`, and
    for `default`, which is a fallback and no assignment.
    """

    agent_id: AgentId
    channel: ChannelId
    account_id: AccountId
    session_key: SessionKey
    session_identity: str
    matched_by: MatchedBy
    binding: Binding | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def main_session_key(self) -> SessionKey:
        """The key of the Agent's main session."""
        return sessions.main_key(self.agent_id)

    @property
    def reason(self) -> str:
        """The machine reason, UPPER_SNAKE: the first finding's, if there is one."""
        return self.findings[0].reason if self.findings else _REASONS[self.matched_by][0]

    @property
    def message(self) -> str:
        """One sentence for a person."""
        if self.findings:
            return self.findings[0].message
        if self.matched_by is MatchedBy.ATTACHED:
            return f"Agent {self.agent_id} answers: it was picked for this conversation."
        if self.binding is None:
            return f"No binding matches; the default Agent {self.agent_id} answers as a fallback."
        why = _REASONS[self.matched_by][1]
        return f"Agent {self.agent_id} answers: the binding {self.binding.id} {why}."


def route_input(event: InboundEvent) -> RouteInput:
    """What routing looks at in an inbound event."""
    return RouteInput(
        channel=event.channel,
        account_id=event.account_id,
        peer=event.peer,
        parent_peer=event.parent_peer,
        guild_id=event.guild_id,
        role_ids=event.role_ids,
        team_id=event.team_id,
        thread=event.thread,
        attached=event.attached,
    )


def resolve_route(table: RoutingTable, message: RouteInput) -> RouteDecision:
    """Where a message goes; the same table and message always give the same decision.

    A conversation that a person attached to an Agent goes to that one, unless a binding names
    this very chat, which is what `/agent switch` writes.
    """
    channel = _canonical_channel(message.channel)
    account_id = _canonical_account(message.account_id)
    binding, matched_by = _winner(table, channel, account_id, message)
    if message.attached is not None and matched_by is not MatchedBy.PEER:
        return _attached_decision(table, channel, account_id, message.attached)
    agent_id = table.default_agent
    findings: tuple[Finding, ...] = ()
    if binding is not None:
        if table.has_agent(binding.agent_id):
            agent_id = binding.agent_id
        else:
            findings = (missing_target(table, binding),)
    identity = sessions.conversation_identity(
        table.session, agent_id, channel, account_id, message.peer, message.thread
    )
    return RouteDecision(
        agent_id=agent_id,
        channel=channel,
        account_id=account_id,
        session_key=sessions.session_key(identity),
        session_identity=identity,
        matched_by=matched_by,
        binding=binding,
        findings=findings,
    )


def missing_target(table: RoutingTable, binding: Binding) -> Finding:
    """What is said of a binding whose Agent does not exist."""
    named = f"Agent {binding.agent_id}, which does not exist" if binding.agent_id else "no Agent"
    return Finding(
        "BINDING_TARGET_MISSING",
        f"The binding {binding.id} names {named}; the default Agent {table.default_agent} answers.",
        f"{binding.id}.agentId",
    )


def peer_key(peer: Peer | None, options: RoutingOptions) -> tuple[str, str] | None:
    """A message's peer as bindings are compared with it; None where it has none to compare."""
    if peer is None or not (peer_id := peer.id.strip()):
        return None
    return compared_kind(peer.kind, options), peer_id


def _winner(
    table: RoutingTable, channel: ChannelId, account_id: AccountId, message: RouteInput
) -> tuple[Binding | None, MatchedBy]:
    index = table.channels.get(channel)
    if index is None:
        return None, MatchedBy.DEFAULT
    peers = _peers_by_rank(table.options, message)
    guild_id = message.guild_id.strip()
    team_id = message.team_id.strip()
    best: Binding | None = None
    best_rank = len(TIERS)
    for rank, any_account, asks_guild, asks_team, asks_role in index.probes:
        if rank > best_rank:
            break
        peer = peers[rank]
        if peer is None or (asks_guild and not guild_id) or (asks_team and not team_id):
            continue
        scope = ANY_ACCOUNT if any_account else account_id
        guild = guild_id if asks_guild else ""
        team = team_id if asks_team else ""
        for role in _roles(message) if asks_role else _NO_ROLE:
            bucket = index.buckets.get((scope, peer[0], peer[1], guild, team, role))
            if bucket is not None and (best is None or bucket[0].order < best.order):
                best, best_rank = bucket[0], rank
    return best, MatchedBy.DEFAULT if best is None else TIERS[best_rank]


def _peers_by_rank(
    options: RoutingOptions, message: RouteInput
) -> tuple[tuple[str, str] | None, ...]:
    """The peer each tier compares, by rank; None where the message has none for it."""
    peer = peer_key(message.peer, options)
    parent = peer_key(message.parent_peer, options) if message.parent_peer else None
    wildcard = (peer[0], "") if peer else None
    return (peer, parent, wildcard, *_NO_PEERS)


def _roles(message: RouteInput) -> list[str]:
    return [role for given in message.role_ids if (role := given.strip())]


def _attached_decision(
    table: RoutingTable, channel: ChannelId, account_id: AccountId, attached: Attachment
) -> RouteDecision:
    agent_id = AgentId(names.canonical_id(attached.agent_id)) or table.default_agent
    findings: tuple[Finding, ...] = ()
    if not table.has_agent(agent_id):
        findings = (
            Finding(
                "ATTACHED_AGENT_MISSING",
                f"Agent {agent_id}, picked for this conversation, does not exist; "
                f"the default Agent {table.default_agent} answers.",
                "agents.list",
            ),
        )
        agent_id = table.default_agent
    picked = sessions.session_key(attached.session_key or "")
    prefix = f"agent:{agent_id}:"
    # Only a session of that very Agent: a page must not reach into another Agent's transcript.
    is_own = picked.startswith(prefix) and picked != prefix
    key = picked if is_own else sessions.main_key(agent_id)
    return RouteDecision(
        agent_id=agent_id,
        channel=channel,
        account_id=account_id,
        session_key=key,
        session_identity=key,
        matched_by=MatchedBy.ATTACHED,
        findings=findings,
    )
