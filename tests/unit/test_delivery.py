"""What follows a call to a platform, and when a delivery is at its end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import delivery
from fased.core.delivery import (
    CallEnd,
    CallResult,
    Chunk,
    DeliveryState,
    UnknownPolicy,
    after_call,
    backoff,
    final_state,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)

chunks = st.builds(
    Chunk,
    ordinal=st.just(0),
    state=st.just(DeliveryState.SENDING),
    text=st.just("<b>x</b>"),
    plain=st.sampled_from(["", "x"]),
    is_plain=st.booleans(),
    attempts=st.integers(1, 500),
    unknowns=st.integers(0, 10),
)
results = st.builds(
    CallResult,
    end=st.sampled_from(CallEnd),
    receipt=st.just("7"),
    reason=st.just("WHY"),
    wait=st.none() | st.timedeltas(timedelta(0), timedelta(days=1)),
)
jitters = st.floats(0, 1)


def sending(**fields: object) -> Chunk:
    """A chunk whose call ended."""
    known = {"ordinal": 0, "attempts": 1, "text": "<b>x</b>", "plain": "x"} | fields
    return Chunk(state=DeliveryState.SENDING, **known)  # type: ignore[arg-type]


@given(chunks, results, st.sampled_from(UnknownPolicy), jitters, st.integers(-10, 7200))
def test_a_step_is_an_end_or_a_try_before_the_deadline(
    chunk: Chunk, result: CallResult, policy: UnknownPolicy, jitter: float, left_s: int
) -> None:
    deadline = NOW + timedelta(seconds=left_s)
    step = after_call(chunk, result, policy, now=NOW, deadline=deadline, jitter=jitter)
    assert step.state is not DeliveryState.SENDING
    if step.state is DeliveryState.PENDING:
        assert step.retry_at is not None
        assert step.retry_at >= NOW
        is_at_once = result.end in (CallEnd.UNFORMATTED, CallEnd.MOVED)
        assert step.retry_at < deadline or is_at_once
    elif step.state is not DeliveryState.SENT:
        assert step.reason


@given(chunks, results, jitters)
def test_what_may_have_arrived_is_never_sent_again_under_hold(
    chunk: Chunk, result: CallResult, jitter: float
) -> None:
    step = after_call(chunk, result, UnknownPolicy.HOLD, now=NOW, deadline=LATER, jitter=jitter)
    if result.end is CallEnd.UNKNOWN:
        assert step.state is DeliveryState.UNKNOWN
        assert step.is_unknown


@given(chunks, jitters)
def test_only_what_the_platform_said_it_sent_is_sent(chunk: Chunk, jitter: float) -> None:
    for end in CallEnd:
        for policy in UnknownPolicy:
            step = after_call(
                chunk,
                CallResult(end, "7", "WHY"),
                policy,
                now=NOW,
                deadline=LATER,
                jitter=jitter,
            )
            assert (step.state is DeliveryState.SENT) == (end is CallEnd.SENT)


def test_resend_gives_up_after_a_bounded_number_of_unseen_ends() -> None:
    unknowns = 0
    while True:
        step = after_call(
            sending(unknowns=unknowns),
            CallResult(CallEnd.UNKNOWN, reason="NO_ANSWER"),
            UnknownPolicy.RESEND,
            now=NOW,
            deadline=LATER,
            jitter=0,
        )
        unknowns += 1
        if step.state is DeliveryState.UNKNOWN:
            break
    assert unknowns == delivery.MAX_UNKNOWNS


def test_formatting_is_tried_plain_once() -> None:
    refused = CallResult(CallEnd.UNFORMATTED, reason="FORMATTING")
    given_up = {"policy": UnknownPolicy.HOLD, "now": NOW, "deadline": LATER, "jitter": 0.0}
    step = after_call(sending(), refused, **given_up)  # type: ignore[arg-type]
    assert (step.state, step.is_plain, step.retry_at) == (DeliveryState.PENDING, True, NOW)
    step = after_call(sending(is_plain=True), refused, **given_up)  # type: ignore[arg-type]
    assert (step.state, step.reason) == (DeliveryState.FAILED, "FORMATTING")


@given(st.integers(1, 10_000), jitters)
def test_waits_grow_and_stay_within_a_minute(failures: int, jitter: float) -> None:
    assert backoff(failures, jitter) <= backoff(failures + 1, 0.0)
    assert delivery.FIRST_RETRY / 2 <= backoff(failures, jitter) <= delivery.LAST_RETRY


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("sent sent", "sent"),
        ("sent pending", "pending"),
        ("unknown sending", "pending"),
        ("unknown sent", "unknown"),
        ("sent unknown failed", "failed"),
    ],
)
def test_a_delivery_is_as_the_worst_of_its_chunks_once_all_have_an_end(
    states: str, expected: str
) -> None:
    found = final_state(DeliveryState(word) for word in states.split())
    assert found == DeliveryState(expected)
