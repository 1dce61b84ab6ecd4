"""Tasks over real gRPC and PostgreSQL: kept once, found, blocked, paused, run, removed."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import task_pb2
from fased.core import errors
from fased.core.access import Role
from fased.rpc import paging
from tests.support.calls import acting, eventually
from tests.support.schedulers import (
    PARENT,
    Scheduler,
    chat,
    complete,
    create,
    draft,
    get_run,
    lease,
    outbound,
    run_now,
    scheduling,
)


@pytest.fixture
async def scheduler(database_url: str) -> AsyncIterator[Scheduler]:
    async with scheduling(database_url, namespaces=("default", "other")) as started:
        yield started


async def test_a_task_every_second_fires_and_its_result_goes_to_its_chat(
    scheduler: Scheduler,
) -> None:
    async with outbound(scheduler) as messages:
        task = await create(scheduler, draft("every", "1s", target=chat()))
        assert task.state == task_pb2.TASK_STATE_ACTIVE
        worker = str(uuid.uuid4())
        slots = []
        for _ in range(2):
            [run] = await lease(scheduler, worker, max_runs=1)
            slots.append(run.body.slot_time.ToDatetime(tzinfo=UTC))
            await complete(scheduler, run, text=run.body.prompt)
            sent = await anext(messages)
            assert (sent.text, sent.run_id, sent.target.peer.id) == ("tick", run.run_id, "ada")
        assert (slots[1] - slots[0]) % timedelta(seconds=1) == timedelta(0)
        assert slots[1] > slots[0]

    async def counted() -> task_pb2.Task | None:
        found = (await scheduler.tasks.GetTask(pb.GetTaskRequest(name=task.name))).task
        return found if found.last_outcome else None

    assert (await eventually(counted)).last_outcome == "succeeded"


async def test_a_repeated_request_answers_with_the_first_task(scheduler: Scheduler) -> None:
    request_id = str(uuid.uuid4())
    first = await create(scheduler, draft(), request_id=request_id)
    again = await create(scheduler, draft(display_name="Other"), request_id=request_id)
    assert again == first
    listed = await scheduler.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT))
    assert [task.name for task in listed.tasks] == [first.name]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"display_name": " "}, "name", "INVALID_NAME"),
        ({"prompt": ""}, "prompt", "INVALID_PROMPT"),
        ({"prompt": "a\0b"}, "prompt", "ZERO_CHARACTER"),
        ({"mode": "magic"}, "mode", "INVALID_MODE"),
        ({"session_key": "agent:other:main"}, "session_key", "SESSION_OF_OTHER_AGENT"),
        ({"session_key": "main"}, "session_key", "INVALID_SESSION_KEY"),
        ({"trigger": task_pb2.TriggerSpec(kind="cron", expr="61 * * * *")}, "expr", "INVALID_CRON"),
        ({"trigger": task_pb2.TriggerSpec(kind="often")}, "trigger.kind", "INVALID_TRIGGER"),
        (
            {"trigger": task_pb2.TriggerSpec(kind="at", expr="2001-01-01T00:00:00Z")},
            "at",
            "AT_IN_THE_PAST",
        ),
        (
            {"trigger": task_pb2.TriggerSpec(kind="cron", expr="0 9 * * *", timezone="Mars/Dust")},
            "tz",
            "INVALID_ZONE",
        ),
    ],
)
async def test_a_task_that_cannot_be_is_refused_with_its_field(
    scheduler: Scheduler, change: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await create(scheduler, draft(**change))
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)


async def test_a_task_of_an_unknown_agent_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await create(scheduler, draft(agent_id="ghost", session_key="agent:ghost:main"))
    assert caught.value.reason == "AGENT_MISSING"


async def test_a_task_without_a_session_gets_one_of_its_own(scheduler: Scheduler) -> None:
    task = await create(scheduler, draft(session_key=""))
    assert task.session_key == f"agent:main:task:{task.name.rpartition('/')[2]}"


async def test_a_task_whose_provider_no_worker_reaches_is_blocked_until_it_is_resumed(
    scheduler: Scheduler,
) -> None:
    task = await create(scheduler, draft("every", "1h", mode="agent-turn"))
    assert task.state == task_pb2.TASK_STATE_BLOCKED
    assert task.finding.reason == "NO_MODEL_CREDENTIAL"
    assert task.finding.setup_target
    assert not task.HasField("next_time")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await run_now(scheduler, task)
    assert caught.value.reason == "TASK_BLOCKED"
    assert caught.value.metadata["setup_target"] == task.finding.setup_target
    still = await scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name))
    assert still.task.state == task_pb2.TASK_STATE_BLOCKED
    await lease(scheduler, str(uuid.uuid4()), wait_s=0, providers=("scripted",))
    resumed = await scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name))
    assert resumed.task.state == task_pb2.TASK_STATE_ACTIVE
    assert resumed.task.HasField("next_time")
    assert not resumed.task.HasField("finding")


async def test_a_task_is_found_by_id_by_prefix_and_by_name(scheduler: Scheduler) -> None:
    task = await create(scheduler, draft(display_name="Daily report"))
    task_id = task.name.rpartition("/")[2]
    for ref in (task_id, task_id[:8], task_id[:13], "Daily report"):
        request = pb.GetTaskRequest(name=f"{PARENT}/tasks/{ref}")
        assert (await scheduler.tasks.GetTask(request)).task.name == task.name
    for ref in ("daily report", "zzz", "00000000-0000-4000-8000-000000000000", "a\0b"):
        with pytest.raises(errors.NotFound):
            await scheduler.tasks.GetTask(pb.GetTaskRequest(name=f"{PARENT}/tasks/{ref}"))


async def test_an_ambiguous_name_is_answered_with_the_candidates(scheduler: Scheduler) -> None:
    made = [await create(scheduler, draft()) for _ in range(2)]
    with pytest.raises(errors.FailedPrecondition) as caught:
        await scheduler.tasks.GetTask(pb.GetTaskRequest(name=f"{PARENT}/tasks/Tick"))
    assert caught.value.reason == "AMBIGUOUS"
    for task in made:
        assert task.name.rpartition("/")[2] in caught.value.message


async def test_tasks_are_listed_page_by_page_in_the_order_they_were_made(
    scheduler: Scheduler,
) -> None:
    made = [(await create(scheduler, draft(display_name=f"T{n}"))).name for n in range(5)]
    listed: list[str] = []
    token = ""
    while True:
        page = await scheduler.tasks.ListTasks(
            pb.ListTasksRequest(parent=PARENT, page_size=2, page_token=token)
        )
        assert len(page.tasks) <= 2
        listed += [task.name for task in page.tasks]
        if not (token := page.next_page_token):
            break
    assert listed == made
    other = await scheduler.tasks.ListTasks(
        pb.ListTasksRequest(parent=PARENT, session_key="agent:main:other")
    )
    assert not other.tasks


async def test_a_paused_task_does_not_fire_until_it_is_resumed(scheduler: Scheduler) -> None:
    task = await create(scheduler, draft("every", "1s"))
    paused = (await scheduler.tasks.PauseTask(pb.PauseTaskRequest(name=task.name))).task
    assert paused.state == task_pb2.TASK_STATE_PAUSED
    assert not paused.HasField("next_time")
    worker = str(uuid.uuid4())
    for run in await lease(scheduler, worker, wait_s=0):
        await complete(scheduler, run)
    assert await lease(scheduler, worker, wait_s=2) == []
    resumed = (await scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name))).task
    assert resumed.state == task_pb2.TASK_STATE_ACTIVE
    assert await lease(scheduler, worker, max_runs=1)


async def test_an_at_task_is_done_after_its_run(scheduler: Scheduler) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=400)
    task = await create(scheduler, draft("at", soon.isoformat()))
    [run] = await lease(scheduler, str(uuid.uuid4()))
    await complete(scheduler, run)

    async def done() -> bool:
        found = (await scheduler.tasks.GetTask(pb.GetTaskRequest(name=task.name))).task
        return found.state == task_pb2.TASK_STATE_DONE

    await eventually(done)
    for refused in (
        scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name)),
        scheduler.tasks.PauseTask(pb.PauseTaskRequest(name=task.name)),
    ):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await refused
        assert caught.value.reason == "TASK_DONE"


async def test_a_run_asked_for_twice_is_made_once_and_answers_its_chat(
    scheduler: Scheduler,
) -> None:
    task = await create(scheduler, draft(target=chat("home")))
    request = {
        "request_id": str(uuid.uuid4()),
        "target": chat("elsewhere"),
        "event_id": "default:webchat:default:c/1",
    }
    first = await run_now(scheduler, task, **request)
    again = await run_now(scheduler, task, **request)
    assert again.run_id == first.run_id
    assert first.body.session_id
    async with outbound(scheduler) as messages:
        [run] = await lease(scheduler, str(uuid.uuid4()))
        await complete(scheduler, run, text="tick")
        sent = await anext(messages)
    assert (sent.target.peer.id, sent.event_id) == ("elsewhere", request["event_id"])


async def test_a_deleted_task_takes_its_live_runs_along_and_leaves_its_history(
    scheduler: Scheduler,
) -> None:
    task = await create(scheduler, draft())
    run = await run_now(scheduler, task)
    removed = (await scheduler.tasks.DeleteTask(pb.DeleteTaskRequest(name=task.name))).task
    assert removed.name == task.name
    with pytest.raises(errors.NotFound):
        await scheduler.tasks.GetTask(pb.GetTaskRequest(name=task.name))
    listed = await scheduler.runs.ListRuns(
        pb.ListRunsRequest(parent=PARENT, task_id=task.name.rpartition("/")[2])
    )
    assert [(each.run_id, each.state) for each in listed.runs] == [(run.run_id, "cancelled")]


async def test_a_repeated_removal_is_answered_as_the_first_was(scheduler: Scheduler) -> None:
    task = await create(scheduler, draft("every", "1h"))
    request = pb.DeleteTaskRequest(name=task.name, request_id=str(uuid.uuid4()))
    first = await scheduler.tasks.DeleteTask(request)
    assert await scheduler.tasks.DeleteTask(request) == first
    with pytest.raises(errors.NotFound):
        await scheduler.tasks.DeleteTask(pb.DeleteTaskRequest(name=task.name))


async def test_a_task_that_a_file_defines_is_not_removed_by_a_command(
    scheduler: Scheduler,
) -> None:
    task = await create(scheduler, draft())
    async with scheduler.up.host.database.queue.acquire() as conn:
        await conn.execute("UPDATE scheduler.task SET managed_by = 'file:/home/ada/fased.json'")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await scheduler.tasks.DeleteTask(pb.DeleteTaskRequest(name=task.name))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert "/home/ada/fased.json" in caught.value.message


async def test_a_task_that_fails_for_good_five_times_in_a_row_is_disabled_with_a_notice(
    scheduler: Scheduler,
) -> None:
    task = await create(scheduler, draft("every", "1h", target=chat()))
    worker = str(uuid.uuid4())
    async with outbound(scheduler) as messages:
        for _ in range(5):
            await run_now(scheduler, task)
            [run] = await lease(scheduler, worker)
            await complete(scheduler, run, outcome="failed", reason="BROKEN", message="It broke.")
            failure = await anext(messages)
            assert failure.text == "**Tick**: No answer: It broke."
        notice = await anext(messages)
    assert f"/task resume {task.name.rpartition('/')[2][:8]}" in notice.text
    disabled = (await scheduler.tasks.GetTask(pb.GetTaskRequest(name=task.name))).task
    assert disabled.state == task_pb2.TASK_STATE_DISABLED
    assert disabled.finding.reason == "FAILED_REPEATEDLY"
    resumed = (await scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name))).task
    assert (resumed.state, resumed.failures_in_row) == (task_pb2.TASK_STATE_ACTIVE, 0)


async def test_a_preview_lists_slots_strictly_after_its_begin(scheduler: Scheduler) -> None:
    request = pb.PreviewScheduleRequest(
        parent=PARENT,
        trigger=task_pb2.TriggerSpec(kind="cron", expr="0 9 * * *", timezone="Europe/Berlin"),
        count=2,
    )
    request.from_time.FromDatetime(datetime(2026, 1, 1, 8, tzinfo=UTC))
    answer = await scheduler.tasks.PreviewSchedule(request)
    assert [slot.ToDatetime() for slot in answer.slot_times] == [
        datetime(2026, 1, 2, 8),  # noqa: DTZ001 (as protobuf gives it: UTC, naive)
        datetime(2026, 1, 3, 8),  # noqa: DTZ001
    ]


async def test_two_namespaces_with_equal_tasks_never_see_each_other(
    scheduler: Scheduler,
) -> None:
    ours = await create(scheduler, draft())
    theirs = await create(scheduler, draft(), parent="namespaces/other")
    run = await run_now(scheduler, theirs)
    for parent, task in ((PARENT, ours), ("namespaces/other", theirs)):
        listed = await scheduler.tasks.ListTasks(pb.ListTasksRequest(parent=parent))
        assert [each.name for each in listed.tasks] == [task.name]
        named = await scheduler.tasks.GetTask(pb.GetTaskRequest(name=f"{parent}/tasks/Tick"))
        assert named.task.name == task.name
    their_id = theirs.name.rpartition("/")[2]
    for call in (
        scheduler.tasks.GetTask(pb.GetTaskRequest(name=f"{PARENT}/tasks/{their_id}")),
        scheduler.tasks.DeleteTask(pb.DeleteTaskRequest(name=f"{PARENT}/tasks/{their_id}")),
        scheduler.tasks.PauseTask(pb.PauseTaskRequest(name=f"{PARENT}/tasks/{their_id}")),
        scheduler.tasks.RunTask(pb.RunTaskRequest(name=f"{PARENT}/tasks/{their_id}")),
        scheduler.runs.GetRun(pb.GetRunRequest(name=f"{PARENT}/runs/{run.run_id}")),
        scheduler.runs.CancelRun(pb.CancelRunRequest(name=f"{PARENT}/runs/{run.run_id}")),
    ):
        with pytest.raises(errors.NotFound):
            await call
    ours_of_theirs = await scheduler.runs.ListRuns(
        pb.ListRunsRequest(parent=PARENT, task_id=their_id)
    )
    assert not ours_of_theirs.runs
    assert (await get_run(scheduler, run.run_id, "namespaces/other")).state == "queued"


async def test_the_same_request_id_in_two_namespaces_makes_two_tasks(
    scheduler: Scheduler,
) -> None:
    request_id = str(uuid.uuid4())
    ours = await create(scheduler, draft(), request_id=request_id)
    theirs = await create(scheduler, draft(), parent="namespaces/other", request_id=request_id)
    assert theirs.name.startswith("namespaces/other/")
    assert ours.name.startswith(f"{PARENT}/")


async def test_a_person_of_one_namespace_is_refused_in_the_other(scheduler: Scheduler) -> None:
    theirs = await create(scheduler, draft(), parent="namespaces/other")
    for call in (
        scheduler.tasks.GetTask(pb.GetTaskRequest(name=theirs.name), **acting("default")),
        scheduler.tasks.CreateTask(
            pb.CreateTaskRequest(parent="namespaces/other", task=draft()), **acting("default")
        ),
        scheduler.runs.ListRuns(pb.ListRunsRequest(parent="namespaces/other"), **acting("default")),
        scheduler.tasks.DeleteTask(
            pb.DeleteTaskRequest(name=theirs.name), **acting("other", Role.VIEWER)
        ),
    ):
        with pytest.raises(errors.PermissionDenied):
            await call
    assert (
        await scheduler.tasks.GetTask(pb.GetTaskRequest(name=theirs.name), **acting("other"))
    ).task.name == theirs.name


async def test_words_that_no_column_or_calendar_holds_are_refused_without_a_crash(
    scheduler: Scheduler,
) -> None:
    preview = pb.PreviewScheduleRequest(
        parent=PARENT, trigger=task_pb2.TriggerSpec(kind="cron", expr="0 9 * * *")
    )
    preview.from_time.seconds = -62_135_596_800
    endless = draft()
    endless.run_for.seconds = 10**14
    forged = paging.encode(["x", "y"], {"in": "default", "agent": "", "session": ""})
    forged_run = paging.encode([], {"runs": "default", "task": "", "session": ""})
    for call in (
        scheduler.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT, agent_id="a\0")),
        scheduler.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT, page_token=forged)),
        scheduler.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT, page_size=-1)),
        scheduler.runs.ListRuns(pb.ListRunsRequest(parent=PARENT, session_key="a\0")),
        scheduler.runs.ListRuns(pb.ListRunsRequest(parent=PARENT, task_id="a")),
        scheduler.runs.CancelSessionRuns(pb.CancelSessionRunsRequest(parent=PARENT)),
        scheduler.tasks.PreviewSchedule(preview),
        scheduler.tasks.PreviewSchedule(pb.PreviewScheduleRequest(parent=PARENT, count=5000)),
        scheduler.tasks.CreateTask(pb.CreateTaskRequest(parent=PARENT, task=endless)),
        scheduler.tasks.CreateTask(
            pb.CreateTaskRequest(parent=PARENT, task=draft(), request_id="1")
        ),
    ):
        with pytest.raises(errors.InvalidArgument):
            await call
    empty = await scheduler.runs.ListRuns(pb.ListRunsRequest(parent=PARENT, page_token=forged_run))
    assert not empty.runs
