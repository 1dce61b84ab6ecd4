"""Messages between core and protobuf; nothing else."""

from fased.api.types.v1 import message_pb2
from fased.core.messages import (
    Attachment,
    InboundEvent,
    MessageKind,
    OutboundMessage,
    Peer,
    PeerKind,
    ReplyTo,
    Sender,
    Target,
    Thread,
    ThreadKind,
)
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, RunId, SessionKey, TaskId
from fased.wire.times import from_timestamp, to_timestamp

_PEER_KINDS = {
    PeerKind.DIRECT: message_pb2.PEER_KIND_DIRECT,
    PeerKind.GROUP: message_pb2.PEER_KIND_GROUP,
    PeerKind.CHANNEL: message_pb2.PEER_KIND_CHANNEL,
}
_PEER_KINDS_BACK = {number: kind for kind, number in _PEER_KINDS.items()}
_THREAD_KINDS = {
    ThreadKind.THREAD: message_pb2.THREAD_KIND_THREAD,
    ThreadKind.TOPIC: message_pb2.THREAD_KIND_TOPIC,
}
_THREAD_KINDS_BACK = {number: kind for kind, number in _THREAD_KINDS.items()}
_MESSAGE_KINDS = {
    MessageKind.ANSWER: message_pb2.MESSAGE_KIND_ANSWER,
    MessageKind.NOTICE: message_pb2.MESSAGE_KIND_NOTICE,
    MessageKind.FAILURE: message_pb2.MESSAGE_KIND_FAILURE,
}
_MESSAGE_KINDS_BACK = {number: kind for kind, number in _MESSAGE_KINDS.items()}


def peer_to_pb(peer: Peer | None) -> message_pb2.Peer | None:
    """A peer; None leaves the field unset."""
    return None if peer is None else message_pb2.Peer(kind=_PEER_KINDS[peer.kind], id=peer.id)


def peer_from_pb(peer: message_pb2.Peer) -> Peer | None:
    """A peer, None for one of unspecified kind: it can match nothing."""
    kind = _PEER_KINDS_BACK.get(peer.kind)
    return None if kind is None else Peer(kind, peer.id)


def thread_to_pb(thread: Thread | None) -> message_pb2.Thread | None:
    """A thread; None leaves the field unset."""
    if thread is None:
        return None
    return message_pb2.Thread(kind=_THREAD_KINDS[thread.kind], id=thread.id)


def thread_from_pb(thread: message_pb2.Thread) -> Thread | None:
    """A thread, None when unset."""
    kind = _THREAD_KINDS_BACK.get(thread.kind)
    return None if kind is None else Thread(kind, thread.id)


def reply_to_pb(reply_to: ReplyTo | None) -> message_pb2.ReplyTo | None:
    """A quoted message; None leaves the field unset."""
    if reply_to is None:
        return None
    return message_pb2.ReplyTo(
        id=reply_to.id, body=reply_to.body, sender=reply_to.sender, is_me=reply_to.is_me
    )


def reply_from_pb(reply_to: message_pb2.ReplyTo) -> ReplyTo:
    """A quoted message."""
    return ReplyTo(reply_to.id, reply_to.body, reply_to.sender, reply_to.is_me)


def sender_to_pb(sender: Sender) -> message_pb2.Sender:
    """A sender."""
    return message_pb2.Sender(
        id=sender.id,
        display_name=sender.display_name,
        is_bot=sender.is_bot,
        is_self=sender.is_self,
    )


def sender_from_pb(sender: message_pb2.Sender) -> Sender:
    """A sender."""
    return Sender(sender.id, sender.display_name, sender.is_bot, sender.is_self)


def attachment_to_pb(attached: Attachment | None) -> message_pb2.Attachment | None:
    """An attachment; None leaves the field unset."""
    if attached is None:
        return None
    return message_pb2.Attachment(
        agent_id=attached.agent_id, session_key=attached.session_key or ""
    )


def attachment_from_pb(attached: message_pb2.Attachment) -> Attachment:
    """An attachment."""
    return Attachment(AgentId(attached.agent_id), SessionKey(attached.session_key) or None)


def target_to_pb(target: Target | None) -> message_pb2.Target | None:
    """A target; None leaves the field unset."""
    if target is None:
        return None
    return message_pb2.Target(
        channel=target.channel,
        account_id=target.account_id,
        peer=peer_to_pb(target.peer),
        thread=thread_to_pb(target.thread),
        reply_to_id=target.reply_to_id,
    )


def target_from_pb(target: message_pb2.Target) -> Target:
    """A target; a peer of unspecified kind is a direct one with its id."""
    return Target(
        ChannelId(target.channel),
        AccountId(target.account_id),
        peer_from_pb(target.peer) or Peer(PeerKind.DIRECT, target.peer.id),
        thread_from_pb(target.thread) if target.HasField("thread") else None,
        target.reply_to_id,
    )


def inbound_to_pb(event: InboundEvent) -> message_pb2.InboundEvent:
    """The value on fased.inbound.v1."""
    return message_pb2.InboundEvent(
        event_id=event.event_id,
        namespace=event.namespace,
        channel=event.channel,
        account_id=event.account_id,
        peer=peer_to_pb(event.peer),
        parent_peer=peer_to_pb(event.parent_peer),
        thread=thread_to_pb(event.thread),
        sender=sender_to_pb(event.sender),
        text=event.text,
        receive_time=to_timestamp(event.received_at),
        guild_id=event.guild_id,
        team_id=event.team_id,
        role_ids=event.role_ids,
        mentions=event.mentions,
        reply_to=reply_to_pb(event.reply_to),
        attached=attachment_to_pb(event.attached),
        native_id=event.native_id,
        mentions_me=event.mentions_me,
        thread_is_mine=event.thread_is_mine,
    )


def inbound_from_pb(event: message_pb2.InboundEvent) -> InboundEvent:
    """An inbound event; raises ValueError on one without a peer or a time."""
    peer, received_at = peer_from_pb(event.peer), from_timestamp(event, "receive_time")
    if peer is None or received_at is None or not event.event_id:
        raise ValueError("an inbound event has an id, a peer and a receive time")
    return InboundEvent(
        event_id=event.event_id,
        namespace=Namespace(event.namespace),
        channel=ChannelId(event.channel),
        account_id=AccountId(event.account_id),
        peer=peer,
        sender=sender_from_pb(event.sender),
        text=event.text,
        received_at=received_at,
        parent_peer=peer_from_pb(event.parent_peer) if event.HasField("parent_peer") else None,
        thread=thread_from_pb(event.thread) if event.HasField("thread") else None,
        guild_id=event.guild_id,
        team_id=event.team_id,
        role_ids=tuple(event.role_ids),
        mentions=tuple(event.mentions),
        reply_to=reply_from_pb(event.reply_to) if event.HasField("reply_to") else None,
        attached=attachment_from_pb(event.attached) if event.HasField("attached") else None,
        native_id=event.native_id,
        mentions_me=event.mentions_me,
        thread_is_mine=event.thread_is_mine,
    )


def outbound_to_pb(message: OutboundMessage) -> message_pb2.OutboundMessage:
    """The value on fased.outbound.v1."""
    return message_pb2.OutboundMessage(
        id=message.id,
        namespace=message.namespace,
        agent_id=message.agent_id,
        session_key=message.session_key,
        target=target_to_pb(message.target),
        text=message.text,
        kind=_MESSAGE_KINDS[message.kind],
        run_id=message.run_id or 0,
        task_id=message.task_id or "",
        event_id=message.event_id,
        not_before_time=to_timestamp(message.not_before),
        expire_time=to_timestamp(message.expires_at),
    )


def outbound_from_pb(message: message_pb2.OutboundMessage) -> OutboundMessage:
    """An outbound message."""
    return OutboundMessage(
        id=message.id,
        namespace=Namespace(message.namespace),
        agent_id=AgentId(message.agent_id),
        session_key=SessionKey(message.session_key),
        target=target_from_pb(message.target),
        text=message.text,
        kind=_MESSAGE_KINDS_BACK.get(message.kind, MessageKind.ANSWER),
        run_id=RunId(message.run_id) if message.run_id else None,
        task_id=TaskId(message.task_id) if message.task_id else None,
        event_id=message.event_id,
        not_before=from_timestamp(message, "not_before_time"),
        expires_at=from_timestamp(message, "expire_time"),
    )


def message_kind_to_pb(kind: MessageKind) -> message_pb2.MessageKind.ValueType:
    """A message kind."""
    return _MESSAGE_KINDS[kind]
