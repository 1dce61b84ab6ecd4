"""The Bot API's answers: what each means for the call that got it."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.telegram_answers import Answer, AnswerKind, classify, unanswered


def refused(code: int, description: str, **parameters: int) -> Answer:
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return classify(code, body | ({"parameters": parameters} if parameters else {}))


def test_a_result_is_ok() -> None:
    assert classify(200, {"ok": True, "result": {"message_id": 5}}) == Answer(
        AnswerKind.OK, result={"message_id": 5}
    )


def test_a_flood_says_how_long_to_wait() -> None:
    answer = refused(429, "Too Many Requests: retry after 7", retry_after=7)
    assert (answer.kind, answer.retry_after) == (AnswerKind.RETRY_AFTER, timedelta(seconds=7))


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        ({"ok": False, "error_code": 429, "description": "Too Many: retry after 9"}, 9),
        ({"ok": False, "error_code": 429}, 5),
        ({"ok": False, "error_code": 429, "parameters": {"retry_after": -3}}, 1),
        ({"ok": False, "error_code": 429, "parameters": {"retry_after": 10**9}}, 86_400),
        (None, 5),
    ],
)
def test_a_flood_always_has_a_wait_within_bounds(body: object, wait_s: int) -> None:
    assert classify(429, body).retry_after == timedelta(seconds=wait_s)


@pytest.mark.parametrize(
    ("code", "description", "reason"),
    [
        (400, "Bad Request: chat not found", "CHAT_NOT_FOUND"),
        (403, "Forbidden: bot was blocked by the user", "BOT_BLOCKED"),
        (403, "Forbidden: user is deactivated", "USER_DEACTIVATED"),
        (403, "Forbidden: bot was kicked from the supergroup chat", "BOT_KICKED"),
        (403, "Forbidden: bot is not a member of the channel chat", "BOT_KICKED"),
        (403, "Forbidden: bot can't initiate conversation with a user", "CHAT_NOT_STARTED"),
        (
            400,
            "Bad Request: not enough rights to send text messages to the chat",
            "WRITE_FORBIDDEN",
        ),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN", "WRITE_FORBIDDEN"),
        (400, "Bad Request: message thread not found", "TOPIC_NOT_FOUND"),
        (400, "Bad Request: TOPIC_CLOSED", "TOPIC_CLOSED"),
        (400, "Bad Request: message is too long", "MESSAGE_TOO_LONG"),
        (400, "Bad Request: something new", "REFUSED"),
        (403, "Forbidden: something new", "REFUSED"),
    ],
)
def test_what_will_never_do_is_permanent_with_its_reason(
    code: int, description: str, reason: str
) -> None:
    answer = refused(code, description)
    assert (answer.kind, answer.reason) == (AnswerKind.PERMANENT, reason)


def test_an_unknown_refusal_is_told_in_telegrams_words_on_one_line() -> None:
    answer = refused(400, "Bad Request: a\nnew   rule " + "x" * 500)
    assert answer.message.startswith("Telegram refused it: Bad Request: a new rule")
    assert len(answer.message) < 250


@pytest.mark.parametrize(
    "description",
    [
        "Bad Request: can't parse entities: Unsupported start tag",
        "Bad Request: ENTITY_BOUNDS_INVALID",
        "Bad Request: unsupported parse_mode",
    ],
)
def test_refused_formatting_is_known_from_other_refusals(description: str) -> None:
    assert refused(400, description).kind is AnswerKind.FORMATTING


def test_a_migrated_group_says_its_new_id() -> None:
    answer = refused(
        400,
        "Bad Request: group chat was upgraded to a supergroup chat",
        migrate_to_chat_id=-1001234567890123,
    )
    assert (answer.kind, answer.migrated_to) == (AnswerKind.MIGRATED, "-1001234567890123")


@pytest.mark.parametrize("code", [401, 404])
def test_a_revoked_or_misspelt_token_is_refused(code: int) -> None:
    assert refused(code, "Unauthorized").kind is AnswerKind.TOKEN_REFUSED


def test_two_conflicts_have_two_reasons() -> None:
    other = "Conflict: terminated by other getUpdates request; make sure that only one runs"
    webhook = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook"
    assert refused(409, other).reason == "OTHER_POLLER"
    assert refused(409, webhook).reason == "WEBHOOK_ACTIVE"


@pytest.mark.parametrize(
    ("status", "description", "kind"),
    [
        (500, "Internal Server Error", AnswerKind.TRANSIENT),
        (503, "Service Unavailable", AnswerKind.TRANSIENT),
        (500, "Internal Server Error: Request aborted", AnswerKind.UNKNOWN),
        (502, "Bad Gateway", AnswerKind.UNKNOWN),
        (504, "Gateway Timeout", AnswerKind.UNKNOWN),
    ],
)
def test_a_failure_behind_a_gateway_may_have_sent_the_message(
    status: int, description: str, kind: AnswerKind
) -> None:
    assert refused(status, description).kind is kind


def test_a_page_is_no_answer_of_the_bot_api() -> None:
    assert classify(502, None).kind is AnswerKind.UNKNOWN
    assert classify(503, None).kind is AnswerKind.TRANSIENT
    assert classify(200, ["x"]).kind is AnswerKind.UNKNOWN
    assert classify(404, None).reason == "NOT_A_BOT_API"


def test_silence_is_unknown_only_once_the_call_was_written() -> None:
    assert unanswered("timed out", was_written=True).kind is AnswerKind.UNKNOWN
    assert unanswered("connection refused", was_written=False).kind is AnswerKind.TRANSIENT


@given(
    st.integers(100, 599),
    st.none()
    | st.text(max_size=3)
    | st.fixed_dictionaries(
        {"ok": st.booleans() | st.text(max_size=2)},
        optional={
            "error_code": st.integers() | st.none() | st.text(max_size=2),
            "description": st.text(max_size=30) | st.integers() | st.none(),
            "parameters": st.none()
            | st.dictionaries(
                st.sampled_from(["retry_after", "migrate_to_chat_id"]),
                st.integers() | st.text(max_size=2) | st.none(),
            ),
        },
    ),
)
def test_any_answer_means_something(status: int, body: object) -> None:
    answer = classify(status, body)
    assert (answer.kind is AnswerKind.OK) == (not answer.reason)
    assert (answer.retry_after is not None) == (answer.kind is AnswerKind.RETRY_AFTER)
    assert bool(answer.migrated_to) == (answer.kind is AnswerKind.MIGRATED)
