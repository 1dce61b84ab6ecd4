"""Runs carried out by the worker, against the real queue, policy and transcripts, and a real
loopback provider.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from fased.api.executor.v1 import executor_service_pb2 as executor_pb
from fased.api.executor.v1 import transcript_pb2
from fased.api.router.v1 import router_service_pb2, router_service_pb2_grpc
from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import run_pb2
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.wire.times import to_duration
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.turns import KEY, NAMESPACE, House, house, make_agent, message, task, uses

SCHEDULED = {"run_class": run_pb2.RUN_CLASS_SCHEDULED}
KEPT = json.dumps({"text": "kept", "model": "custom/small", "input_tokens": 1, "output_tokens": 2})


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest.fixture
async def home(database_url: str, provider: ScriptedProvider) -> AsyncIterator[House]:
    async with _home(database_url, provider) as opened:
        yield opened


@asynccontextmanager
async def _home(
    database_url: str, provider: ScriptedProvider, **settings: object
) -> AsyncIterator[House]:
    async with house(database_url, uses(provider), **settings) as opened:
        await make_agent(opened)
        yield opened


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def test_a_message_is_answered_delivered_and_kept_in_the_transcript(home: House) -> None:
    ended = await home.ended(await home.enqueue(message("hello")))
    assert (ended["outcome"], ended["deliver"]) == ("succeeded", True)
    assert ended["result"]["text"] == "You said: hello"
    assert ended["result"]["model"] == "custom/small"
    assert ended["result"]["input_tokens"] == 11
    assert [(each.role, each.text, each.sender, each.event_id) for each in await home.said()] == [
        ("user", "hello", "Ada", "event-hello"),
        ("assistant", "You said: hello", "", ""),
    ]


async def test_a_turn_knows_what_was_said_before_and_its_agents_prompt(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with house(database_url, uses(provider)) as home:
        await make_agent(home, system_prompt="be brief")
        await home.ended(await home.enqueue(message("one")))
        await home.ended(await home.enqueue(message("two")))
    assert [each["content"] for each in provider.calls[-1].messages] == [
        "be brief",
        "one",
        "You said: one",
        "two",
    ]


async def test_a_conversation_is_answered_in_the_order_it_was_written(home: House) -> None:
    sessions = [f"agent:main:webchat:direct:{n}" for n in range(4)]
    bodies = [message(f"{key[-1]}.{n}", key) for n in range(5) for key in sessions]
    runs = [await home.enqueue(body) for body in bodies]
    for run_id in runs:
        assert (await home.ended(run_id))["outcome"] == "succeeded"
    for key in sessions:
        request = executor_pb.ListTranscriptRequest(
            parent=f"namespaces/{NAMESPACE}", session_key=key
        )
        entries = (await home.transcripts.ListTranscript(request)).entries
        asked = [each.text for each in entries if each.role == "user"]
        assert asked == [f"{key[-1]}.{n}" for n in range(5)]


async def test_a_prompt_without_a_model_is_delivered_as_written_and_calls_nobody(
    home: House, provider: ScriptedProvider
) -> None:
    ended = await home.ended(await home.enqueue(task("tick", "no-model"), **SCHEDULED))
    assert (ended["outcome"], ended["deliver"], ended["result"]["text"]) == (
        "succeeded",
        True,
        "tick",
    )
    assert [(each.role, each.text) for each in await home.said()] == [("assistant", "tick")]
    assert not provider.calls


async def test_a_slots_run_takes_place_in_its_sessions_current_conversation(home: House) -> None:
    await home.ended(await home.enqueue(task("tick", "no-model", session_id=""), **SCHEDULED))
    sessions = router_service_pb2_grpc.SessionServiceStub(home.up.channel)
    name = f"namespaces/{NAMESPACE}/sessions/{KEY}"
    current = await sessions.GetSession(router_service_pb2.GetSessionRequest(name=name))
    assert [each.session_id for each in await home.said()] == [current.session.session_id]


async def test_a_prompt_without_a_model_needs_none_set_up(database_url: str) -> None:
    async with house(database_url, {}) as home:
        await make_agent(home)
        ended = await home.ended(await home.enqueue(task("tick", "no-model"), **SCHEDULED))
    assert (ended["outcome"], ended["result"]["text"]) == ("succeeded", "tick")


async def test_without_any_model_the_run_is_blocked_and_says_what_to_set_up(
    database_url: str,
) -> None:
    async with house(database_url, {}) as home:
        await make_agent(home)
        ended = await home.ended(await home.enqueue(message("hello")))
        assert not await home.said()
    assert (ended["outcome"], ended["result"]["reason"]) == ("blocked", "NO_MODEL_CREDENTIAL")
    assert "OPENAI_API_KEY" in ended["result"]["message"]
    assert ended["result"]["setup_target"] == "OPENAI_API_KEY"


async def test_an_agent_that_is_not_there_blocks_its_run(home: House) -> None:
    ended = await home.ended(await home.enqueue(message("hello", agent_id="ghost")))
    assert (ended["outcome"], ended["result"]["reason"]) == ("blocked", "AGENT_MISSING")


@pytest.mark.parametrize("word", ["HEARTBEAT_OK", "NO_REPLY"])
async def test_an_answer_that_says_nothing_is_not_delivered(
    home: House, provider: ScriptedProvider, word: str
) -> None:
    provider.rules = [Rule(answer=word)]
    ended = await home.ended(await home.enqueue(task("check"), **SCHEDULED))
    assert (ended["outcome"], ended["deliver"]) == ("succeeded", False)


async def test_a_run_that_comes_back_with_its_answer_never_calls_the_model_again(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with house(database_url, None) as home:
        await make_agent(home)
        run_id = await home.enqueue(message("hello"))
        run = await home.lease(str(uuid.uuid4()))
        checkpoint = run_pb2.Checkpoint(step="act", value_json=KEPT)
        step = pb.FinishedStep(run_id=run_id, epoch=run.epoch, checkpoint=checkpoint)
        await home.queue.PutCheckpoints(pb.PutCheckpointsRequest(steps=[step]))
        held = pb.HeldRun(run_id=run_id, epoch=run.epoch)
        await home.queue.ReleaseRuns(pb.ReleaseRunsRequest(runs=[held]))
    async with house(database_url, uses(provider)) as home:
        ended = await home.ended(run_id)
        assert [each.text for each in await home.said()] == ["hello", "kept"]
    assert (ended["outcome"], ended["result"]["text"]) == ("succeeded", "kept")
    assert not provider.calls


async def test_a_run_that_is_told_to_stop_hangs_up_and_ends_cancelled(
    home: House, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(answer="one " + "more " * 200_000, hold=gate, hold_after=1)]
    run_id = await home.enqueue(message("hello"))
    await until(provider.called)
    await home.cancel(run_id)
    assert (await home.ended(run_id))["outcome"] == "cancelled"
    gate.set()
    await until(provider.hung_up)
    assert not await home.said()


async def test_a_run_past_its_deadline_ends_timed_out(
    home: House, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(match="slow", hold=threading.Event())]
    short = to_duration(timedelta(milliseconds=300))
    ended = await home.ended(await home.enqueue(message("slow"), run_for=short))
    assert ended["outcome"] == "timed_out"
    assert (await home.ended(await home.enqueue(message("next"))))["outcome"] == "succeeded"


async def test_a_message_is_tried_twice_and_then_says_why_there_is_no_answer(
    home: House, provider: ScriptedProvider
) -> None:
    headers = {"retry-after-ms": "1"}
    provider.rules = [
        Rule(match="once", status=503, times=1, headers=headers),
        Rule(match="always", status=503, headers=headers),
    ]
    assert (await home.ended(await home.enqueue(message("once"))))["outcome"] == "succeeded"
    ended = await home.ended(await home.enqueue(message("always")))
    assert (ended["outcome"], ended["result"]["reason"]) == ("failed", "MODEL_OVERLOADED")
    assert "overloaded" in ended["result"]["message"]
    assert (provider.count("once"), provider.count("always")) == (2, 2)


async def test_a_tasks_run_is_put_off_after_a_failure_that_may_pass(
    home: House, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(status=429, headers={"retry-after": "100"})]
    run_id = await home.enqueue(task("look"), **SCHEDULED)
    row = await home.row(
        "SELECT attempts, last_reason, run_at - public.fased_now() AS wait FROM scheduler.run"
        " WHERE id = $1 AND state = 4",
        run_id,
    )
    assert (row["attempts"], row["last_reason"]) == (1, "MODEL_RATE_LIMITED")
    assert timedelta(seconds=60) < row["wait"] <= timedelta(seconds=101)
    assert len(provider.calls) == 1


async def test_a_failure_that_stays_ends_a_run_at_once_and_names_what_to_mend(
    home: House, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(status=401, error={"message": "bad key sk-canary-0123456789"})]
    for run_id in (
        await home.enqueue(message("hello")),
        await home.enqueue(task("look"), **SCHEDULED),
    ):
        ended = await home.ended(run_id)
        assert ended["outcome"] == "failed"
        assert ended["result"]["reason"] == "MODEL_CREDENTIAL_REFUSED"
        assert "FASED_MODEL_API_KEY" in ended["result"]["message"]
        assert "canary" not in json.dumps(ended["result"])
    assert len(provider.calls) == 2


async def test_the_agents_fallback_answers_where_its_model_is_not_available(
    database_url: str, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(status=404, times=1)]
    async with house(database_url, uses(provider)) as home:
        await make_agent(home, model="custom/gone", fallback_models=["nowhere/x", "custom/spare"])
        ended = await home.ended(await home.enqueue(message("hello")))
    assert (ended["outcome"], ended["result"]["model"]) == ("succeeded", "custom/spare")
    assert [call.model for call in provider.calls] == ["gone", "spare"]


async def test_a_stop_gives_unfinished_runs_back_untouched(
    database_url: str, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(times=1, hold=threading.Event())]
    async with _home(database_url, provider) as home:
        run_id = await home.enqueue(message("hello"))
        await until(provider.called)
    async with house(database_url, uses(provider)) as home:
        ended = await home.ended(run_id)
    assert (ended["outcome"], ended["crashes"], ended["attempts"]) == ("succeeded", 0, 0)


async def test_a_stop_lets_runs_end_within_the_grace(
    database_url: str, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(times=1, hold=gate)]
    async with _home(database_url, provider, grace_s=20) as home:
        run_id = await home.enqueue(message("hello"))
        await until(provider.called)
        home.up.host.stop.set()
        gate.set()
    async with house(database_url, None) as home:
        assert (await home.ended(run_id))["outcome"] == "succeeded"
    assert len(provider.calls) == 1


async def test_a_worker_goes_on_with_what_waits_in_the_conversation(
    home: House, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(times=1, hold=gate)]
    first = await home.enqueue(message("one"))
    await until(provider.called)
    second = await home.enqueue(message("two"))
    gate.set()
    for run_id in (first, second):
        assert (await home.ended(run_id))["outcome"] == "succeeded"
    row = await home.row(
        "SELECT n.leased_at = h.ended_at AS went_on FROM scheduler.run_history h,"
        " scheduler.run_history n WHERE h.id = $1 AND n.id = $2",
        first,
        second,
    )
    assert row["went_on"]


async def test_a_worker_that_is_to_stop_leaves_what_waits_to_others(
    database_url: str, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(times=1, hold=gate)]
    async with _home(database_url, provider, grace_s=20) as home:
        first = await home.enqueue(message("one"))
        await until(provider.called)
        second = await home.enqueue(message("two"))
        home.up.host.stop.set()
        gate.set()
    async with house(database_url, uses(provider)) as home:
        ended = [await home.ended(run_id) for run_id in (first, second)]
    assert [(each["outcome"], each["crashes"]) for each in ended] == [("succeeded", 0)] * 2
    assert len(provider.calls) == 2


async def test_a_worker_that_was_given_up_begins_anew_and_its_run_ends_once(
    home: House, provider: ScriptedProvider
) -> None:
    provider.rules = [Rule(match="hello", times=1, hold=threading.Event())]
    run_id = await home.enqueue(message("hello"))
    await until(provider.called)
    await home.execute("UPDATE scheduler.worker SET expires_at = '-infinity'")
    ended = await home.ended(run_id)
    assert (ended["outcome"], ended["crashes"]) == ("succeeded", 1)
    assert [each.text for each in await home.said()] == ["hello", "You said: hello"]
    assert (await home.ended(await home.enqueue(message("next"))))["outcome"] == "succeeded"


async def test_entries_of_a_run_that_failed_show_as_undelivered_and_no_model_sees_them(
    database_url: str, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(match="busy", hold=gate)]
    async with _home(database_url, provider, run_concurrency=1) as home:
        busy = await home.enqueue(message("busy", "agent:main:other"))
        await until(provider.called)
        run_id = await home.enqueue(message("lost"))
        run = await home.lease(str(uuid.uuid4()))
        line = executor_pb.TranscriptAddition(namespace=NAMESPACE, entries=[_line(run_id)])
        await home.transcripts.AppendTranscripts(
            executor_pb.AppendTranscriptsRequest(additions=[line])
        )
        completion = pb.Completion(
            run_id=run_id, epoch=run.epoch, outcome="failed", result=run_pb2.RunResult(reason="X")
        )
        await home.queue.CompleteRuns(pb.CompleteRunsRequest(completions=[completion]))
        await home.row("SELECT 1 FROM executor.undelivered_run WHERE run_id = $1", run_id)
        assert [(each.text, each.undelivered) for each in await home.said()] == [("lost", True)]
        gate.set()
        await home.ended(busy)
        await home.ended(await home.enqueue(message("after")))
    assert [each["content"] for each in provider.calls[-1].messages][1:] == ["after"]


async def test_a_chat_that_streams_is_shown_the_start_and_the_answer_so_far(
    home: House, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(answer="one two", hold=gate, hold_after=1)]
    shown = []
    async with home.up.host.bus.tail([topics.RUN_PROGRESS]) as records:
        run_id = await home.enqueue(message("hello"))
        async for record in records:
            shown.append(message_pb2.RunProgress.FromString(record.value))
            if shown[-1].kind == message_pb2.PROGRESS_KIND_PARTIAL:
                break
    gate.set()
    assert (await home.ended(run_id))["result"]["text"] == "one two"
    assert [each.kind for each in shown] == [
        message_pb2.PROGRESS_KIND_STARTED,
        message_pb2.PROGRESS_KIND_PARTIAL,
    ]
    assert [each.text for each in shown] == ["", "one"]
    assert {(each.run_id, each.event_id) for each in shown} == {(run_id, "event-hello")}
    assert shown[0].ordinal < shown[1].ordinal


def _line(run_id: int) -> transcript_pb2.TranscriptEntry:
    return transcript_pb2.TranscriptEntry(
        session_key=KEY, session_id="s1", run_id=run_id, step="act", role="user", text="lost"
    )
