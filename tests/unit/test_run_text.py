"""Runs in words: one line in a list, every fact in a detail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fased.core import run_text
from fased.core.names import AgentId, Namespace, RunId, SessionId, SessionKey, TaskId
from fased.core.queue import RunView
from fased.core.runs import ExecutionMode, RunBody, RunClass, RunResult, Trigger

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BODY = RunBody(
    agent_id=AgentId("main"),
    session_key=SessionKey("agent:main:main"),
    session_id=SessionId("s1"),
    mode=ExecutionMode.AGENT_TURN,
    trigger=Trigger.SCHEDULE,
    task_name="Report",
    slot=AT,
)
QUEUED = RunView(
    run_id=RunId(7),
    namespace=Namespace("default"),
    state="queued",
    run_class=RunClass.SCHEDULED,
    lane="session:agent:main:main",
    task_id=TaskId("11111111-1111-4111-8111-111111111111"),
    body=BODY,
    attempts=0,
    crashes=0,
    worker_id="",
    cancel_requested=False,
    last_reason="",
    created_at=AT,
    run_at=AT,
    leased_at=None,
    deadline_at=None,
)
ENDED = replace(
    QUEUED,
    state="succeeded",
    leased_at=AT,
    ended_at=AT + timedelta(seconds=3),
    result=RunResult(text="All is\nwell.", model="a/b", input_tokens=5, output_tokens=2),
)


def failed(reason: str = "X", message: str = "the model is down.") -> RunView:
    return replace(ENDED, state="failed", result=RunResult(reason=reason, message=message))


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (QUEUED, "**#7** queued · schedule · 2026-03-02 09:00:00 UTC"),
        (ENDED, "**#7** succeeded · schedule · 2026-03-02 09:00:03 UTC · 3s · All is well."),
        (
            failed(),
            "**#7** failed · schedule · 2026-03-02 09:00:03 UTC · 3s"
            " · No answer: the model is down.",
        ),
        (
            replace(QUEUED, state="running", leased_at=AT, cancel_requested=True),
            "**#7** running, asked to stop · schedule · 2026-03-02 09:00:00 UTC",
        ),
        (
            replace(QUEUED, state="delayed", attempts=1, last_reason="RATE_LIMIT"),
            "**#7** delayed · schedule · again at 2026-03-02 09:00:00 UTC"
            " · the last attempt failed: RATE_LIMIT",
        ),
        (
            replace(
                QUEUED,
                state="skipped",
                slot_count=3,
                first_slot=AT,
                last_slot=AT + timedelta(hours=2),
                ended_at=AT + timedelta(hours=2),
                result=RunResult(reason="OVERLAP", message="A run of the task was going on."),
            ),
            "**#7** skipped (3 slots) · schedule"
            " · 2026-03-02 09:00:00 UTC to 2026-03-02 11:00:00 UTC"
            " · A run of the task was going on.",
        ),
    ],
)
def test_a_run_in_one_line(view: RunView, line: str) -> None:
    assert run_text.compact(view) == line


def test_a_long_answer_is_cut_in_the_line_and_whole_in_the_detail() -> None:
    view = replace(ENDED, result=RunResult(text="word " * 100))
    assert len(run_text.summary(view)) == run_text.SUMMARY_CHARS
    assert run_text.summary(view).endswith("…")
    assert "word " * 99 in run_text.details(view)


def test_a_detail_says_every_fact() -> None:
    text = run_text.details(
        replace(
            failed(), attempts=2, crashes=1, result=RunResult("", "NO_KEY", "no key.", "OPENAI")
        )
    )
    for fact in (
        "**Run #7**: failed",
        "- task: Report",
        "- trigger: schedule, slot 2026-03-02 09:00:00 UTC",
        "- Agent: main, session: agent:main:main",
        "- mode: agent-turn",
        "- took: 3s",
        "- failed attempts: 2, workers lost: 1",
        "- why: No answer: no key.",
        "- set up: OPENAI",
    ):
        assert fact in text.splitlines()


def test_a_detail_names_the_model_and_its_tokens() -> None:
    assert "- mode: agent-turn, model: a/b (5 in, 2 out tokens)" in run_text.details(ENDED)


def test_a_long_run_is_told_to_the_second() -> None:
    view = replace(ENDED, ended_at=AT + timedelta(minutes=2, milliseconds=1500))
    assert run_text.duration(view) == "2m1s"
