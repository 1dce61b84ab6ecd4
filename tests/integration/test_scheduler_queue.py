"""The run queue over real gRPC: enqueued once, leased by long poll, fenced, told to its chat."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import run_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2 as scheduler_pb
from fased.api.types.v1 import message_pb2
from fased.core import answers, errors
from tests.support.calls import acting, eventually
from tests.support.schedulers import (
    PARENT,
    Scheduler,
    chat,
    complete,
    enqueue,
    get_run,
    go_on,
    lease,
    message_run,
    outbound,
    scheduling,
)


@pytest.fixture
async def scheduler(database_url: str) -> AsyncIterator[Scheduler]:
    async with scheduling(database_url) as started:
        yield started


@pytest.fixture
def worker() -> str:
    return str(uuid.uuid4())


async def beat(
    scheduler: Scheduler, worker: str, *held: run_pb2.LeasedRun, claim_s: float = 10
) -> list[int]:
    """One heartbeat; answers with the runs to stop."""
    deadline = Duration()
    deadline.FromTimedelta(timedelta(seconds=claim_s))
    request = pb.HeartbeatRequest(
        worker_id=worker,
        lease_for=Duration(seconds=15),
        run_ids=[run.run_id for run in held],
        claim_deadline=deadline,
    )
    return list((await scheduler.queue.Heartbeat(request)).cancel_run_ids)


async def cancel(scheduler: Scheduler, run_id: int) -> run_pb2.Run:
    request = scheduler_pb.CancelRunRequest(name=f"{PARENT}/runs/{run_id}")
    return (await scheduler.runs.CancelRun(request)).run


async def test_an_event_makes_its_run_once(scheduler: Scheduler) -> None:
    item = message_run("default:webchat:default:c/1")
    [first, same] = await enqueue(scheduler, item, item)
    assert (first.known, same.known) == (False, True)
    [again] = await enqueue(scheduler, item)
    assert (again.known, again.run_ids) == (True, first.run_ids)


async def test_a_waiting_worker_is_given_a_run_as_soon_as_there_is_one(
    scheduler: Scheduler, worker: str
) -> None:
    waiting = asyncio.create_task(lease(scheduler, worker, wait_s=25))
    await eventually(lambda: _is_known(scheduler, worker))
    assert not waiting.done()
    [made] = await enqueue(scheduler, message_run("e1"))
    [run] = await waiting
    assert [run.run_id] == list(made.run_ids)
    left = run.time_left.ToTimedelta()
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)


async def test_a_wait_that_is_over_is_answered_with_nothing(
    scheduler: Scheduler, worker: str
) -> None:
    assert await lease(scheduler, worker, wait_s=0) == []


async def test_a_caller_that_goes_away_takes_no_run(scheduler: Scheduler, worker: str) -> None:
    waiting = asyncio.create_task(lease(scheduler, worker, wait_s=25))
    await eventually(lambda: _is_known(scheduler, worker))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # A call of the other's own connection, so that its cancellation arrives before the run does.
    await beat(scheduler, worker)
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, str(uuid.uuid4()))
    assert run.body.inputs[0].event_id == "e1"


async def test_the_answer_of_a_message_goes_to_its_chat_and_names_its_event(
    scheduler: Scheduler, worker: str
) -> None:
    async with outbound(scheduler) as messages:
        await enqueue(scheduler, message_run("e1"))
        [run] = await lease(scheduler, worker)
        result = await complete(scheduler, run, text="hi")
        sent = await anext(messages)
    assert (result.result, result.outcome) == (pb.WRITE_RESULT_WRITTEN, "succeeded")
    assert (sent.text, sent.kind, sent.event_id) == (
        "hi", message_pb2.MESSAGE_KIND_ANSWER, "e1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "result", "said"),
    [
        ("failed", {"reason": "X", "message": "the model is down."}, "No answer: the model is"),
        ("timed_out", {"reason": "DEADLINE"}, "No answer: the run reached its deadline"),
        ("blocked", {"reason": "X", "message": "Set OPENAI_API_KEY."}, "Set OPENAI_API_KEY."),
    ],
)
async def test_a_message_that_gets_no_answer_is_told_why_in_one_line(
    scheduler: Scheduler, worker: str, outcome: str, result: dict[str, Any], said: str
) -> None:
    async with outbound(scheduler) as messages:
        await enqueue(scheduler, message_run("e1"))
        [run] = await lease(scheduler, worker)
        await complete(scheduler, run, outcome=outcome, deliver=False, **result)
        sent = await anext(messages)
    assert sent.text.startswith(said)
    assert "\n" not in sent.text
    assert (sent.kind, sent.event_id) == (message_pb2.MESSAGE_KIND_FAILURE, "e1")


async def test_a_run_that_is_retried_answers_after_its_failure(
    scheduler: Scheduler, worker: str
) -> None:
    async with outbound(scheduler) as messages:
        await enqueue(scheduler, message_run("e1"))
        [run] = await lease(scheduler, worker)
        await complete(scheduler, run, outcome="failed", message="It broke.")
        failure = await anext(messages)
        retry = scheduler_pb.RetryRunRequest(name=f"{PARENT}/runs/{run.run_id}")
        assert (await scheduler.runs.RetryRun(retry)).run.state == "queued"
        [run] = await lease(scheduler, worker)
        await complete(scheduler, run, text="hi")
        answer = await anext(messages)
    assert answer.text == "hi"
    assert answer.id != failure.id


async def test_a_completion_is_answered_alike_when_it_is_repeated(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    first = await complete(scheduler, run, text="hi")
    assert await complete(scheduler, run, text="again") == first
    assert (await get_run(scheduler, run.run_id)).result.text == "hi"
    run.epoch += 1
    assert (await complete(scheduler, run)).result == pb.WRITE_RESULT_STALE


async def test_a_cancelled_run_drops_what_its_worker_says_later(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    flagged = await cancel(scheduler, run.run_id)
    assert (flagged.state, flagged.cancel_requested) == ("running", True)
    assert await beat(scheduler, worker, run) == [run.run_id]
    async with outbound(scheduler) as messages:
        result = await complete(scheduler, run, text="too late")
        sent = await anext(messages)
    assert (result.result, result.outcome) == (pb.WRITE_RESULT_CANCELLED, "cancelled")
    assert (sent.text, sent.kind) == ("Stopped.", message_pb2.MESSAGE_KIND_NOTICE)


async def test_a_lease_whose_answer_was_lost_comes_back_by_the_heartbeat(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [lost] = await lease(scheduler, worker)
    assert await beat(scheduler, worker, claim_s=60) == []
    assert (await get_run(scheduler, lost.run_id)).state == "running"
    waiting = asyncio.create_task(lease(scheduler, worker))
    await beat(scheduler, worker, claim_s=0)
    [run] = await waiting
    assert (run.run_id, run.epoch > lost.epoch) == (lost.run_id, True)


async def test_the_first_checkpoint_of_a_step_stands(scheduler: Scheduler, worker: str) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    for value, stands in (('{"n": 1}', '{"n": 1}'), ('{"n": 2}', '{"n": 1}')):
        stored = await _put(scheduler, run, value)
        assert (stored.result, stored.checkpoint.value_json) == (pb.WRITE_RESULT_WRITTEN, stands)
    await scheduler.queue.ReleaseRuns(
        pb.ReleaseRunsRequest(runs=[pb.HeldRun(run_id=run.run_id, epoch=run.epoch)])
    )
    assert (await _put(scheduler, run, "{}")).result == pb.WRITE_RESULT_STALE
    [again] = await lease(scheduler, worker)
    assert [each.value_json for each in again.checkpoints] == ['{"n": 1}']
    shown = await get_run(scheduler, run.run_id)
    assert [each.step for each in shown.checkpoints] == ["act"]


@pytest.mark.parametrize("value", ["", "{", "NaN", "\0", "[" * 20_000, r'"\ud83'])
async def test_a_checkpoint_that_is_no_json_is_refused(
    scheduler: Scheduler, worker: str, value: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    with pytest.raises(errors.InvalidArgument) as caught:
        await _put(scheduler, run, value)
    assert caught.value.metadata["field"] == "checkpoint.value_json"


async def test_a_parked_turn_keeps_its_lane_and_who_writes_behind_it_is_told(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    park = pb.ParkRunRequest(run_id=run.run_id, epoch=run.epoch, wake_seq=run.wake_seq)
    assert (await scheduler.queue.ParkRun(park)).result == pb.WRITE_RESULT_WRITTEN
    async with outbound(scheduler) as messages:
        await enqueue(scheduler, message_run("e2"))
        await enqueue(scheduler, message_run("e2"))
        notice = await anext(messages)
        assert (notice.text, notice.event_id) == (answers.WAITING, "")
        assert await lease(scheduler, worker, wait_s=0) == []
        waiting = asyncio.create_task(lease(scheduler, worker))
        wake = pb.WakeRunRequest(namespace="default", run_id=run.run_id)
        await scheduler.queue.WakeRun(wake)
        [woken] = await waiting
        assert woken.run_id == run.run_id
        await complete(scheduler, woken, text="hi")
        assert (await anext(messages)).text == "hi"
    with pytest.raises(errors.NotFound):
        await scheduler.queue.WakeRun(pb.WakeRunRequest(namespace="other", run_id=run.run_id))


async def test_a_parked_run_wakes_when_its_time_has_come(scheduler: Scheduler, worker: str) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    park = pb.ParkRunRequest(run_id=run.run_id, epoch=run.epoch, wake_time=_soon())
    await scheduler.queue.ParkRun(park)
    [woken] = await lease(scheduler, worker)
    assert woken.run_id == run.run_id


async def test_a_run_that_is_put_off_comes_back_and_lets_its_lane_go_on(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"), message_run("e2"))
    [first] = await lease(scheduler, worker)
    put_off = pb.RescheduleRunRequest(
        run_id=first.run_id, epoch=first.epoch, run_time=_soon(), reason="RATE_LIMIT"
    )
    assert (await scheduler.queue.RescheduleRun(put_off)).result == pb.WRITE_RESULT_WRITTEN
    [second] = await lease(scheduler, worker)
    assert second.body.inputs[0].event_id == "e2"
    await complete(scheduler, second, text="hi")
    [again] = await lease(scheduler, worker)
    assert (again.run_id, again.attempts) == (first.run_id, 1)
    assert (await get_run(scheduler, first.run_id)).last_reason == "RATE_LIMIT"


async def test_the_runs_of_a_worker_that_is_gone_are_leased_again(
    scheduler: Scheduler, worker: str
) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker, lease_s=1)
    [again] = await lease(scheduler, str(uuid.uuid4()))
    assert (again.run_id, again.epoch > run.epoch) == (run.run_id, True)
    assert (await complete(scheduler, run, text="late")).result == pb.WRITE_RESULT_STALE
    with pytest.raises(errors.FailedPrecondition) as caught:
        await beat(scheduler, worker)
    assert caught.value.reason == "LEASE_LOST"
    assert (await get_run(scheduler, run.run_id)).crashes == 1


async def test_one_process_ends_all_leases_when_it_starts(database_url: str, worker: str) -> None:
    async with scheduling(database_url) as before:
        await enqueue(before, message_run("e1"))
        [run] = await lease(before, worker, lease_s=300)
    async with scheduling(database_url, namespaces=(), one_process=True) as after:
        [again] = await lease(after, str(uuid.uuid4()), wait_s=0)
    assert again.run_id == run.run_id


def _broken(**changes: Any) -> pb.EnqueueItem:
    item = message_run("e1")
    for path, value in changes.items():
        *parents, name = path.split("__")
        target: Any = item.runs[0] if parents or hasattr(item.runs[0], name) else item
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)
    return item


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (_broken(key=""), "INVALID_KEY"),
        (_broken(key="a\0"), "INVALID_KEY"),
        (_broken(namespace="other"), "NAMESPACE_MISMATCH"),
        (_broken(task_id="x"), "INVALID_TASK_ID"),
        (_broken(run_class=0), "INVALID_CLASS"),
        (_broken(lane="a\0"), "ZERO_CHARACTER"),
        (_broken(body__session_key="a\0"), "ZERO_CHARACTER"),
        (_broken(body__mode="magic"), "INVALID_MODE"),
        (_broken(body__trigger="magic"), "INVALID_TRIGGER"),
        (message_run("e1", target=chat("a\0")), "ZERO_CHARACTER"),
        (message_run("e1", text="x" * (1024 * 1024 + 1)), "BODY_TOO_LARGE"),
        (pb.EnqueueItem(namespace="default", key="e1"), "INVALID_RUNS"),
        (pb.EnqueueItem(namespace="Default", key="e1"), "INVALID_NAMESPACE"),
    ],
)
async def test_what_could_not_be_carried_out_is_refused_and_nothing_is_stored(
    scheduler: Scheduler, item: pb.EnqueueItem, reason: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await enqueue(scheduler, message_run("good"), item)
    assert caught.value.reason == reason
    assert caught.value.metadata["field"]
    assert await lease(scheduler, str(uuid.uuid4()), wait_s=0) == []


async def test_a_batch_and_a_result_have_bounds(scheduler: Scheduler, worker: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await enqueue(scheduler, *(message_run(f"e{n}") for n in range(501)))
    assert caught.value.reason == "BATCH_TOO_LARGE"
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    with pytest.raises(errors.InvalidArgument) as caught:
        await complete(scheduler, run, text="x" * (512 * 1024 + 1))
    assert caught.value.reason == "RESULT_TOO_LARGE"
    with pytest.raises(errors.InvalidArgument) as caught:
        await complete(scheduler, run, outcome="merged")
    assert caught.value.reason == "INVALID_OUTCOME"
    assert (await complete(scheduler, run, text="x" * 512 * 1024)).outcome == "succeeded"


async def test_a_worker_that_names_itself_goes_on_with_what_waits_behind_its_run(
    scheduler: Scheduler, worker: str
) -> None:
    for event in ("e1", "e2", "e3"):
        await enqueue(scheduler, message_run(event))
    [first] = await lease(scheduler, worker)
    [second] = await go_on(scheduler, first, worker)
    assert second.body.inputs[0].event_id == "e2"
    assert second.epoch > first.epoch
    assert (await get_run(scheduler, second.run_id)).state == "running"
    await complete(scheduler, second)
    [third] = await lease(scheduler, worker)
    assert third.body.inputs[0].event_id == "e3"
    assert await go_on(scheduler, third, worker) == []


async def test_a_worker_names_itself_by_a_uuid(scheduler: Scheduler, worker: str) -> None:
    await enqueue(scheduler, message_run("e1"))
    [run] = await lease(scheduler, worker)
    for call in (lease(scheduler, "pod-1", wait_s=0), go_on(scheduler, run, "pod-1")):
        with pytest.raises(errors.InvalidArgument) as caught:
            await call
        assert caught.value.metadata["field"] == "worker_id"
    assert (await get_run(scheduler, run.run_id)).state == "running"


async def test_only_services_use_the_queue(scheduler: Scheduler) -> None:
    request = pb.EnqueueRunsRequest(items=[message_run("e1")])
    with pytest.raises(errors.PermissionDenied):
        await scheduler.queue.EnqueueRuns(request, **acting())


def _soon() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(milliseconds=300))
    return stamp


async def _put(
    scheduler: Scheduler, run: run_pb2.LeasedRun, value_json: str
) -> pb.CheckpointResult:
    checkpoint = run_pb2.Checkpoint(step="act", value_json=value_json)
    step = pb.FinishedStep(run_id=run.run_id, epoch=run.epoch, checkpoint=checkpoint)
    answer = await scheduler.queue.PutCheckpoints(pb.PutCheckpointsRequest(steps=[step]))
    return answer.results[0]


async def _is_known(scheduler: Scheduler, worker: str) -> bool:
    request = scheduler_pb.GetQueueStatusRequest(parent=PARENT)
    return (await scheduler.runs.GetQueueStatus(request)).workers > 0
