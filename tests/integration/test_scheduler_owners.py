"""Tasks that a file or a custom resource defines, over gRPC and PostgreSQL."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fased.api.policy.v1 import agent_pb2, policy_service_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import task_pb2
from fased.core import errors
from tests.support.schedulers import (
    PARENT,
    Scheduler,
    chat,
    create,
    draft,
    get_run,
    lease,
    outbound,
    run_now,
    scheduling,
)

OTHER = "namespaces/other"


@pytest.fixture
async def scheduler(database_url: str) -> AsyncIterator[Scheduler]:
    async with scheduling(database_url, namespaces=("default", "other")) as up:
        yield up


def owned(uid: str, *, parent: str = PARENT, **fields: Any) -> task_pb2.Task:
    return draft(name=f"{parent}/tasks/{uid}", **{"trigger": every("1h"), **fields})


def every(expr: str) -> task_pb2.TriggerSpec:
    return task_pb2.TriggerSpec(kind="every", expr=expr)


async def apply(
    scheduler: Scheduler,
    owner: str,
    *tasks: task_pb2.Task,
    generation: int = 0,
    parent: str = PARENT,
) -> pb.ApplyTasksResponse:
    return await scheduler.tasks.ApplyTasks(
        pb.ApplyTasksRequest(parent=parent, managed_by=owner, tasks=tasks, generation=generation)
    )


async def get(scheduler: Scheduler, name: str) -> task_pb2.Task:
    return (await scheduler.tasks.GetTask(pb.GetTaskRequest(name=name))).task


async def test_a_defined_task_has_the_id_that_its_owner_chose_and_stays_when_applied_again(
    scheduler: Scheduler,
) -> None:
    uid = str(uuid.uuid4())
    first = (await apply(scheduler, f"resource:{uid}", owned(uid), generation=1)).tasks[0]
    assert first.name == f"{PARENT}/tasks/{uid}"
    assert (first.managed_by, first.state) == (f"resource:{uid}", task_pb2.TASK_STATE_ACTIVE)
    assert first.HasField("next_time")
    again = await apply(scheduler, f"resource:{uid}", owned(uid), generation=1)
    assert list(again.tasks) == [first]
    with pytest.raises(errors.FailedPrecondition) as caught:
        await scheduler.tasks.DeleteTask(pb.DeleteTaskRequest(name=first.name))
    assert caught.value.reason == "MANAGED_ELSEWHERE"


async def test_an_older_generation_changes_nothing(scheduler: Scheduler) -> None:
    uid = str(uuid.uuid4())
    owner = f"resource:{uid}"
    await apply(scheduler, owner, owned(uid, prompt="new"), generation=3)
    for stale in ((owned(uid, prompt="old"),), ()):
        with pytest.raises(errors.Aborted) as caught:
            await apply(scheduler, owner, *stale, generation=2)
        assert caught.value.reason == "STALE_GENERATION"
    assert (await get(scheduler, f"{PARENT}/tasks/{uid}")).prompt == "new"


async def test_an_edit_takes_effect_and_fires_the_new_words(scheduler: Scheduler) -> None:
    uid = str(uuid.uuid4())
    owner = f"resource:{uid}"
    before = (await apply(scheduler, owner, owned(uid))).tasks[0]
    edited = (await apply(scheduler, owner, owned(uid, prompt="tock", trigger=every("1s")))).tasks[
        0
    ]
    assert edited.generation == before.generation + 1
    [run] = await lease(scheduler, str(uuid.uuid4()), max_runs=1)
    assert run.body.prompt == "tock"


async def test_a_paused_task_stays_paused_through_an_edit_until_it_is_resumed(
    scheduler: Scheduler,
) -> None:
    uid = str(uuid.uuid4())
    owner = f"resource:{uid}"
    task = (await apply(scheduler, owner, owned(uid))).tasks[0]
    await scheduler.tasks.PauseTask(pb.PauseTaskRequest(name=task.name))
    edited = (await apply(scheduler, owner, owned(uid, prompt="tock"))).tasks[0]
    assert (edited.state, edited.prompt) == (task_pb2.TASK_STATE_PAUSED, "tock")
    assert not edited.HasField("next_time")
    resumed = await scheduler.tasks.ResumeTask(pb.ResumeTaskRequest(name=task.name))
    assert resumed.task.state == task_pb2.TASK_STATE_ACTIVE


async def test_a_task_of_an_agent_that_is_not_there_is_blocked_and_heals_when_applied_again(
    scheduler: Scheduler,
) -> None:
    uid = str(uuid.uuid4())
    owner, ghostly = f"resource:{uid}", owned(uid, agent_id="ghost", session_key="agent:ghost:main")
    blocked = (await apply(scheduler, owner, ghostly, generation=1)).tasks[0]
    assert blocked.state == task_pb2.TASK_STATE_BLOCKED
    assert blocked.finding.reason == "AGENT_MISSING"
    assert list((await apply(scheduler, owner, ghostly, generation=1)).tasks) == [blocked]
    await scheduler.agents.CreateAgent(
        policy_service_pb2.CreateAgentRequest(
            parent=PARENT, agent_id="ghost", agent=agent_pb2.Agent(model="scripted/echo")
        )
    )
    healed = (await apply(scheduler, owner, ghostly, generation=1)).tasks[0]
    assert healed.state == task_pb2.TASK_STATE_ACTIVE
    assert healed.HasField("next_time")
    assert not healed.HasField("finding")


async def test_what_an_owner_no_longer_defines_goes_with_its_live_runs(
    scheduler: Scheduler,
) -> None:
    kept, gone = str(uuid.uuid4()), str(uuid.uuid4())
    both = await apply(
        scheduler,
        "file:fased.json",
        owned(kept, display_name="Kept"),
        owned(gone, display_name="Gone", target=chat()),
    )
    runs = [await run_now(scheduler, task) for task in both.tasks]
    of_command = await create(scheduler, draft(display_name="Mine"))
    async with outbound(scheduler) as messages:
        left = await apply(scheduler, "file:fased.json", owned(kept, display_name="Kept"))
        assert (await anext(messages)).text == "**Gone**: Stopped."
    assert list(left.removed) == [f"{PARENT}/tasks/{gone}"]
    states = [(await get_run(scheduler, run.run_id)).state for run in runs]
    assert states == ["queued", "cancelled"]
    assert (await get(scheduler, of_command.name)).display_name == "Mine"
    nothing = await apply(scheduler, "file:fased.json")
    assert list(nothing.removed) == [f"{PARENT}/tasks/{kept}"]
    assert not await owners(scheduler)


async def owners(scheduler: Scheduler, prefix: str = "") -> list[tuple[str, str, int]]:
    found, token = [], ""
    while True:
        page = await scheduler.tasks.ListTaskOwners(
            pb.ListTaskOwnersRequest(prefix=prefix, page_size=2, page_token=token)
        )
        found += [(each.namespace, each.managed_by, each.generation) for each in page.owners]
        token = page.next_page_token
        if not token:
            return found


async def test_owners_of_all_namespaces_are_listed_with_their_generations(
    scheduler: Scheduler,
) -> None:
    uids = [str(uuid.UUID(int=number)) for number in range(1, 6)]
    for number, uid in enumerate(uids, start=1):
        parent = OTHER if number % 2 else PARENT
        await apply(
            scheduler,
            f"resource:{uid}",
            owned(uid, parent=parent),
            generation=number,
            parent=parent,
        )
    await apply(scheduler, "file:fased.json", owned(str(uuid.uuid4())))
    assert await owners(scheduler, "resource:") == [
        ("default", f"resource:{uids[1]}", 2),
        ("default", f"resource:{uids[3]}", 4),
        ("other", f"resource:{uids[0]}", 1),
        ("other", f"resource:{uids[2]}", 3),
        ("other", f"resource:{uids[4]}", 5),
    ]
    assert ("default", "file:fased.json", 0) in await owners(scheduler)


async def test_tasks_are_counted_by_agent_in_their_own_namespace(scheduler: Scheduler) -> None:
    for parent in (PARENT, OTHER, OTHER):
        await create(scheduler, draft(), parent=parent)
    for parent, count in ((PARENT, 1), (OTHER, 2), ("namespaces/empty", 0)):
        counted = await scheduler.tasks.CountTasks(pb.CountTasksRequest(parent=parent))
        assert dict(counted.counts) == ({"main": count} if count else {})


async def test_an_owner_touches_no_other_owner_and_no_other_namespace(
    scheduler: Scheduler,
) -> None:
    uid = str(uuid.uuid4())
    await apply(scheduler, "resource:one", owned(uid))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await apply(scheduler, "resource:two", owned(uid))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    with pytest.raises(errors.AlreadyExists):
        await apply(scheduler, "resource:one", owned(uid, parent=OTHER), parent=OTHER)
    assert not (await apply(scheduler, "resource:one", parent=OTHER)).removed
    assert (await get(scheduler, f"{PARENT}/tasks/{uid}")).managed_by == "resource:one"


async def test_what_cannot_be_meant_is_refused_with_its_field(scheduler: Scheduler) -> None:
    uid = str(uuid.uuid4())
    for owner, tasks, field in (
        ("", (owned(uid),), "managed_by"),
        ("somebody", (owned(uid),), "managed_by"),
        ("resource:one", (owned("tick"),), "name"),
        ("resource:one", (owned(uid), owned(uid)), "name"),
        ("resource:one", (owned(uid, parent=OTHER),), "name"),
        ("resource:one", (owned(uid, prompt=""),), "prompt"),
        ("resource:one", (owned(uid, trigger=every("soon")),), "every"),
    ):
        with pytest.raises(errors.InvalidArgument) as caught:
            await apply(scheduler, owner, *tasks)
        assert caught.value.metadata["field"] == field
    assert not await owners(scheduler)
