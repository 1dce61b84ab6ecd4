"""One trace tells what became of one message, from the request that brought it to its delivery."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from tests.support.chats import open_chat
from tests.support.load import open_load, under_load
from tests.support.otlp import Collector, SeenSpan, collecting
from tests.support.shapes import SHAPES, Shape, running_shape
from tests.support.telegram_api import TelegramApi, telegram_api
from tests.support.telegram_people import HOLD, POLL, WEBHOOK, open_people, token_name

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

POST = "POST /api/v1/namespaces/{namespace}/conversations/{conversation}/messages"
RECEIVE = "receive telegram"
# What every message passes, each begun after the one before, with the service that does it.
_WALK = (
    ("channels", "publish fased.inbound.v1"),
    ("router", "consume fased.inbound.v1"),
    ("executor", "executor.run"),
    ("executor", "executor.model"),
    ("executor", "executor.complete"),
    ("scheduler", "publish fased.outbound.v1"),
    ("channels", "consume fased.outbound.v1"),
)
# And what is before and after, by where it comes from.
WALKS = {
    POST: (("gateway", POST), ("channels", "channels.v1.ConversationService/PostMessage"), *_WALK),
    RECEIVE: (("channels", RECEIVE), *_WALK, ("channels", "deliver")),
}
TOKEN = "7000031:AA-traced"
# What a message that comes alone passes as well; the calls for several are in one of their traces.
CALLS = (
    ("scheduler", "scheduler.v1.QueueService/EnqueueRuns"),
    ("policy", "policy.v1.PolicyService/DecideRuns"),
    ("scheduler", "scheduler.v1.QueueService/PutCheckpoints"),
    ("executor", "executor.v1.TranscriptService/AppendTranscripts"),
    ("scheduler", "scheduler.v1.QueueService/CompleteRuns"),
)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[TelegramApi]:
    async with telegram_api() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SHAPES)
async def shape(
    request: pytest.FixtureRequest, collector: Collector, api: TelegramApi
) -> AsyncIterator[Shape]:
    api.add_bot(TOKEN)
    async with running_shape(
        request.param,
        FASED_SCRIPTED_MODEL="echo",
        FASED_OTLP_ENDPOINT=collector.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        **{token_name(TOKEN): TOKEN},
    ) as running:
        yield running


async def test_the_trace_of_a_message_leads_to_its_delivery_without_a_gap(
    shape: Shape, collector: Collector, request: pytest.FixtureRequest
) -> None:
    known = {span.trace_id for span in collector.spans()}
    chat = await open_chat(shape, "traced")
    assert await chat.ask("post", "hello") == "You said: hello"
    (spans,) = await whole_traces(collector, known, 1, POST)
    check_walk(spans, POST, is_cluster="cluster" in request.node.name)
    names = {span.name for span in spans}
    assert names >= {name for _, name in CALLS}
    assert not any(span.has_failed for span in spans)


async def test_messages_that_are_worked_on_together_keep_traces_of_their_own(
    shape: Shape, collector: Collector, request: pytest.FixtureRequest
) -> None:
    known = {span.trace_id for span in collector.spans()}
    load = await open_load(shape, "together", chats=10)
    async with under_load(load, at_least=3, pause_s=0):
        pass
    for spans in await whole_traces(collector, known, load.messages, POST):
        check_walk(spans, POST, is_cluster="cluster" in request.node.name)


@pytest.mark.parametrize("mode", [POLL, WEBHOOK])
async def test_the_trace_of_a_message_to_a_bot_leads_from_its_update_to_its_sending(
    shape: Shape,
    collector: Collector,
    api: TelegramApi,
    request: pytest.FixtureRequest,
    mode: str,
) -> None:
    known = {span.trace_id for span in collector.spans()}
    people = await open_people(shape, api, TOKEN, on_unknown=HOLD, mode=mode, chats=1)
    await people.write(1, pause_s=0)
    (spans,) = await whole_traces(collector, known, 1, RECEIVE)
    check_walk(spans, RECEIVE, is_cluster="cluster" in request.node.name)
    assert not any(span.has_failed for span in spans)
    removed = await asyncio.to_thread(
        shape.fased, "channels", "remove", f"telegram:{people.account_id}"
    )
    assert removed.returncode == 0, removed.stderr


def check_walk(spans: Sequence[SeenSpan], root: str, *, is_cluster: bool) -> None:
    """All stages are there, in order, once each, and each but the first has its parent here."""
    ids = {span.span_id for span in spans}
    orphans = [span for span in spans if span.parent_id not in ids]
    assert [(span.name, span.parent_id) for span in orphans] == [(root, "")]
    walk = WALKS[root]
    stages = [span for _, name in walk for span in spans if span.name == name]
    assert [span.name for span in stages] == [name for _, name in walk]
    if is_cluster:
        assert [span.service for span in stages] == [service for service, _ in walk]
    begun = [span.began_at_ns for span in stages]
    assert begun == sorted(begun)
    # The receipt goes back to the run: one event, which the scheduler and the executor read.
    [receipt] = children(spans, stages[-1], "publish fased.run-events.v1")
    assert len(children(spans, receipt, "consume fased.run-events.v1")) == 2


def children(spans: Sequence[SeenSpan], parent: SeenSpan, name: str) -> list[SeenSpan]:
    return [span for span in spans if span.parent_id == parent.span_id and span.name == name]


async def whole_traces(
    collector: Collector, known: set[str], count: int, root: str
) -> list[list[SeenSpan]]:
    """The traces of messages that came to their end since, as many as there must be."""
    async with asyncio.timeout(60):
        while True:
            ids = {s.trace_id for s in collector.spans() if s.name == root} - known
            traces = [collector.trace(each) for each in ids]
            if len(traces) == count and all(is_whole(each) for each in traces):
                return traces
            await asyncio.sleep(0.1)


def is_whole(spans: Sequence[SeenSpan]) -> bool:
    """Both branches came to their end: both services read that the run ended and was delivered."""
    return [span.name for span in spans].count("consume fased.run-events.v1") >= 4
