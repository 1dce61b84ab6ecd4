"""Telegram's updates and calls as values (https://core.telegram.org/bots/api).

Decides what an update means to us, and with which parameters a message is sent. It does not decide
who may write (the gate), nor what an answer of the Bot API means (`telegram_answers.py`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from fased.core import fields
from fased.core.errors import InvalidArgument
from fased.core.messages import (
    InboundEvent,
    Peer,
    PeerKind,
    ReplyTo,
    Sender,
    Target,
    Thread,
    ThreadKind,
)
from fased.core.names import AccountId, ChannelId, Namespace

CHANNEL = ChannelId("telegram")
# What we ask Telegram for; the other kinds would be skipped.
ALLOWED_UPDATES = ("message", "channel_post")

_PEER_KINDS = {
    "private": PeerKind.DIRECT,
    "group": PeerKind.GROUP,
    "supergroup": PeerKind.GROUP,
    "channel": PeerKind.CHANNEL,
}
_MAX_ID = 2**63 - 1
_LAST_SECOND = 2**33
# `/name@bot` addresses one of several bots in a group.
_ADDRESSED_COMMAND = re.compile(r"\A(?P<command>/\w+)@(?P<bot>\w+)", re.ASCII)


class SkipReason(StrEnum):
    """Why an update is nothing to us."""

    NOT_A_MESSAGE = "NOT_A_MESSAGE"
    EDITED = "EDITED"
    NO_TEXT = "NO_TEXT"
    OWN_MESSAGE = "OWN_MESSAGE"
    FOR_ANOTHER_BOT = "FOR_ANOTHER_BOT"


@dataclass(frozen=True, slots=True)
class BotIdentity:
    """The bot behind an account, as getMe tells it. `username` has no `@`."""

    id: str
    username: str
    name: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message. `text` is its body or caption, without our own name behind a command.

    `mentions` holds ids of users and lower-case user names, the bot's own id where it is named.
    `is_from_bot` is True for other bots, False for people who write as a chat.
    """

    update_id: int
    message_id: str
    peer: Peer
    thread: Thread | None
    sender: Sender
    text: str
    sent_at: datetime
    reply_to: ReplyTo | None
    mentions: tuple[str, ...]
    mentions_bot: bool
    replies_to_bot: bool
    is_in_own_topic: bool
    is_from_bot: bool


@dataclass(frozen=True, slots=True)
class Migrated:
    """A group became a supergroup, under another id. Telegram says so twice, once in each."""

    update_id: int
    old: Peer
    new: Peer


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing to us, and taken."""

    update_id: int
    reason: SkipReason


Update = Arrived | Migrated | Skipped
_Fields = Mapping[str, object]


def parse_update(update: object, bot: BotIdentity) -> Update:
    """What a decoded Update means; raises InvalidArgument MALFORMED_UPDATE naming the field."""
    try:
        return _update(fields.object_at(update, "update"), bot)
    except InvalidArgument as exc:
        raise InvalidArgument(
            exc.message, reason="MALFORMED_UPDATE", metadata=exc.metadata
        ) from None


def parse_identity(result: object) -> BotIdentity:
    """The bot of a getMe result; raises InvalidArgument naming the field."""
    user = fields.object_at(result, "result")
    return BotIdentity(
        str(_required_id(user, "id", "result")),
        fields.text_at(user.get("username"), "result.username"),
        fields.text_at(user.get("first_name"), "result.first_name"),
    )


def inbound_event(
    arrived: Arrived, namespace: Namespace, account_id: AccountId, received_at: datetime
) -> InboundEvent:
    """The message as an event; its native update id makes the event's id (design §5)."""
    return InboundEvent(
        event_id=f"{namespace}:{CHANNEL}:{account_id}:{arrived.update_id}",
        namespace=namespace,
        channel=CHANNEL,
        account_id=account_id,
        peer=arrived.peer,
        sender=replace(arrived.sender, is_bot=arrived.is_from_bot),
        text=arrived.text,
        received_at=received_at,
        thread=arrived.thread,
        mentions=arrived.mentions,
        mentions_me=arrived.mentions_bot,
        thread_is_mine=arrived.is_in_own_topic,
        reply_to=arrived.reply_to and replace(arrived.reply_to, is_me=arrived.replies_to_bot),
        native_id=arrived.message_id,
    )


def under_first_id(event: InboundEvent, first_id: str) -> InboundEvent:
    """A message of a group that had another id before: it stays that group to everybody here.

    So its bindings, sessions, lists and history are those of the first id. What names the latest
    id holds as well, by the parent's tier.
    """
    return replace(event, peer=Peer(event.peer.kind, first_id), parent_peer=event.peer)


def send_parameters(target: Target, text: str, *, is_html: bool) -> dict[str, object]:
    """The parameters of sendMessage. A message that it answers may be gone: it is sent anyway."""
    parameters = place_parameters(target) | {"text": text}
    if is_html:
        parameters["parse_mode"] = "HTML"
    if target.reply_to_id:
        parameters["reply_parameters"] = {
            "message_id": int(target.reply_to_id),
            "allow_sending_without_reply": True,
        }
    return parameters


def place_parameters(target: Target) -> dict[str, object]:
    """The parameters that name a chat and topic, as sendChatAction takes them."""
    parameters: dict[str, object] = {"chat_id": target.peer.id}
    if target.thread is not None:
        parameters["message_thread_id"] = int(target.thread.id)
    return parameters


def _update(update: _Fields, bot: BotIdentity) -> Update:
    update_id = fields.whole_at(update.get("update_id"), "update_id", 0, _MAX_ID)
    if update_id is None:
        raise _missing("update_id")
    for kind in ALLOWED_UPDATES:
        if update.get(kind) is not None:
            return _message(update_id, fields.object_at(update[kind], kind), kind, bot)
    is_edited = "edited_message" in update or "edited_channel_post" in update
    return Skipped(update_id, SkipReason.EDITED if is_edited else SkipReason.NOT_A_MESSAGE)


def _message(update_id: int, message: _Fields, path: str, bot: BotIdentity) -> Update:
    message_id = _required_id(message, "message_id", path)
    peer = _peer(message, path)
    if migrated := _migrated(update_id, message, path, peer):
        return migrated
    sender, is_from_bot = _sender(message, path)
    if sender.id == bot.id:
        return Skipped(update_id, SkipReason.OWN_MESSAGE)
    part = "text" if message.get("text") is not None else "caption"
    text = fields.text_at(message.get(part), f"{path}.{part}")
    if not text.strip():
        return Skipped(update_id, SkipReason.NO_TEXT)
    command = _ADDRESSED_COMMAND.match(text)
    is_ours = command is not None and command["bot"].lower() == bot.username.lower()
    if command is not None and not is_ours:
        return Skipped(update_id, SkipReason.FOR_ANOTHER_BOT)
    mentions = tuple(dict.fromkeys(_mentions(message, text, part, path, bot)))
    if is_ours and bot.id not in mentions:
        mentions = (bot.id, *mentions)
    replied_id, reply_to = _reply_to(message, path)
    thread = _thread(message, path)
    return Arrived(
        update_id=update_id,
        message_id=str(message_id),
        peer=peer,
        thread=thread,
        sender=sender,
        text=f"{command['command']}{text[command.end() :]}" if command else text,
        sent_at=_sent_at(message, path),
        reply_to=reply_to,
        mentions=mentions,
        mentions_bot=bot.id in mentions,
        replies_to_bot=replied_id == bot.id,
        is_in_own_topic=thread is not None and _topic_maker(message, path) == bot.id,
        is_from_bot=is_from_bot,
    )


def _peer(message: _Fields, path: str) -> Peer:
    chat = fields.object_at(message.get("chat"), f"{path}.chat")
    chat_type = fields.text_at(chat.get("type"), f"{path}.chat.type")
    kind = _PEER_KINDS.get(chat_type)
    if kind is None:
        raise _malformed(f"{path}.chat.type", "must be private, group, supergroup or channel")
    return Peer(kind, str(_required_id(chat, "id", f"{path}.chat")))


def _migrated(update_id: int, message: _Fields, path: str, peer: Peer) -> Migrated | None:
    to_id = _id(message, "migrate_to_chat_id", path)
    if to_id is not None:
        return Migrated(update_id, peer, Peer(PeerKind.GROUP, str(to_id)))
    from_id = _id(message, "migrate_from_chat_id", path)
    if from_id is not None:
        return Migrated(update_id, Peer(PeerKind.GROUP, str(from_id)), peer)
    return None


def _sender(message: _Fields, path: str) -> tuple[Sender, bool]:
    """Who wrote, and whether it is a bot. An anonymous admin or a channel writes as a chat."""
    for name in ("sender_chat", "from"):
        if message.get(name) is not None:
            user = fields.object_at(message[name], f"{path}.{name}")
            sender_id = str(_required_id(user, "id", f"{path}.{name}"))
            is_bot = fields.flag_at(user.get("is_bot"), f"{path}.{name}.is_bot")
            return Sender(sender_id, _display_name(user, f"{path}.{name}")), is_bot
    chat = fields.object_at(message.get("chat"), f"{path}.chat")
    sender_id = str(_required_id(chat, "id", f"{path}.chat"))
    return Sender(sender_id, _display_name(chat, f"{path}.chat")), False


def _display_name(user: _Fields, path: str) -> str:
    names = ("title", "first_name", "last_name")
    shown = [fields.text_at(user.get(name), f"{path}.{name}") for name in names]
    return " ".join(name for name in shown if name)


def _thread(message: _Fields, path: str) -> Thread | None:
    # Outside forums the same id names a tree of answers, which is no place to write to.
    if not fields.flag_at(message.get("is_topic_message"), f"{path}.is_topic_message"):
        return None
    thread_id = _id(message, "message_thread_id", path)
    return None if thread_id is None else Thread(ThreadKind.TOPIC, str(thread_id))


def _topic_maker(message: _Fields, path: str) -> str:
    """The id of whoever made the topic: what answers no other message seems to answer its start."""
    path = f"{path}.reply_to_message"
    replied = fields.object_at(message.get("reply_to_message"), path)
    return _sender(replied, path)[0].id if "forum_topic_created" in replied else ""


def _reply_to(message: _Fields, path: str) -> tuple[str, ReplyTo | None]:
    """The id of whoever wrote the message that is answered, and that message."""
    path = f"{path}.reply_to_message"
    replied = fields.object_at(message.get("reply_to_message"), path)
    # Each message of a topic seems to answer the one that made the topic.
    if not replied or "forum_topic_created" in replied:
        return "", None
    sender, _ = _sender(replied, path)
    quote = fields.object_at(message.get("quote"), f"{path}.quote")
    shown = (quote.get("text"), replied.get("text"), replied.get("caption"))
    body = next((text for text in shown if text), "")
    replied_id = str(_required_id(replied, "message_id", path))
    return sender.id, ReplyTo(replied_id, fields.text_at(body, f"{path}.text"), sender.display_name)


def _mentions(message: _Fields, text: str, part: str, path: str, bot: BotIdentity) -> Iterator[str]:
    key = "entities" if part == "text" else "caption_entities"
    # Offsets count UTF-16 code units.
    units = text.encode("utf-16-le", "surrogatepass")
    for at, item in enumerate(fields.list_at(message.get(key), f"{path}.{key}")):
        place = f"{path}.{key}[{at}]"
        entity = fields.object_at(item, place)
        match fields.text_at(entity.get("type"), f"{place}.type"):
            case "mention":
                start = fields.whole_at(entity.get("offset"), f"{place}.offset", 0, _MAX_ID) or 0
                length = fields.whole_at(entity.get("length"), f"{place}.length", 0, _MAX_ID) or 0
                named = units[2 * start : 2 * (start + length)].decode("utf-16-le", "replace")
                username = named.removeprefix("@").lower()
                yield bot.id if username == bot.username.lower() else username
            case "text_mention":
                user = fields.object_at(entity.get("user"), f"{place}.user")
                yield str(_required_id(user, "id", f"{place}.user"))


def _sent_at(message: _Fields, path: str) -> datetime:
    date = fields.whole_at(message.get("date"), f"{path}.date", 0, _LAST_SECOND)
    if date is None:
        raise _missing(f"{path}.date")
    return datetime.fromtimestamp(date, UTC)


def _id(holder: _Fields, name: str, path: str) -> int | None:
    return fields.whole_at(holder.get(name), f"{path}.{name}", -_MAX_ID, _MAX_ID)


def _required_id(holder: _Fields, name: str, path: str) -> int:
    value = _id(holder, name, path)
    if value is None:
        raise _missing(f"{path}.{name}")
    return value


def _missing(path: str) -> InvalidArgument:
    return _malformed(path, "is missing")


def _malformed(path: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{path} {what}", reason="MALFORMED_UPDATE", metadata={"field": path})
