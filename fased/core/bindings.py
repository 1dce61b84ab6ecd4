"""Bindings as values: which messages a rule is about, and which Agent it names.

Decides how selectors are spelled and which tier a binding belongs to; not which binding wins
(`routing.py`) and not whether a set of bindings makes sense (`route_lint.py`).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from fased.core.errors import InvalidArgument
from fased.core.messages import PeerKind
from fased.core.names import (
    DEFAULT_ACCOUNT,
    AccountId,
    AgentId,
    ChannelId,
    canonical_account,
    canonical_channel,
    canonical_id,
)

ANY_ACCOUNT = AccountId("*")
OMITTED_ACCOUNT = AccountId("")
ANY_PEER = "*"

# Places in the order: a chat's own choice before all, a file's bindings from 0 in the file's
# order, resources' around this place by their own order, and those made by command from the last
# on, however many the others add later.
CHAT_POSITION = -1
RESOURCE_POSITION = 500_000
COMMAND_POSITION = 1_000_000
MAX_ORDER = 1000

_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


class MatchedBy(StrEnum):
    """Why a message went where it went; the binding tiers are in order of precedence."""

    PEER = "binding.peer"
    PARENT_PEER = "binding.peer.parent"
    WILDCARD_PEER = "binding.peer.wildcard"
    GUILD_ROLES = "binding.guild+roles"
    GUILD = "binding.guild"
    TEAM = "binding.team"
    ACCOUNT = "binding.account"
    CHANNEL = "binding.channel"
    DEFAULT = "default"
    ATTACHED = "attached"


@dataclass(frozen=True, slots=True)
class BindingPeer:
    """The chat a binding is about, as configured.

    `kind` is one of `direct`, `group`, `channel`, or the unknown word that stood there; such a
    peer, and one without an id, matches nothing.
    """

    kind: str
    id: str

    @property
    def is_valid(self) -> bool:
        """Whether any message can be about this chat."""
        return bool(self.id) and self.kind in _PEER_KINDS


@dataclass(frozen=True, slots=True)
class Binding:
    """A rule: messages that fit every selector given go to the Agent.

    `id` is unique among the bindings of a namespace (`bindings[3]` for the fourth of a file).
    `position` is the place in configuration order, equal places by age, then by `id`. `agent_id`
    is `""` where none was named. `account_id` is `""` where it was left out, which means the
    account `default`, and `*` for all accounts. `role_ids` may hold `""`, which nobody has. Make
    one with `make_binding`: the other fields are compared as they stand.
    """

    id: str
    position: int
    agent_id: AgentId
    channel: ChannelId
    account_id: AccountId = OMITTED_ACCOUNT
    peer: BindingPeer | None = None
    guild_id: str = ""
    team_id: str = ""
    role_ids: tuple[str, ...] = ()
    created_at: datetime | None = field(default=None, compare=False)

    @property
    def account_scope(self) -> AccountId:
        """The account it holds for, `*` for all."""
        return self.account_id or DEFAULT_ACCOUNT

    @property
    def is_matchable(self) -> bool:
        """Whether any message at all can fit."""
        return bool(self.channel) and (self.peer is None or self.peer.is_valid)

    @property
    def selectors(self) -> tuple[object, ...]:
        """All it asks for: equal for two bindings that fit the very same messages."""
        roles = frozenset(self.role_ids)
        return self.channel, self.account_scope, self.peer, self.guild_id, self.team_id, roles

    @property
    def order(self) -> tuple[int, datetime, str]:
        """Its place among bindings of the same tier; the smallest wins."""
        return self.position, self.created_at or _BEFORE_ALL, self.id


def resource_position(order: int) -> int:
    """The place of a resource's binding by its own order; raises InvalidArgument beyond bounds."""
    if not -MAX_ORDER <= order <= MAX_ORDER:
        raise InvalidArgument(
            f"order is {-MAX_ORDER} to {MAX_ORDER}",
            reason="INVALID_BINDING",
            metadata={"field": "order"},
        )
    return RESOURCE_POSITION + order


def make_binding(
    *,
    id: str,
    position: int,
    agent_id: str,
    channel: str,
    account_id: str = "",
    peer: BindingPeer | None = None,
    guild_id: str = "",
    team_id: str = "",
    role_ids: tuple[str, ...] = (),
    created_at: datetime | None = None,
) -> Binding:
    """A binding whose selectors are in the form that messages are compared in (behaviour §1)."""
    return Binding(
        id=id,
        position=position,
        agent_id=AgentId(canonical_id(agent_id)),
        channel=canonical_channel(channel),
        account_id=_account_pattern(account_id),
        peer=None if peer is None else BindingPeer(_kind_word(peer.kind), peer.id.strip()),
        guild_id=guild_id.strip(),
        team_id=team_id.strip(),
        role_ids=tuple(dict.fromkeys(role.strip() for role in role_ids)),
        created_at=created_at,
    )


def parse_peer_kind(text: str) -> PeerKind | None:
    """The peer kind of a word in any case, `dm` being `direct`; None for an unknown one."""
    word = _kind_word(text)
    return PeerKind(word) if word in _PEER_KINDS else None


def tier_of(binding: Binding, wildcard_peer: bool) -> MatchedBy:
    """The tier a binding belongs to by its most specific selector.

    A binding for a peer belongs to `PEER`, and holds for threads under that peer too.
    """
    if binding.peer is not None:
        is_wildcard = wildcard_peer and binding.peer.id == ANY_PEER
        return MatchedBy.WILDCARD_PEER if is_wildcard else MatchedBy.PEER
    if binding.guild_id:
        return MatchedBy.GUILD_ROLES if binding.role_ids else MatchedBy.GUILD
    if binding.team_id:
        return MatchedBy.TEAM
    return MatchedBy.CHANNEL if binding.account_scope == ANY_ACCOUNT else MatchedBy.ACCOUNT


_PEER_KINDS = frozenset(kind.value for kind in PeerKind)


def _kind_word(text: str) -> str:
    word = text.strip().lower()
    return PeerKind.DIRECT.value if word == "dm" else word


def _account_pattern(text: str) -> AccountId:
    stripped = text.strip()
    if stripped in ("", ANY_ACCOUNT):
        return AccountId(stripped)
    return canonical_account(stripped)
