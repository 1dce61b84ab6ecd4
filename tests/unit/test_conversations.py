"""The pure side of WebChat: what may be posted, and how a post's state moves."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.conversations import (
    PostState,
    check_post,
    event_id_of,
    next_post_state,
    post_id_of,
)
from fased.core.errors import InvalidArgument
from fased.core.messages import MessageKind
from fased.core.names import Namespace

SAID = st.sampled_from([None, *MessageKind])


def state_after(said: list[MessageKind | None]) -> PostState:
    state = PostState.QUEUED
    for each in said:
        state = next_post_state(state, each) or state
    return state


@given(st.lists(SAID))
def test_an_answer_is_the_last_word_about_a_post(said: list[MessageKind | None]) -> None:
    answered = any(each in (MessageKind.ANSWER, MessageKind.NOTICE) for each in said)
    assert (state_after(said) is PostState.ANSWERED) == answered


@given(st.lists(SAID))
def test_a_post_fails_only_by_a_failure_without_an_answer(said: list[MessageKind | None]) -> None:
    spoken = {each for each in said if each is not None}
    assert (state_after(said) is PostState.FAILED) == (spoken == {MessageKind.FAILURE})


@given(st.sampled_from(PostState), SAID)
def test_a_change_is_never_to_the_same_state(state: PostState, said: MessageKind | None) -> None:
    assert next_post_state(state, said) is not state


def test_a_start_that_comes_late_changes_nothing() -> None:
    assert next_post_state(PostState.ANSWERED, None) is None
    assert next_post_state(PostState.FAILED, None) is None
    assert next_post_state(PostState.THINKING, None) is None


@given(st.uuids(), st.text(min_size=1, max_size=64))
def test_a_post_is_found_again_by_its_event_id(conversation_id: uuid.UUID, message_id: str) -> None:
    here = Namespace("default")
    event_id = event_id_of(here, conversation_id, message_id)
    assert post_id_of(here, conversation_id, event_id) == message_id
    assert post_id_of(Namespace("other"), conversation_id, event_id) == ""


@pytest.mark.parametrize(
    ("message_id", "text", "field"),
    [
        ("", "hi", "message_id"),
        ("x" * 65, "hi", "message_id"),
        ("a\nb", "hi", "message_id"),
        ("a", "", "text"),
        ("a", " \n ", "text"),
        ("a", "x" * 32_001, "text"),
        ("a", "a\0b", "text"),
    ],
)
def test_a_post_that_cannot_be_names_its_field(message_id: str, text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_post(message_id, text)
    assert refused.value.metadata == {"field": field}


def test_a_post_may_use_its_bounds() -> None:
    check_post("x" * 64, "y" * 32_000)
