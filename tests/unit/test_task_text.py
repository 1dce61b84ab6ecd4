"""Tasks in words: the line of a list and the whole of one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fased.core import task_text
from fased.core.messages import Peer, PeerKind, Target, Thread, ThreadKind
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey, TaskId
from fased.core.runs import ExecutionMode
from fased.core.tasks import Task, TaskState, TriggerKind, TriggerSpec

HERE = Target(
    ChannelId("telegram"), AccountId("default"), Peer(PeerKind.DIRECT, "123"), reply_to_id="7"
)
TASK = Task(
    namespace=Namespace("default"),
    id=TaskId("0f9b1c2d-0000-4000-8000-000000000000"),
    name="News",
    agent_id=AgentId("main"),
    session_key=SessionKey("agent:main:main"),
    prompt="What is new?",
    trigger=TriggerSpec(TriggerKind.CRON, "0 9 * * *", "Europe/Berlin"),
    mode=ExecutionMode.NO_MODEL,
    target=replace(HERE, reply_to_id=""),
    run_for=timedelta(minutes=10),
    next_at=datetime(2026, 7, 1, 7, tzinfo=UTC),
)


def test_an_active_task_says_plan_mode_delivery_next_and_last() -> None:
    assert task_text.compact(TASK, HERE) == (
        "**News** (0f9b1c2d): cron 0 9 * * * (Europe/Berlin) · no-model · here · "
        "next 2026-07-01 09:00:00 Europe/Berlin · not run yet"
    )


def test_a_task_that_does_not_fire_says_why_instead_of_when() -> None:
    blocked = replace(
        TASK, state=TaskState.BLOCKED, reason="MISSING_MODEL", last_outcome="failed", target=None
    )
    assert task_text.compact(blocked, HERE) == (
        "**News** (0f9b1c2d): cron 0 9 * * * (Europe/Berlin) · no-model · internal · "
        "blocked: MISSING_MODEL · last failed"
    )
    assert "· paused ·" in task_text.compact(replace(TASK, state=TaskState.PAUSED))


@pytest.mark.parametrize(
    ("trigger", "plan"),
    [
        (TriggerSpec(TriggerKind.MANUAL), "manual"),
        (TriggerSpec(TriggerKind.EVERY, "1h30m"), "every 1h30m"),
        (TriggerSpec(TriggerKind.AT, "2026-07-01T09:00:00Z"), "at 2026-07-01T09:00:00Z"),
        (TriggerSpec(TriggerKind.AT, "2026-07-01T09:00", "Asia/Tokyo"),
         "at 2026-07-01T09:00 (Asia/Tokyo)"),
        (TriggerSpec(TriggerKind.CRON, "@daily"), "cron @daily (UTC)"),
    ],
)  # fmt: skip
def test_a_plan_is_written_as_it_was_asked_for(trigger: TriggerSpec, plan: str) -> None:
    assert task_text.plan(trigger) == plan


def test_here_is_the_same_chat_account_and_thread() -> None:
    topic = replace(HERE, thread=Thread(ThreadKind.TOPIC, "5"))
    assert task_text.delivery(HERE, replace(HERE, reply_to_id="")) == "here"
    for other in (topic, replace(HERE, account_id=AccountId("work"))):
        assert task_text.delivery(other, HERE) == "telegram · direct:123"
    assert task_text.delivery(HERE) == "telegram · direct:123"


def test_the_details_hold_every_fact_and_what_to_set_up() -> None:
    task = replace(
        TASK,
        state=TaskState.BLOCKED,
        reason="MISSING_MODEL",
        message="No model is set.",
        setup_target="OPENAI_API_KEY",
        failures_in_row=2,
        managed_by="file:/home/x/fased.json",
        next_at=None,
    )
    assert task_text.details(task, HERE).splitlines() == [
        "**News** (0f9b1c2d-0000-4000-8000-000000000000)",
        "- state: blocked, No model is set.",
        "- set up: OPENAI_API_KEY, then /task resume 0f9b1c2d",
        "- plan: cron 0 9 * * * (Europe/Berlin)",
        "- next: never",
        "- Agent: main, session: agent:main:main",
        "- mode: no-model, model: of the Agent",
        "- delivery: here",
        "- overlap: skip, missed slots: once",
        "- deadline of a run: 10m",
        "- last: not run yet",
        "- failures in a row: 2",
        "- prompt: What is new?",
        "- defined in: /home/x/fased.json",
    ]
