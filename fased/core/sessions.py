"""Sessions: the key a conversation has, and when its session starts afresh.

Decides keys, slugs and staleness (behaviour §2). It does not decide which Agent answers
(`routing.py`), and neither makes session ids nor stores anything.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum

from fased.core import zones
from fased.core.errors import InvalidArgument
from fased.core.messages import Peer, PeerKind, Thread
from fased.core.names import AccountId, AgentId, ChannelId, SessionKey, TaskId, canonical_id

MAX_SLUG_CHARS = 48
DEFAULT_DAILY_HOUR = 4

_UNKNOWN = "unknown"
# `/session switch main` means the base session, so that no named session may be called so.
_RESERVED_SLUGS = frozenset({"main"})
_DASH_RUNS = re.compile(r"-{2,}")


class DmScope(StrEnum):
    """How far direct messages share one session."""

    MAIN = "main"
    PER_PEER = "per-peer"
    PER_CHANNEL_PEER = "per-channel-peer"
    PER_ACCOUNT_CHANNEL_PEER = "per-account-channel-peer"


class SessionKind(StrEnum):
    """What a session is to the reset policy."""

    DIRECT = "direct"
    GROUP = "group"
    THREAD = "thread"


@dataclass(frozen=True, slots=True)
class ResetPolicy:
    """When a session starts afresh by itself; with neither rule it never does.

    `daily_hour` (0 to 23) is the wall clock's in `zone`, an IANA name; `idle` is the silence that
    makes it stale. With both, whichever comes first.
    """

    daily_hour: int | None = None
    zone: str = "UTC"
    idle: timedelta | None = None


NO_RESET = ResetPolicy()


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How keys are made and when sessions start afresh.

    `identity_links` joins direct peers under a name: each id is `<peer>` or `<channel>:<peer>`;
    of two names with the same id the first holds it. Blank names and ids join nothing.
    """

    dm_scope: DmScope = DmScope.MAIN
    identity_links: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    reset: Mapping[SessionKind, ResetPolicy] = field(default_factory=dict, hash=False)
    _linked: Mapping[str, tuple[int, str]] = field(
        init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_linked", _links_by_id(self.identity_links))

    def reset_policy(self, kind: SessionKind) -> ResetPolicy:
        """The reset policy of a kind of session."""
        return self.reset.get(kind, NO_RESET)

    def person(self, channel: ChannelId, peer_id: str) -> str:
        """The name a direct peer is linked to, else its own id, trimmed; `""` for a blank id."""
        peer_id = peer_id.strip()
        if not self._linked or not peer_id:
            return peer_id
        lowered = peer_id.lower()
        candidates = (lowered, f"{channel}:{lowered}")
        links = [link for candidate in candidates if (link := self._linked.get(candidate))]
        return min(links)[1] if links else peer_id


def main_key(agent_id: AgentId) -> SessionKey:
    """`agent:<a>:main`, the key of an Agent's main session."""
    return SessionKey(f"agent:{agent_id}:main")


def conversation_identity(
    policy: SessionPolicy,
    agent_id: AgentId,
    channel: ChannelId,
    account_id: AccountId,
    peer: Peer | None,
    thread: Thread | None = None,
) -> str:
    """A conversation's key with the case of the platform's ids kept.

    Two conversations with the same key and different identities are different chats whose ids
    differ only in case: they must not share a transcript. Ids of Agent, channel and account are
    canonical; an empty peer id or channel stands as `unknown`.
    """
    base = _base_identity(policy, agent_id, channel, account_id, peer)
    if thread is None or not (thread_id := thread.id.strip()):
        return base
    return f"{base}:{thread.kind}:{thread_id}"


def session_key(identity: str) -> SessionKey:
    """The key of a conversation's identity: the same in lower case."""
    return SessionKey(identity.lower())


def session_kind(peer: Peer | None, thread: Thread | None) -> SessionKind:
    """Which reset policy a conversation falls under."""
    if thread is not None and thread.id.strip():
        return SessionKind.THREAD
    if peer is None or peer.kind is PeerKind.DIRECT:
        return SessionKind.DIRECT
    return SessionKind.GROUP


def helper_key(agent_id: AgentId, helper_id: str) -> SessionKey:
    """`agent:<a>:subagent:<uuid>`, the session of a helper Agent's run."""
    return SessionKey(f"agent:{agent_id}:subagent:{helper_id.lower()}")


def task_key(agent_id: AgentId, task_id: TaskId) -> SessionKey:
    """`agent:<a>:task:<task>`, the session of a task that has none of its own."""
    return SessionKey(f"agent:{agent_id}:task:{task_id.lower()}")


def named_key(base: SessionKey, slug: str) -> SessionKey:
    """`<base>:chat:<slug>`, the key of a named session. `slug` comes from `chat_slug`."""
    return SessionKey(f"{base}:chat:{slug}")


def chat_slug(name: str, taken: Collection[str]) -> str:
    """A slug for a session's name: at most 48 characters, `-2`, `-3` … where it is taken.

    Letters and digits of any script are kept in lower case, all else becomes `-`; a name of which
    nothing is left becomes `chat`. The slug is never `main`.
    """
    folded = unicodedata.normalize("NFKC", name).lower()
    kept = "".join(char if _is_slug_char(char) else "-" for char in folded)
    base = _DASH_RUNS.sub("-", kept).strip("-")[:MAX_SLUG_CHARS].rstrip("-") or "chat"
    slug, number = base, 1
    while slug in taken or slug in _RESERVED_SLUGS:
        number += 1
        suffix = f"-{number}"
        slug = base[: MAX_SLUG_CHARS - len(suffix)].rstrip("-") + suffix
    return slug


def parse_session_key(text: str) -> tuple[AgentId, str]:
    """The Agent of a session key, and what follows it (`main`, `telegram:group:-1`), lower-cased.

    Raises InvalidArgument unless the text is `agent:<a>:<rest>` with a canonical Agent id.
    """
    scheme, _, rest = text.strip().lower().partition(":")
    agent_id, _, rest = rest.partition(":")
    if scheme != "agent" or not rest or not agent_id or canonical_id(agent_id) != agent_id:
        raise InvalidArgument(
            f"session key {text[:120]!r} is not of the form agent:AGENT:CONVERSATION",
            reason="INVALID_SESSION_KEY",
            metadata={"field": "session_key"},
        )
    return AgentId(agent_id), rest


def is_stale(policy: ResetPolicy, last_at: datetime, now: datetime) -> bool:
    """Whether a session last used at `last_at` starts afresh with a message at `now`.

    Both are aware UTC. Where the clock jumps over the hour, or shows it twice, the reset falls on
    the first instant at which it shows that hour or later.
    """
    if policy.idle is not None and now - last_at >= policy.idle:
        return True
    return policy.daily_hour is not None and last_at < _last_daily_reset(policy, now)


def _base_identity(
    policy: SessionPolicy,
    agent_id: AgentId,
    channel: ChannelId,
    account_id: AccountId,
    peer: Peer | None,
) -> str:
    if peer is None:
        return f"agent:{agent_id}:main"
    if peer.kind is not PeerKind.DIRECT:
        peer_id = peer.id.strip() or _UNKNOWN
        return f"agent:{agent_id}:{channel or _UNKNOWN}:{peer.kind}:{peer_id}"
    scope = policy.dm_scope
    if scope is DmScope.MAIN:
        return f"agent:{agent_id}:main"
    person = policy.person(channel, peer.id) or _UNKNOWN
    if scope is DmScope.PER_PEER:
        return f"agent:{agent_id}:direct:{person}"
    if scope is DmScope.PER_CHANNEL_PEER:
        return f"agent:{agent_id}:{channel or _UNKNOWN}:direct:{person}"
    return f"agent:{agent_id}:{channel or _UNKNOWN}:{account_id}:direct:{person}"


def _links_by_id(names: Mapping[str, Collection[str]]) -> dict[str, tuple[int, str]]:
    links: dict[str, tuple[int, str]] = {}
    for rank, (name, ids) in enumerate(names.items()):
        for linked in ids:
            if name.strip() and linked.strip():
                links.setdefault(linked.strip().lower(), (rank, name.strip()))
    return links


def _is_slug_char(char: str) -> bool:
    # Marks belong to the letters of many scripts (vowel signs, accents that do not compose).
    return char == "_" or char.isalnum() or unicodedata.category(char).startswith("M")


def _last_daily_reset(policy: ResetPolicy, now: datetime) -> datetime:
    zone = zones.find_zone(policy.zone)
    wall = datetime.combine(zones.wall_at(now, zone), time(policy.daily_hour or 0))
    # A clock that was just turned back over midnight has shown tomorrow's hour already.
    around = (zones.first_instant(wall + timedelta(days=days), zone) for days in (1, 0, -1))
    return next(at for at in around if at <= now)
