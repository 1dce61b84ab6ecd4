"""What a chat is told when a run ends: once, by its kind, and only when it is its business."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fased.core import answers
from fased.core.messages import MessageKind, Peer, PeerKind, Sender, Target
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, RunId, SessionId, SessionKey
from fased.core.runs import (
    EndedRun,
    ExecutionMode,
    Outcome,
    RunBody,
    RunClass,
    RunInput,
    RunResult,
    Trigger,
)

AT = datetime(2026, 3, 2, tzinfo=UTC)
TARGET = Target(ChannelId("webchat"), AccountId("default"), Peer(PeerKind.DIRECT, "ada"))
INPUTS = tuple(RunInput(f"e{n}", "hello", Sender("ada"), AT) for n in (1, 2))
NOT_SUCCEEDED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.BLOCKED)
NEVER_RAN = (Outcome.SKIPPED, Outcome.MISSED, Outcome.MERGED)


def ended(
    outcome: Outcome = Outcome.SUCCEEDED,
    trigger: Trigger = Trigger.MESSAGE,
    *,
    deliver: bool = False,
    target: Target | None = TARGET,
    text: str = "",
    correlation_id: str = "",
) -> EndedRun:
    is_message = trigger is Trigger.MESSAGE
    body = RunBody(
        agent_id=AgentId("main"),
        session_key=SessionKey("agent:main:main"),
        session_id=SessionId("s1"),
        mode=ExecutionMode.AGENT_TURN,
        trigger=trigger,
        inputs=INPUTS if is_message else (),
        task_name="" if is_message else "Report",
        target=target,
        correlation_id=correlation_id,
    )
    return EndedRun(
        run_id=RunId(7),
        namespace=Namespace("default"),
        run_class=RunClass.MESSAGE,
        task_id=None,
        epoch=1,
        body=body,
        outcome=outcome,
        result=RunResult(text=text, reason="X", message="it broke."),
        deliver=deliver,
        ended_at=AT,
    )


def test_an_answer_goes_to_its_target_and_names_the_last_message() -> None:
    told = answers.told_at_end(ended(deliver=True, text="hi"), "id")
    assert told is not None
    assert (told.text, told.kind, told.event_id) == ("hi", MessageKind.ANSWER, "e2")
    assert (told.target, told.run_id) == (TARGET, 7)


def test_an_answer_that_is_not_to_be_delivered_is_not() -> None:
    assert answers.told_at_end(ended(text="NO_REPLY"), "id") is None
    assert answers.told_at_end(ended(trigger=Trigger.SCHEDULE, text="HEARTBEAT_OK"), "id") is None


@pytest.mark.parametrize("outcome", NOT_SUCCEEDED)
def test_whatever_ends_a_message_is_said_in_one_line(outcome: Outcome) -> None:
    told = answers.told_at_end(ended(outcome), "id")
    assert told is not None
    assert told.text
    assert "\n" not in told.text
    assert told.event_id == "e2"
    stopped = outcome is Outcome.CANCELLED
    assert told.kind is (MessageKind.NOTICE if stopped else MessageKind.FAILURE)


@pytest.mark.parametrize("outcome", NOT_SUCCEEDED)
def test_a_failure_is_told_to_who_asked_for_the_run_and_not_for_a_slots(outcome: Outcome) -> None:
    assert answers.told_at_end(ended(outcome, Trigger.SCHEDULE), "id") is None
    told = answers.told_at_end(ended(outcome, Trigger.MANUAL, correlation_id="e9"), "id")
    assert told is not None
    assert told.text.startswith("**Report**: ")
    assert told.event_id == "e9"


def test_who_asked_for_a_run_hears_that_it_had_nothing_to_say() -> None:
    silent = ended(trigger=Trigger.MANUAL, correlation_id="e9")
    told = answers.told_at_end(silent, "id")
    assert told is not None
    assert (told.kind, told.event_id) == (MessageKind.NOTICE, "e9")
    unasked = silent._replace(body=replace(silent.body, correlation_id=""))
    assert answers.told_at_end(unasked, "id") is None


@pytest.mark.parametrize("outcome", NEVER_RAN)
@pytest.mark.parametrize("trigger", [Trigger.MESSAGE, Trigger.MANUAL, Trigger.SCHEDULE])
def test_what_never_ran_is_not_told(outcome: Outcome, trigger: Trigger) -> None:
    assert answers.told_at_end(ended(outcome, trigger, deliver=True), "id") is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_internal_run_tells_nobody(outcome: Outcome) -> None:
    internal = ended(outcome, Trigger.MANUAL, target=None, deliver=True, text="hi")
    assert answers.told_at_end(internal, "id") is None


def test_a_notice_to_wait_answers_no_event() -> None:
    body = ended().body
    told = answers.told_to_wait(Namespace("default"), RunId(7), body, "id")
    assert told is not None
    assert (told.kind, told.event_id) == (MessageKind.NOTICE, "")
    childs = replace(body, inputs=())
    assert answers.told_to_wait(Namespace("default"), RunId(7), childs, "id") is None
