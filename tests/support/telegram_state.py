"""What Telegram remembers of bots and chats. Decides which updates wait for a bot, what a message
is, and who may be written to; speaks no HTTP (`telegram_api.py`).

A bot has chats of its own: what one bot is sent, another does not see.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.support.telegram_rules import Entity, Refusal, checked_text, detected_entities

# The kinds of update that a bot gets unless it asks for others.
DEFAULT_KINDS = frozenset(
    {"message", "edited_message", "channel_post", "edited_channel_post", "callback_query"}
    | {"inline_query", "my_chat_member"}
)
FIRST_UPDATE_ID = 500_000_001
ANSWERS_TO_NOBODY = {
    "blocked": "Forbidden: bot was blocked by the user",
    "deactivated": "Forbidden: user is deactivated",
    "kicked": "Forbidden: bot was kicked from the supergroup chat",
    "muted": "Bad Request: not enough rights to send text messages to the chat",
}

Json = dict[str, Any]


class FaultKind(StrEnum):
    """What goes wrong with a call."""

    FLOOD = "flood"
    ERROR = "error"
    GATEWAY = "gateway"
    DROP = "drop"
    ACCEPT_DROP = "accept-drop"
    HANG = "hang"
    ACCEPT_HANG = "accept-hang"
    SLOW = "slow"


@dataclass(slots=True)
class Fault:
    """A call that goes wrong, `times` times, or until faults are cleared where that is zero.

    The kinds: `flood` is 429 with `retry_after_s`; `error` a failure in the server's own JSON,
    `gateway` a proxy's page, with `status`; `drop` closes the connection, `hang` keeps it
    silent, both before anything is done, and both after it with `accept-`; `slow` answers after
    `delay_s`. An empty method or no chat means any.
    """

    kind: FaultKind
    method: str = ""
    chat_id: int | None = None
    times: int = 1
    status: int = 0
    retry_after_s: int = 1
    delay_s: float = 0.0
    met: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it was received; `status` is that of the answer, 0 where there was none."""

    method: str
    parameters: Mapping[str, Any]
    at: float
    status: int


@dataclass(slots=True)
class Sent:
    """A message that a bot sent: `text` is what it shows, `source` what was written."""

    chat_id: int
    message_id: int
    text: str
    source: str
    parse_mode: str
    entities: list[Entity]
    thread_id: int | None
    reply_to_id: int | None
    at: float
    edits: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Update:
    """An update that waits until it is confirmed."""

    update_id: int
    kind: str
    chat_id: int
    content: Json

    def json(self) -> Json:
        """It as the server sends it."""
        return {"update_id": self.update_id, self.kind: self.content}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery to a webhook; `status` is 0 where nobody answered."""

    update_id: int
    status: int
    at: float


@dataclass(slots=True)
class Webhook:
    """Where a bot's updates go, and the tasks that take them there, one a chat."""

    url: str
    secret_token: str
    max_connections: int
    connections: asyncio.Semaphore = field(init=False)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    last_error: str = ""
    last_error_at: float = 0.0

    def __post_init__(self) -> None:
        self.connections = asyncio.Semaphore(self.max_connections)


@dataclass(slots=True)
class Chat:
    """A chat of one bot; `answers` is a key of ANSWERS_TO_NOBODY where it cannot be written to."""

    id: int
    type: str
    name: str = ""
    username: str = ""
    is_forum: bool = False
    topics: dict[int, str] = field(default_factory=dict)
    answers: str = ""
    migrated_to: int | None = None
    messages: dict[int, Json] = field(default_factory=dict)
    last_message_id: int = 0

    def json(self) -> Json:
        """It as the server sends it."""
        named = {"first_name" if self.type == "private" else "title": self.name}
        extra: Json = {"username": self.username} if self.username else {}
        forum: Json = {"is_forum": True} if self.is_forum else {}
        return {"id": self.id, "type": self.type} | named | extra | forum

    def next_message_id(self) -> int:
        """The id of the next message."""
        self.last_message_id += 1
        return self.last_message_id


@dataclass(slots=True)
class Bot:
    """A bot, its chats, what waits for it, and all that it did."""

    token: str
    username: str
    name: str
    on_update: Callable[["Bot"], None]
    is_revoked: bool = False
    chats: dict[int, Chat] = field(default_factory=dict)
    pending: list[Update] = field(default_factory=list)
    kinds: frozenset[str] = DEFAULT_KINDS
    webhook: Webhook | None = None
    poll: asyncio.Future[None] | None = None
    conflicts: int = 0
    faults: list[Fault] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    next_update_id: int = FIRST_UPDATE_ID

    @property
    def id(self) -> int:
        """Its id, which its token begins with."""
        return int(self.token.partition(":")[0])

    def user_json(self) -> Json:
        """It as the sender of a message."""
        return {
            "id": self.id,
            "is_bot": True,
            "first_name": self.name,
            "username": self.username,
        }

    # What a test does.

    def add_chat(
        self, chat_id: int, type: str, *, name: str = "", username: str = "", is_forum: bool = False
    ) -> Chat:
        """Make a chat: `private`, `group`, `supergroup` or `channel`."""
        chat = Chat(chat_id, type, name or f"Chat {chat_id}", username, is_forum)
        self.chats[chat_id] = chat
        return chat

    def add_topic(self, chat_id: int, name: str) -> int:
        """Make a topic in a forum; its id is that of the message that says so."""
        chat = self.chats[chat_id]
        topic_id = chat.next_message_id()
        chat.topics[topic_id] = name
        created: Json = {"forum_topic_created": {"name": name, "icon_color": 7322096}}
        chat.messages[topic_id] = self._message(chat, topic_id, _person(1, "Founder")) | created
        chat.messages[topic_id] |= {"message_thread_id": topic_id, "is_topic_message": True}
        return topic_id

    def user_says(
        self,
        chat_id: int,
        text: str,
        *,
        sender_id: int | None = None,
        sender_name: str = "",
        is_bot: bool = False,
        thread_id: int | None = None,
        reply_to_id: int | None = None,
        quote: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """A person writes in a chat; the update's id. A person that is new begins a private chat.

        `extra` are further fields of the message, or others in place of those made here.
        """
        chat = self.chats.get(chat_id) or self.add_chat(chat_id, "private", name=sender_name)
        sender = _person(sender_id or (chat_id if chat_id > 0 else 1_001), sender_name, is_bot)
        message = self._message(chat, chat.next_message_id(), sender) | {"text": text}
        if found := detected_entities(text):
            message["entities"] = found
        message |= self._placed(chat, thread_id, reply_to_id)
        if quote:
            message["quote"] = {"text": quote, "position": 0, "is_manual": True}
        message |= extra or {}
        if chat.type == "channel":
            message = {key: field for key, field in message.items() if key != "from"}
            message["sender_chat"] = chat.json()
        chat.messages[message["message_id"]] = message
        return self.push("channel_post" if chat.type == "channel" else "message", chat_id, message)

    def push(self, kind: str, chat_id: int, content: Json) -> int:
        """An update of any content; its id. A kind that the bot does not ask for is not kept."""
        update_id = self.next_update_id
        if kind in self.kinds:
            self.next_update_id += 1
            self.pending.append(Update(update_id, kind, chat_id, content))
            self.wake_poll()
            self.on_update(self)
        return update_id

    def migrate(self, chat_id: int, new_id: int) -> None:
        """A group becomes a supergroup, which both chats are told."""
        chat = self.chats[chat_id]
        chat.migrated_to = new_id
        new = self.add_chat(new_id, "supergroup", name=chat.name)
        for told, field_name, other in (
            (chat, "migrate_to_chat_id", new_id),
            (new, "migrate_from_chat_id", chat_id),
        ):
            said = self._message(told, told.next_message_id(), _person(1_001, ""))
            self.push("message", told.id, said | {field_name: other})

    def add_fault(self, kind: str, **what: Any) -> None:
        """Let a call go wrong: the fields of Fault. Faults are met in the order they were added."""
        self.faults.append(Fault(FaultKind(kind), **what))

    def clear_faults(self) -> None:
        """Let all go well again; what hangs is closed."""
        self.faults.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    # What the server does.

    def take_fault(self, method: str, chat_id: int | None) -> Fault | None:
        """The fault that a call meets, if any."""
        for fault in self.faults:
            is_meant = fault.method.lower() in ("", method) and fault.chat_id in (None, chat_id)
            if is_meant and (fault.times == 0 or fault.met < fault.times):
                fault.met += 1
                return fault
        return None

    def confirm(self, offset: int) -> None:
        """Forget the updates before `offset`; a negative one keeps that many from the end."""
        if offset > 0:
            self.pending = [update for update in self.pending if update.update_id >= offset]
        elif offset < 0:
            self.pending = self.pending[offset:]

    def ask_for(self, kinds: Sequence[str] | None) -> None:
        """Which kinds of update are kept from now on: all the usual ones for none, None as is."""
        if kinds is not None:
            self.kinds = frozenset(kinds) or DEFAULT_KINDS

    def wake_poll(self) -> None:
        """Let the poll that waits look again."""
        if self.poll is not None and not self.poll.done():
            self.poll.set_result(None)

    def end_poll(self, why: str) -> None:
        """Answer the poll that waits with a conflict."""
        if self.poll is not None and not self.poll.done():
            self.conflicts += 1
            self.poll.set_exception(Refusal(409, f"Conflict: {why}"))

    def chat_to_write_to(self, chat_id: str) -> Chat:
        """A chat that may be written to; raises Refusal as the server does."""
        if not chat_id:
            raise Refusal(400, "Bad Request: chat_id is empty")
        chat = self.chats.get(int(chat_id)) if re.fullmatch(r"-?\d+", chat_id) else None
        if chat is None:
            raise Refusal(400, "Bad Request: chat not found")
        if chat.migrated_to is not None:
            raise Refusal(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.migrated_to,
            )
        if chat.answers:
            description = ANSWERS_TO_NOBODY[chat.answers]
            raise Refusal(403 if description.startswith("Forbidden") else 400, description)
        return chat

    def send(
        self,
        chat_id: str,
        source: str,
        parse_mode: str,
        thread_id: int | None,
        reply_to_id: int | None,
        *,
        may_lose_reply: bool,
    ) -> Json:
        """Send a message, and give it as the server does; raises Refusal."""
        text, entities = checked_text(source, parse_mode)
        chat = self.chat_to_write_to(chat_id)
        if thread_id is not None and thread_id not in chat.topics:
            raise Refusal(400, "Bad Request: message thread not found")
        if reply_to_id is not None and reply_to_id not in chat.messages:
            if not may_lose_reply:
                raise Refusal(400, "Bad Request: message to be replied not found")
            reply_to_id = None
        message = self._message(chat, chat.next_message_id(), self.user_json()) | {"text": text}
        message |= {"entities": entities} if entities else {}
        message |= self._placed(chat, thread_id, reply_to_id)
        chat.messages[message["message_id"]] = message
        self.sent.append(
            Sent(
                chat.id,
                message["message_id"],
                text,
                source,
                parse_mode,
                entities,
                thread_id,
                reply_to_id,
                time.time(),
            )
        )
        return message

    def edit(self, chat_id: str, message_id: int, source: str, parse_mode: str) -> Json:
        """Change the text of a message of the bot's own; raises Refusal."""
        text, entities = checked_text(source, parse_mode)
        chat = self.chat_to_write_to(chat_id)
        message = chat.messages.get(message_id)
        if message is None:
            raise Refusal(400, "Bad Request: message to edit not found")
        if message["from"]["id"] != self.id:
            raise Refusal(400, "Bad Request: message can't be edited")
        if (message["text"], message.get("entities", [])) == (text, entities):
            raise Refusal(
                400,
                "Bad Request: message is not modified: specified new message content and reply "
                "markup are exactly the same as a current content and reply markup of the message",
            )
        message |= {"text": text, "entities": entities, "edit_date": int(time.time())}
        for sent in self.sent:
            if (sent.chat_id, sent.message_id) == (chat.id, message_id):
                sent.edits.append(text)
        return message

    def _message(self, chat: Chat, message_id: int, sender: Json) -> Json:
        return {
            "message_id": message_id,
            "from": sender,
            "chat": chat.json(),
            "date": int(time.time()),
        }

    def _placed(self, chat: Chat, thread_id: int | None, reply_to_id: int | None) -> Json:
        """The fields that say where in a chat a message is."""
        place: Json = {}
        if thread_id is not None:
            # Telegram shows each message of a topic as an answer to the one that made the topic.
            place = {"message_thread_id": thread_id, "is_topic_message": True}
            place["reply_to_message"] = chat.messages[thread_id]
        if reply_to_id is not None:
            replied = dict(chat.messages[reply_to_id])
            replied.pop("reply_to_message", None)
            place["reply_to_message"] = replied
            if thread_id is None and chat.type == "supergroup":
                # Outside forums a thread is the tree of answers to one message.
                place["message_thread_id"] = replied.get("message_thread_id", reply_to_id)
        return place


def _person(user_id: int, name: str, is_bot: bool = False) -> Json:
    return {"id": user_id, "is_bot": is_bot, "first_name": name or f"User {user_id}"}
