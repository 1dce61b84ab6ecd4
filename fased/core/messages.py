"""Messages as values: what a person wrote, and what is sent back. Decides their shape only."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fased.core.names import AccountId, AgentId, ChannelId, Namespace, RunId, SessionKey, TaskId


class PeerKind(StrEnum):
    """What a chat is: one person, a group of people, or a room."""

    DIRECT = "direct"
    GROUP = "group"
    CHANNEL = "channel"


class ThreadKind(StrEnum):
    """How a channel divides one chat further."""

    THREAD = "thread"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Peer:
    """A chat on a channel. `id` is case-preserving; `""` where the platform gave none."""

    kind: PeerKind
    id: str


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread or topic inside a chat."""

    kind: ThreadKind
    id: str


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote: the platform's id, and a name to show.

    `is_bot` says that no person did, `is_self` that the account's own bot did.
    """

    id: str
    display_name: str = ""
    is_bot: bool = False
    is_self: bool = False


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """The message this one answers, quoted by the platform; `is_me` when our bot wrote it."""

    id: str
    body: str = ""
    sender: str = ""
    is_me: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """The Agent and session a person picked on the surface itself (WebChat).

    `session_key` None means the Agent's main session.
    """

    agent_id: AgentId
    session_key: SessionKey | None = None


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """One message as a channel received it.

    `event_id` is `{namespace}:{channel}:{account}:{native update id}`, the key by which its
    effects happen once. `text` is the raw body; reply context is added where a model reads it.
    `mentions_me` says that the account's own bot is named in it, `thread_is_mine` that our bot
    began its thread.
    """

    event_id: str
    namespace: Namespace
    channel: ChannelId
    account_id: AccountId
    peer: Peer
    sender: Sender
    text: str
    received_at: datetime
    parent_peer: Peer | None = None
    thread: Thread | None = None
    guild_id: str = ""
    team_id: str = ""
    role_ids: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    reply_to: ReplyTo | None = None
    attached: Attachment | None = None
    native_id: str = ""
    mentions_me: bool = False
    thread_is_mine: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: a chat on an account of a channel."""

    channel: ChannelId
    account_id: AccountId
    peer: Peer
    thread: Thread | None = None
    reply_to_id: str = ""


class MessageKind(StrEnum):
    """What an outbound message is to the person who reads it."""

    ANSWER = "answer"
    NOTICE = "notice"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One logical result to deliver. `id` is its idempotency key, a UUID as text."""

    id: str
    namespace: Namespace
    agent_id: AgentId
    session_key: SessionKey
    target: Target
    text: str
    kind: MessageKind = MessageKind.ANSWER
    run_id: RunId | None = None
    task_id: TaskId | None = None
    event_id: str = ""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    trace: dict[str, str] = field(default_factory=dict, hash=False)


def bus_key(namespace: Namespace, channel: ChannelId, account_id: AccountId, peer: Peer) -> str:
    """The key that keeps one chat in order on the bus (design §5)."""
    return f"{namespace}/{channel}/{account_id}/{peer.kind}/{peer.id}"
