"""What an answer of Telegram's Bot API means for the call that got it.

Decides whether a call is done, is to be tried again, how and when, or never; and what a person is
told. It does not decide what happens to a delivery then (`delivery.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

DEFAULT_RETRY_S = 5
LONGEST_RETRY_S = 86_400
MAX_DETAIL_CHARS = 200


class AnswerKind(StrEnum):
    """What is to be done after a call.

    `unknown` is a call that may have been carried out although nobody said so: sending again may
    send twice. A call that only reads may be made again.
    """

    OK = "ok"
    RETRY_AFTER = "retry_after"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    FORMATTING = "formatting"
    MIGRATED = "migrated"
    PERMANENT = "permanent"
    CONFLICT = "conflict"
    TOKEN_REFUSED = "token_refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to: `result` where it is done, else a reason and a sentence.

    `retry_after` is set for RETRY_AFTER, `migrated_to` (the chat's new id) for MIGRATED.
    """

    kind: AnswerKind
    reason: str = ""
    message: str = ""
    result: object = None
    retry_after: timedelta | None = None
    migrated_to: str = ""


# The beginnings of what Telegram says after the class of error, in lower case; it changes words
# now and then, so what is not here is told as it is.
_PERMANENT: tuple[tuple[str, str, str], ...] = (
    ("chat not found", "CHAT_NOT_FOUND", "The bot knows no such chat."),
    ("bot was blocked by the user", "BOT_BLOCKED", "The person has blocked the bot."),
    ("user is deactivated", "USER_DEACTIVATED", "The person's account is gone."),
    ("bot was kicked from", "BOT_KICKED", "The bot was removed from the chat."),
    ("bot is not a member of", "BOT_KICKED", "The bot is not in the chat."),
    ("the group chat was deleted", "CHAT_NOT_FOUND", "The chat was deleted."),
    (
        "bot can't initiate conversation",
        "CHAT_NOT_STARTED",
        "The person has not begun a chat with the bot.",
    ),
    ("bot can't send messages to bots", "PEER_IS_BOT", "Bots cannot write to bots."),
    ("not enough rights", "WRITE_FORBIDDEN", "The bot may not write in the chat."),
    ("have no rights to send", "WRITE_FORBIDDEN", "The bot may not write in the chat."),
    ("need administrator rights", "WRITE_FORBIDDEN", "The bot may not write in the chat."),
    ("chat_write_forbidden", "WRITE_FORBIDDEN", "The bot may not write in the chat."),
    ("message thread not found", "TOPIC_NOT_FOUND", "The topic is gone."),
    ("topic_deleted", "TOPIC_NOT_FOUND", "The topic is gone."),
    ("topic_closed", "TOPIC_CLOSED", "The topic is closed."),
    ("message is too long", "MESSAGE_TOO_LONG", "The message is too long."),
    ("message text is empty", "MESSAGE_EMPTY", "The message shows nothing."),
)
_FORMATTING = (
    "can't parse entities",
    "can't parse message text",
    "unsupported parse_mode",
    "entity_",
)
# Said of a call that was passed on, or begun: it may have been carried out all the same.
_AMBIGUOUS = frozenset({502, 504})
_CLASS_OF_ERROR = re.compile(r"\A(?:bad request|forbidden|conflict|unauthorized): ", re.IGNORECASE)
_ASKED_WAIT = re.compile(r"retry after (\d{1,9})")


def classify(status: int, body: object) -> Answer:
    """What an HTTP answer means; `body` is its decoded JSON, None where it was none.

    A page that is none of the Bot API's comes from whatever is before it.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("ok"), bool):
        return _foreign(status)
    if body["ok"]:
        return Answer(AnswerKind.OK, result=body.get("result"))
    code = body.get("error_code")
    parameters = body.get("parameters")
    return _refusal(
        code if isinstance(code, int) else status,
        _one_line(body.get("description")),
        parameters if isinstance(parameters, Mapping) else {},
    )


def unanswered(detail: str, *, was_written: bool) -> Answer:
    """What a call without an answer means: unknown once any of it was written."""
    if was_written:
        return Answer(
            AnswerKind.UNKNOWN,
            "NO_ANSWER",
            f"Telegram did not answer ({_one_line(detail)}): it may have been sent.",
        )
    return Answer(
        AnswerKind.TRANSIENT, "UNREACHABLE", f"Telegram cannot be reached ({_one_line(detail)})."
    )


def _foreign(status: int) -> Answer:
    if status == 429:
        return _flood("", {})
    if 400 <= status < 500:
        return Answer(
            AnswerKind.PERMANENT,
            "NOT_A_BOT_API",
            f"What answers there is no Bot API (HTTP {status}). Check the base URL.",
        )
    return _server_error(status, "")


def unbegun() -> Answer:
    """What a call means that would have come too late, and was not made."""
    return Answer(AnswerKind.TRANSIENT, "TOO_LATE", "It was not sent: its sender stood still.")


def _refusal(code: int, description: str, parameters: Mapping[str, object]) -> Answer:
    migrated_to = parameters.get("migrate_to_chat_id")
    if isinstance(migrated_to, int):
        return Answer(
            AnswerKind.MIGRATED,
            "CHAT_MIGRATED",
            "The group became a supergroup with another id.",
            migrated_to=str(migrated_to),
        )
    match code:
        case 429:
            return _flood(description, parameters)
        case 401 | 404:
            # A token of the wrong form is answered as an unknown path.
            return Answer(
                AnswerKind.TOKEN_REFUSED,
                "TOKEN_REFUSED",
                "Telegram refused the bot's token. Check the account's credential.",
            )
        case 409:
            return _conflict(description)
        case _ if code >= 500:
            return _server_error(code, description)
        case _:
            return _refused_message(description)


def _server_error(code: int, description: str) -> Answer:
    if 500 <= code < 600 and code not in _AMBIGUOUS and "aborted" not in description.lower():
        return Answer(AnswerKind.TRANSIENT, "SERVER_ERROR", f"Telegram failed ({code}).")
    return unanswered(f"HTTP {code}", was_written=True)


def _flood(description: str, parameters: Mapping[str, object]) -> Answer:
    asked = parameters.get("retry_after")
    said = _ASKED_WAIT.search(description)
    wait_s = asked if isinstance(asked, int) else int(said[1]) if said else DEFAULT_RETRY_S
    wait_s = min(max(wait_s, 1), LONGEST_RETRY_S)
    return Answer(
        AnswerKind.RETRY_AFTER,
        "RATE_LIMITED",
        f"Telegram asks to wait for {wait_s} seconds.",
        retry_after=timedelta(seconds=wait_s),
    )


def _conflict(description: str) -> Answer:
    if "webhook is active" in description:
        return Answer(
            AnswerKind.CONFLICT, "WEBHOOK_ACTIVE", "The bot has a webhook, so it cannot be polled."
        )
    return Answer(AnswerKind.CONFLICT, "OTHER_POLLER", "Somebody else polls with the bot's token.")


def _refused_message(description: str) -> Answer:
    said = _CLASS_OF_ERROR.sub("", description).lower()
    if said.startswith(_FORMATTING):
        return Answer(
            AnswerKind.FORMATTING, "FORMATTING", f"Telegram refused the formatting: {description}"
        )
    for beginning, reason, sentence in _PERMANENT:
        if said.startswith(beginning):
            return Answer(AnswerKind.PERMANENT, reason, sentence)
    return Answer(AnswerKind.PERMANENT, "REFUSED", f"Telegram refused it: {description}")


def _one_line(text: object) -> str:
    return " ".join(text.split())[:MAX_DETAIL_CHARS] if isinstance(text, str) else ""
