"""Runs over real gRPC: shown, listed, cancelled, retried, cleared, and their deliveries."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fased.api.scheduler.v1 import run_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.bus.port import Record
from fased.core import errors
from tests.support.calls import eventually
from tests.support.schedulers import (
    PARENT,
    Scheduler,
    complete,
    create,
    draft,
    enqueue,
    get_run,
    lease,
    message_run,
    run_now,
    scheduling,
)

NAMES = ("default", "other")


@pytest.fixture
async def scheduler(database_url: str) -> AsyncIterator[Scheduler]:
    async with scheduling(database_url, namespaces=NAMES) as started:
        yield started


@pytest.fixture
def worker() -> str:
    return str(uuid.uuid4())


def name_of(run_id: int, parent: str = PARENT) -> str:
    return f"{parent}/runs/{run_id}"


async def cancel(scheduler: Scheduler, run_id: int) -> run_pb2.Run:
    return (await scheduler.runs.CancelRun(pb.CancelRunRequest(name=name_of(run_id)))).run


async def retry(scheduler: Scheduler, run_id: int) -> run_pb2.Run:
    return (await scheduler.runs.RetryRun(pb.RetryRunRequest(name=name_of(run_id)))).run


async def ended(scheduler: Scheduler, worker: str, event_id: str = "e1", **result: Any) -> int:
    """A message's run that has ended."""
    await enqueue(scheduler, message_run(event_id))
    [run] = await lease(scheduler, worker)
    await complete(scheduler, run, **result)
    return run.run_id


async def test_a_run_is_shown_while_it_lives_and_after_its_end(
    scheduler: Scheduler, worker: str
) -> None:
    [made] = await enqueue(scheduler, message_run("e1"))
    [run_id] = made.run_ids
    queued = await get_run(scheduler, run_id)
    assert (queued.state, queued.body.inputs[0].text) == ("queued", "hello")
    [run] = await lease(scheduler, worker)
    running = await get_run(scheduler, run_id)
    assert (running.state, running.worker_id) == ("running", worker)
    assert running.HasField("deadline_time")
    await complete(scheduler, run, text="hi", model="scripted/echo", input_tokens=3)
    shown = await get_run(scheduler, run_id)
    assert (shown.state, shown.result.text, shown.result.input_tokens) == ("succeeded", "hi", 3)
    assert shown.HasField("end_time")


async def test_a_run_that_has_ended_is_not_cancelled_again(
    scheduler: Scheduler, worker: str
) -> None:
    run_id = await ended(scheduler, worker)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await cancel(scheduler, run_id)
    assert caught.value.reason == "RUN_TERMINAL"
    assert caught.value.message == "Run is already terminal: succeeded."


async def test_a_run_that_waits_is_cancelled_at_once(scheduler: Scheduler) -> None:
    [made] = await enqueue(scheduler, message_run("e1"))
    cancelled = await cancel(scheduler, made.run_ids[0])
    assert (cancelled.state, cancelled.result.reason) == ("cancelled", "CANCELLED")


async def test_a_stop_ends_the_runs_of_one_session(scheduler: Scheduler, worker: str) -> None:
    here, there = "agent:main:here", "agent:main:there"
    items = [message_run(f"h{n}", session_key=here) for n in range(3)]
    await enqueue(scheduler, *items, message_run("t1", session_key=there))
    [running] = await lease(scheduler, worker, max_runs=1)
    stop = pb.CancelSessionRunsRequest(parent=PARENT, session_key=here)
    assert (await scheduler.runs.CancelSessionRuns(stop)).count == 3
    assert (await scheduler.runs.CancelSessionRuns(stop)).count == 1
    assert (await get_run(scheduler, running.run_id)).cancel_requested
    [other] = await lease(scheduler, worker)
    assert other.body.session_key == there
    elsewhere = pb.CancelSessionRunsRequest(parent="namespaces/other", session_key=there)
    assert (await scheduler.runs.CancelSessionRuns(elsewhere)).count == 0


async def test_a_repeated_request_to_retry_or_stop_is_answered_as_the_first_was(
    scheduler: Scheduler, worker: str
) -> None:
    run_id = await ended(scheduler, worker, outcome="failed", reason="X", message="It broke.")
    request = pb.RetryRunRequest(name=name_of(run_id), request_id=str(uuid.uuid4()))
    first = await scheduler.runs.RetryRun(request)
    assert await scheduler.runs.RetryRun(request) == first
    stop = pb.CancelSessionRunsRequest(
        parent=PARENT, session_key=first.run.body.session_key, request_id=str(uuid.uuid4())
    )
    assert [(await scheduler.runs.CancelSessionRuns(stop)).count for _ in range(2)] == [1, 1]


async def test_a_failed_run_is_retried_under_its_number_with_its_checkpoints(
    scheduler: Scheduler, worker: str
) -> None:
    run_id = await ended(scheduler, worker, outcome="failed", reason="X", message="It broke.")
    again = await retry(scheduler, run_id)
    assert (again.run_id, again.state) == (run_id, "queued")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await retry(scheduler, run_id)
    assert caught.value.reason == "RUN_LIVE"
    [run] = await lease(scheduler, worker)
    await complete(scheduler, run, text="hi")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await retry(scheduler, run_id)
    assert caught.value.reason == "NOT_RETRYABLE"


async def test_a_run_is_taken_only_from_a_worker_whose_lease_has_expired(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    clear = pb.ClearStaleRunRequest(name=name_of(run.run_id))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await scheduler.runs.ClearStaleRun(clear)
    assert caught.value.reason == "LEASE_STANDS"
    async with scheduler.up.host.database.queue.acquire() as conn:
        await conn.execute("DELETE FROM scheduler.worker")
    # Recovery may have taken it first, to the same end.
    with suppress(errors.FailedPrecondition):
        await scheduler.runs.ClearStaleRun(clear)
    cleared = await get_run(scheduler, run.run_id)
    assert (cleared.state, cleared.crashes) == ("queued", 1)


async def test_runs_are_listed_page_by_page_live_ones_first(
    scheduler: Scheduler, worker: str
) -> None:
    done = [await ended(scheduler, worker, f"e{n}") for n in range(3)]
    made = await enqueue(scheduler, message_run("l1"), message_run("l2"))
    live = [run_id for each in made for run_id in each.run_ids]
    listed: list[int] = []
    token = ""
    while True:
        page = await scheduler.runs.ListRuns(
            pb.ListRunsRequest(parent=PARENT, page_size=2, page_token=token)
        )
        listed += [run.run_id for run in page.runs]
        if not (token := page.next_page_token):
            break
    assert listed == live[::-1] + done[::-1]
    with pytest.raises(errors.InvalidArgument) as caught:
        await scheduler.runs.ListRuns(pb.ListRunsRequest(parent=PARENT, page_token="x"))
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_runs_of_a_task_are_its_own(scheduler: Scheduler) -> None:
    task, other = await create(scheduler, draft()), await create(scheduler, draft())
    run = await run_now(scheduler, task)
    await run_now(scheduler, other)
    request = pb.ListRunsRequest(parent=PARENT, task_id=task.name.rpartition("/")[2])
    assert [each.run_id for each in (await scheduler.runs.ListRuns(request)).runs] == [run.run_id]


@pytest.mark.parametrize("name", ["x", "1.5", "-1", "9" * 30, "\u0661", "", "1/2"])
async def test_a_name_that_is_no_run_is_refused(scheduler: Scheduler, name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        await scheduler.runs.GetRun(pb.GetRunRequest(name=f"{PARENT}/runs/{name}"))


async def test_a_run_that_is_not_there_is_not_found(scheduler: Scheduler) -> None:
    for call in (
        scheduler.runs.GetRun(pb.GetRunRequest(name=name_of(999))),
        scheduler.runs.CancelRun(pb.CancelRunRequest(name=name_of(999))),
        scheduler.runs.RetryRun(pb.RetryRunRequest(name=name_of(999))),
        scheduler.runs.ClearStaleRun(pb.ClearStaleRunRequest(name=name_of(999))),
    ):
        with pytest.raises(errors.NotFound) as caught:
            await call
        assert caught.value.reason == "RUN_NOT_FOUND"
        assert "999" in caught.value.message


async def test_the_queue_is_counted_by_namespace(scheduler: Scheduler, worker: str) -> None:
    await create(scheduler, draft("every", "1h"))
    items = [message_run(f"e{n}") for n in range(3)]
    await enqueue(scheduler, *items, message_run("o1", namespace="other"))
    runs = await lease(scheduler, worker, max_runs=9)
    assert {run.namespace for run in runs} == set(NAMES)
    status = await scheduler.runs.GetQueueStatus(pb.GetQueueStatusRequest(parent=PARENT))
    assert (status.queued, status.running, status.workers, status.active_tasks) == (2, 1, 1, 1)
    assert status.HasField("next_slot_time")
    empty = await scheduler.runs.GetQueueStatus(pb.GetQueueStatusRequest(parent="namespaces/third"))
    assert (empty.queued, empty.running, empty.active_tasks) == (0, 0, 0)
    assert not empty.HasField("next_slot_time")


async def test_a_runs_detail_shows_the_latest_state_of_its_deliveries(
    scheduler: Scheduler, worker: str
) -> None:
    run_id = await ended(scheduler, worker, text="hi")
    began = datetime.now(UTC)
    states = [("sent", 2), ("pending", 1), ("sent", 2)]
    await scheduler.up.host.bus.publish(
        [_delivery(run_id, state, began + timedelta(seconds=at)) for state, at in states]
    )

    async def shown() -> list[str]:
        return [each.state for each in (await get_run(scheduler, run_id)).deliveries]

    assert await eventually(shown) == ["sent"]
    await scheduler.up.host.bus.publish(
        [_delivery(run_id, "failed", began), _delivery(run_id, "pending", began, "d2")]
    )

    async def second() -> bool:
        return len(await shown()) == 2

    await eventually(second)
    assert sorted(await shown()) == ["pending", "sent"]


async def test_an_end_is_told_to_those_who_follow_runs(scheduler: Scheduler, worker: str) -> None:
    async with scheduler.up.host.bus.tail(["fased.run-events.v1"]) as records:
        run_id = await ended(scheduler, worker, outcome="failed", reason="X", message="It broke.")
        async with asyncio.timeout(20):
            record = await anext(records)
    event = message_pb2.RunEvent.FromString(record.value)
    assert record.key == f"default/{run_id}"
    assert (event.kind, event.outcome, event.reason) == (
        message_pb2.RUN_EVENT_KIND_ENDED, "failed", "X",
    )  # fmt: skip
    assert record.headers["ce-id"] == event.id


def _delivery(run_id: int, state: str, at: datetime, delivery_id: str = "d1") -> Record:
    event = message_pb2.RunEvent(
        id=str(uuid.uuid4()),
        namespace="default",
        run_id=run_id,
        kind=message_pb2.RUN_EVENT_KIND_DELIVERY,
        delivery_id=delivery_id,
        delivery_state=state,
    )
    event.event_time.FromDatetime(at)
    return Record("fased.run-events.v1", f"default/{run_id}", event.SerializeToString())
