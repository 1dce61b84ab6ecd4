"""Telegram's updates: what each becomes, and the field that a malformed one is wrong in."""

import re
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.errors import InvalidArgument
from fased.core.messages import Peer, PeerKind, ReplyTo, Sender, Target, Thread, ThreadKind
from fased.core.names import AccountId, ChannelId, Namespace
from fased.core.telegram import (
    Arrived,
    BotIdentity,
    Migrated,
    Skipped,
    SkipReason,
    inbound_event,
    parse_identity,
    parse_update,
    place_parameters,
    send_parameters,
)

BOT = BotIdentity("77", "Fased_Bot", "Fased")
PRIVATE = {"id": 42, "type": "private", "first_name": "Ann"}
FORUM = {"id": -100123, "type": "supergroup", "title": "Ops", "is_forum": True}
ANN = {"id": 42, "is_bot": False, "first_name": "Ann", "last_name": "Bo"}
BOT_USER = {"id": 77, "is_bot": True, "first_name": "Fased", "username": "Fased_Bot"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def update_of(kind: str = "message", **message: Any) -> dict[str, Any]:
    made = {"message_id": 7, "date": 1_700_000_000, "chat": PRIVATE, "from": ANN, "text": "hi"}
    return {"update_id": 500, kind: made | message}


def sent_by(user: dict[str, Any]) -> dict[str, Any]:
    return {"from": user}


def arrived(**message: Any) -> Arrived:
    parsed = parse_update(update_of(**message), BOT)
    assert isinstance(parsed, Arrived)
    return parsed


def test_a_private_message_arrives_from_its_person() -> None:
    assert arrived() == Arrived(
        update_id=500,
        message_id="7",
        peer=Peer(PeerKind.DIRECT, "42"),
        thread=None,
        sender=Sender("42", "Ann Bo"),
        text="hi",
        sent_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        reply_to=None,
        mentions=(),
        mentions_bot=False,
        replies_to_bot=False,
        is_in_own_topic=False,
        is_from_bot=False,
    )


def test_its_event_is_named_by_namespace_account_and_update() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    event = inbound_event(arrived(), Namespace("team"), AccountId("alerts"), now)
    assert event.event_id == "team:telegram:alerts:500"
    assert (event.channel, event.native_id, event.received_at) == ("telegram", "7", now)


@pytest.mark.parametrize(
    ("chat_type", "kind"),
    [
        ("private", PeerKind.DIRECT),
        ("group", PeerKind.GROUP),
        ("supergroup", PeerKind.GROUP),
        ("channel", PeerKind.CHANNEL),
    ],
)
def test_each_type_of_chat_is_a_kind_of_peer(chat_type: str, kind: PeerKind) -> None:
    assert arrived(chat={"id": -5, "type": chat_type}).peer == Peer(kind, "-5")


def test_a_forum_topic_is_a_thread_and_its_first_message_no_reply() -> None:
    root = {"message_id": 9, "chat": FORUM, "forum_topic_created": {"name": "x"}, "from": ANN}
    message = arrived(chat=FORUM, message_thread_id=9, is_topic_message=True, reply_to_message=root)
    assert message.thread == Thread(ThreadKind.TOPIC, "9")
    assert message.reply_to is None


@pytest.mark.parametrize(("maker", "is_own"), [(BOT_USER, True), (ANN, False)])
def test_a_topic_that_the_bot_made_is_its_own(maker: dict[str, Any], is_own: bool) -> None:
    root = {"message_id": 9, "chat": FORUM, "forum_topic_created": {"name": "x"}, "from": maker}
    message = arrived(chat=FORUM, message_thread_id=9, is_topic_message=True, reply_to_message=root)
    event = inbound_event(message, Namespace("default"), AccountId("default"), message.sent_at)
    assert event.thread_is_mine == is_own
    assert not message.replies_to_bot


def test_a_tree_of_answers_outside_a_forum_is_no_thread() -> None:
    assert arrived(chat=FORUM | {"is_forum": False}, message_thread_id=9).thread is None


def test_a_reply_quotes_what_it_answers() -> None:
    replied = {"message_id": 3, "chat": FORUM, "from": BOT_USER, "text": "all of it"}
    message = arrived(chat=FORUM, reply_to_message=replied)
    assert message.reply_to == ReplyTo("3", "all of it", "Fased")
    assert message.replies_to_bot
    assert not message.mentions_bot


def test_a_quoted_part_stands_for_the_whole() -> None:
    replied = {"message_id": 3, "chat": PRIVATE, "from": ANN, "caption": "all of it"}
    message = arrived(reply_to_message=replied, quote={"text": "of it", "position": 4})
    assert message.reply_to == ReplyTo("3", "of it", "Ann Bo")
    assert not message.replies_to_bot


def test_mentions_are_found_at_their_utf16_offsets() -> None:
    text = "🙂 @fased_bot and @Eve and Ann"
    entities = [
        {"type": "mention", "offset": 3, "length": 10},
        {"type": "mention", "offset": 18, "length": 4},
        {"type": "text_mention", "offset": 27, "length": 3, "user": ANN},
        {"type": "bold", "offset": 0, "length": 2},
    ]
    message = arrived(chat=FORUM, text=text, entities=entities)
    assert message.mentions == ("77", "eve", "42")
    assert message.mentions_bot


def test_a_caption_is_the_text_of_a_picture() -> None:
    update = update_of(
        caption="look @fased_bot",
        photo=[],
        caption_entities=[{"type": "mention", "offset": 5, "length": 10}],
    )
    del update["message"]["text"]
    message = parse_update(update, BOT)
    assert isinstance(message, Arrived)
    assert (message.text, message.mentions_bot) == ("look @fased_bot", True)


def test_a_command_for_this_bot_loses_its_name_and_names_the_bot() -> None:
    message = arrived(chat=FORUM, text="/status@fased_BOT now")
    assert (message.text, message.mentions) == ("/status now", ("77",))


def test_people_who_write_as_a_chat_are_that_chat_and_no_bots() -> None:
    anonymous = {"id": 1087968824, "is_bot": True, "first_name": "Group"}
    message = arrived(chat=FORUM, sender_chat=FORUM, **sent_by(anonymous))
    assert (message.sender, message.is_from_bot) == (Sender("-100123", "Ops"), False)


def test_a_channel_post_is_from_its_channel() -> None:
    channel = {"id": -100, "type": "channel", "title": "News"}
    update = update_of("channel_post", chat=channel)
    del update["channel_post"]["from"]
    message = parse_update(update, BOT)
    assert isinstance(message, Arrived)
    assert (message.peer.kind, message.sender) == (PeerKind.CHANNEL, Sender("-100", "News"))


def test_another_bot_is_known_as_one() -> None:
    assert arrived(**sent_by(ANN | {"is_bot": True})).is_from_bot


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (update_of("edited_message"), SkipReason.EDITED),
        (update_of("edited_channel_post"), SkipReason.EDITED),
        ({"update_id": 500, "my_chat_member": {}}, SkipReason.NOT_A_MESSAGE),
        ({"update_id": 500}, SkipReason.NOT_A_MESSAGE),
        (update_of(text=None, new_chat_members=[ANN]), SkipReason.NO_TEXT),
        (update_of(text=" "), SkipReason.NO_TEXT),
        (update_of(**sent_by(BOT_USER)), SkipReason.OWN_MESSAGE),
        (update_of(text="/stop@other_bot"), SkipReason.FOR_ANOTHER_BOT),
    ],
)
def test_what_is_nothing_to_us_is_skipped(update: Any, reason: SkipReason) -> None:
    assert parse_update(update, BOT) == Skipped(500, reason)


def test_a_group_that_became_a_supergroup_is_told_alike_from_both_sides() -> None:
    old = {"id": -5, "type": "group", "title": "Ops"}
    migrated = Migrated(500, Peer(PeerKind.GROUP, "-5"), Peer(PeerKind.GROUP, "-100123"))
    assert parse_update(update_of(chat=old, migrate_to_chat_id=-100123), BOT) == migrated
    assert parse_update(update_of(chat=FORUM, migrate_from_chat_id=-5), BOT) == migrated


@pytest.mark.parametrize(
    ("update", "field"),
    [
        ([], "update"),
        ("x", "update"),
        ({}, "update_id"),
        ({"update_id": "5"}, "update_id"),
        ({"update_id": -1}, "update_id"),
        ({"update_id": 5, "message": []}, "message"),
        (update_of(message_id=None), "message.message_id"),
        (update_of(date="now"), "message.date"),
        (update_of(date=10**30), "message.date"),
        (update_of(chat=None), "message.chat.type"),
        (update_of(chat={"id": 1, "type": "planet"}), "message.chat.type"),
        (update_of(chat={"id": "a", "type": "group"}), "message.chat.id"),
        (update_of(**sent_by({"first_name": "x"})), "message.from.id"),
        (update_of(text={"a": 1}), "message.text"),
        (update_of(entities=[{"type": "mention", "offset": -1}]), "message.entities[0].offset"),
        (update_of(entities=[{"type": "text_mention"}]), "message.entities[0].user.id"),
        (update_of(reply_to_message={"from": ANN}), "message.reply_to_message.message_id"),
        (update_of("channel_post", date=None), "channel_post.date"),
    ],
)
def test_a_malformed_update_names_its_field(update: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_update(update, BOT)
    assert (caught.value.reason, caught.value.metadata) == ("MALFORMED_UPDATE", {"field": field})


@given(st.data())
def test_an_update_of_any_shape_is_parsed_or_refused(data: st.DataObject) -> None:
    replied = {"message_id": 3, "chat": FORUM, "from": BOT_USER, "text": "x"}
    entities = [{"type": "mention", "offset": 0, "length": 3}]
    update: Any = deepcopy(update_of(reply_to_message=replied, entities=entities, quote={}))
    holder = update
    while True:
        key = data.draw(st.sampled_from(sorted(holder)))
        if not isinstance(holder[key], dict) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(JSON)
    field = "update"
    try:
        parse_update(update, BOT)
    except InvalidArgument as exc:
        field = exc.metadata["field"]
    assert re.fullmatch(r"(update|message)[\w.\[\]]*", field)


def test_the_bots_identity_is_read_from_get_me() -> None:
    assert parse_identity(BOT_USER) == BotIdentity("77", "Fased_Bot", "Fased")
    with pytest.raises(InvalidArgument, match=r"result\.id"):
        parse_identity({"username": "x"})


def test_a_message_is_sent_to_its_chat_topic_and_question() -> None:
    target = Target(
        ChannelId("telegram"),
        AccountId("a"),
        Peer(PeerKind.GROUP, "-100123"),
        Thread(ThreadKind.TOPIC, "9"),
        "7",
    )
    assert send_parameters(target, "<b>x</b>", is_html=True) == {
        "chat_id": "-100123",
        "message_thread_id": 9,
        "text": "<b>x</b>",
        "parse_mode": "HTML",
        "reply_parameters": {"message_id": 7, "allow_sending_without_reply": True},
    }
    assert place_parameters(target) == {"chat_id": "-100123", "message_thread_id": 9}


def test_plain_text_is_sent_without_a_mode() -> None:
    target = Target(ChannelId("telegram"), AccountId("a"), Peer(PeerKind.DIRECT, "42"))
    assert send_parameters(target, "x", is_html=False) == {"chat_id": "42", "text": "x"}
