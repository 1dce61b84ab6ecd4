"""`/task` from a chat, over the real bus, gRPC and PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import task_pb2
from fased.core.messages import PeerKind
from tests.support.router import Router, Writer, routing, writer

DEFAULT = "namespaces/default"
OTHERS = "Task belongs to another Agent/session and was not shown."


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url) as up:
        yield up


@pytest.fixture
def ada(router: Router) -> Writer:
    return writer(router, "123")


async def tasks_of(router: Router) -> list[task_pb2.Task]:
    """All tasks, in the order they were made."""
    listed = await router.tasks.ListTasks(pb.ListTasksRequest(parent=DEFAULT))
    return list(listed.tasks)


async def test_a_new_task_belongs_to_the_chats_agent_and_session_and_answers_there(
    router: Router, ada: Writer
) -> None:
    await ada.command("/session new Plans")
    said = await ada.command("/task new every 1h --mode no-model Tick: tick")
    [task] = await tasks_of(router)
    short = task.name.rpartition("/")[2][:8]
    assert said.startswith(f"Created **Tick** ({short}): every 1h · no-model · here · next ")
    assert (task.agent_id, task.session_key) == ("main", "agent:main:main:chat:plans")
    assert (task.prompt, task.state) == ("tick", task_pb2.TASK_STATE_ACTIVE)
    assert (task.target.channel, task.target.peer.id) == ("telegram", "123")
    assert task.target.reply_to_id == ""


async def test_a_redelivered_task_command_makes_one_task(router: Router, ada: Writer) -> None:
    event = ada.event("/task new every 1h --mode no-model Tick: tick")
    await router.reply_to(event)
    # As though the router had died after the scheduler's commit and before its own.
    await router.rows("DELETE FROM router.command_effect")
    await router.publish(event)
    await router.settled()
    assert len(await tasks_of(router)) == 1
    first, second = router.said[event.event_id]
    assert first == second


async def test_several_lines_make_several_tasks_or_none(router: Router, ada: Writer) -> None:
    said = await ada.command(
        "/task new\nevery 1h --mode no-model One: one\ncron 61 * * * * -- Two: two"
    )
    assert said.startswith("task 2: ")
    assert await tasks_of(router) == []
    said = await ada.command(
        "/task new --mode no-model\nevery 1h One: one\ncron 0 9 * * * -- Two: two"
    )
    assert len(said.splitlines()) == 2
    assert [task.display_name for task in await tasks_of(router)] == ["One", "Two"]


async def test_flags_are_kept(router: Router, ada: Writer) -> None:
    await ada.command(
        "/task new cron 0 9 * * * --tz Europe/Berlin --timeout 90s --model openai/m "
        "--mode no-model --delivery internal -- News: news"
    )
    [task] = await tasks_of(router)
    assert (task.trigger.timezone, task.run_for.seconds) == ("Europe/Berlin", 90)
    assert (task.model, task.mode) == ("openai/m", "no-model")
    assert not task.HasField("target")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--max-cost 1", "--max-cost"),
        ("--mode auto", "--mode auto"),
        ("--delivery webhook", "--delivery webhook"),
    ],
)
async def test_a_flag_without_effect_yet_is_refused(
    router: Router, ada: Writer, flag: str, named: str
) -> None:
    said = await ada.command(f"/task new every 1h {flag} Tick: tick")
    assert said.startswith(f"{named} is not available in this version; available: ")
    assert await tasks_of(router) == []


async def test_a_task_that_cannot_run_says_what_is_missing(router: Router, ada: Writer) -> None:
    # No worker is up, so that nobody has a credential for the Agent's model.
    said = await ada.command("/task new every 1h Think: think hard")
    [task] = await tasks_of(router)
    assert task.state == task_pb2.TASK_STATE_BLOCKED
    assert f"Blocked: {task.finding.message}" in said
    assert (await ada.command("/task run Think")).startswith("**Think** is blocked: ")
    resumed = await ada.command("/task resume Think")
    assert resumed.startswith("**Think** stays blocked: ")
    assert task.finding.setup_target in resumed


async def test_a_task_is_shown_paused_resumed_and_cancelled(router: Router, ada: Writer) -> None:
    await ada.command("/task new every 1h --mode no-model Tick: tick")
    [task] = await tasks_of(router)
    short = task.name.rpartition("/")[2][:8]
    assert "- prompt: tick" in await ada.command(f"/task show {short}")
    said = await ada.command("/task pause Tick")
    assert said == f"Paused **Tick**. Resume it with /task resume {short}."
    assert "paused" in await ada.command("/task list")
    assert (await ada.command(f"/task resume {short}")).startswith("Resumed **Tick**: next ")
    said = await ada.command("/task cancel Tick")
    assert said == "Cancelled **Tick**: it will not run again. Its history stays."
    assert await tasks_of(router) == []
    assert (await ada.command("/task list")).startswith("No tasks here yet.")
    assert (await ada.command("/task show Tick")).startswith("there is no task Tick")


async def test_a_run_by_hand_is_answered_by_the_run_and_not_by_the_router(
    router: Router, ada: Writer
) -> None:
    await ada.command("/task new manual --mode no-model Tick: tick")
    assert await ada.command("/task last Tick") == "**Tick** has not run yet."
    event = ada.event("/task run Tick")
    await router.publish(event)
    await ada.command("/whoami")
    assert event.event_id not in router.said
    [run] = await router.runs()
    assert run.body.correlation_id == event.event_id
    assert run.body.target.reply_to_id == event.native_id
    assert f"**#{run.run_id}** queued · manual" in await ada.command("/task runs Tick")
    assert f"**Run #{run.run_id}**: queued" in await ada.command("/task last Tick")


async def test_a_run_is_shown_and_cancelled_by_its_number(router: Router, ada: Writer) -> None:
    run = await ada.write()
    number = run.run_id
    assert f"**Run #{number}**: queued" in await ada.command(f"/task run-show {number}")
    assert await ada.command(f"/task cancel-run #{number}") == f"Run {number} is being cancelled."
    assert await ada.command(f"/task cancel-run {number}") == (
        "Run is already terminal: cancelled."
    )
    assert await ada.command(f"/task retry-run {number}") == (
        f"Run {number} runs again; finished steps are kept."
    )
    assert await ada.command(f"/task clear-stale {number}") == "no worker holds this run"
    assert "no run" in await ada.command("/task run-show 999")


async def test_tasks_and_runs_of_another_session_are_not_shown(router: Router, ada: Writer) -> None:
    await ada.command("/task new every 1h --mode no-model Secret: secret")
    mine = await ada.write()
    group = writer(router, "g", kind=PeerKind.GROUP)
    for verb in ("show", "pause", "cancel", "run", "last", "resume"):
        assert await group.command(f"/task {verb} Secret") == OTHERS
    assert await group.command("/task runs Secret") == OTHERS
    for verb in ("run-show", "cancel-run", "retry-run", "clear-stale"):
        assert await group.command(f"/task {verb} {mine.run_id}") == OTHERS
    assert (await group.command("/task list")).startswith("No tasks here yet.")
    assert "**Secret**" in await group.command("/task list all")
    assert len(await tasks_of(router)) == 1


async def test_a_name_that_other_sessions_use_too_means_ones_own(
    router: Router, ada: Writer
) -> None:
    group = writer(router, "g", kind=PeerKind.GROUP)
    for chat, prompt in ((ada, "mine"), (group, "theirs")):
        await chat.command(f"/task new every 1h --mode no-model Tick: {prompt}")
    assert "- prompt: mine" in await ada.command("/task show Tick")
    assert "- prompt: theirs" in await group.command("/task show Tick")
    stranger = writer(router, "h", kind=PeerKind.GROUP)
    said = await stranger.command("/task show Tick")
    assert said.startswith("there is no task Tick")
    await ada.command("/task new every 2h --mode no-model Tick: another")
    said = await ada.command("/task show Tick")
    theirs = (await tasks_of(router))[1].name.rpartition("/")[2]
    assert "means several tasks" in said
    assert theirs not in said


async def test_many_chats_of_one_session_make_and_run_tasks_at_once(router: Router) -> None:
    # Each asks the scheduler, which asks the router for the one session that all of them share:
    # a command that held its row, or a connection, meanwhile would wait for itself.
    chats = [writer(router, str(number)) for number in range(40)]
    made = [
        chat.event(f"/task new manual --mode no-model Tick{number}: tick")
        for number, chat in enumerate(chats)
    ]
    await router.publish(*made)
    for event in made:
        assert (await router.replied(event)).text.startswith("Created **Tick")
    await router.publish(
        *(chat.event(f"/task run Tick{number}") for number, chat in enumerate(chats))
    )
    await router.settled()
    assert len(await router.runs()) == 40
    assert len(await tasks_of(router)) == 40
