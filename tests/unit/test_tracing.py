"""Traces: their context through headers and metadata, and what a consumed record's span says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fased.telemetry import metrics, tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that ended, as an exporter gets them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_context_survives_headers() -> None:
    with tracing.continued({"traceparent": PARENT}):
        assert tracing.inject({"ce-id": "1"}) == {"ce-id": "1", "traceparent": PARENT}
    assert tracing.inject({}) == {}


def test_context_survives_grpc_metadata() -> None:
    with tracing.continued({"traceparent": PARENT}):
        metadata = tracing.inject_metadata([("x-request", "1"), ("blob-bin", b"\x00")])
    assert ("x-request", "1") in metadata
    found = trace.get_current_span(tracing.extract_metadata(metadata)).get_span_context()
    assert found.trace_id == TRACE_ID


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "x"]), st.text()))
def test_headers_of_any_kind_never_raise(headers: dict[str, str]) -> None:
    found = trace.get_current_span(tracing.extract(headers)).get_span_context()
    assert not found.is_valid or headers["traceparent"]


def test_one_records_span_continues_its_trace(spans: InMemorySpanExporter) -> None:
    with tracing.consumed("consume topic", [{"traceparent": PARENT, "ce-id": "1"}]) as headers:
        (inside,) = headers
        assert tracing.inject({"ce-id": "1"}) == inside
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.kind) == (TRACE_ID, trace.SpanKind.CONSUMER)
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert inside["traceparent"] == parent_of(span.context)


def test_each_of_several_records_has_a_span_in_its_own_trace_and_they_share_a_batch(
    spans: InMemorySpanExporter,
) -> None:
    other = PARENT.replace("0af7", "1bf7")
    given = [{"traceparent": PARENT}, {}, {"traceparent": other}]
    with tracing.consumed("consume topic", given) as headers:
        pass
    (batch, *own) = spans.get_finished_spans()
    assert batch.name == "consume topic batch"
    assert batch.parent is None
    assert [link.context.span_id for link in batch.links] == [context(each).span_id for each in own]
    assert [each["traceparent"] for each in headers] == [parent_of(context(each)) for each in own]
    assert [context(each).trace_id >> 112 for each in (own[0], own[2])] == [0x0AF7, 0x1BF7]


def test_an_event_s_span_begins_when_it_was_written_and_leads_on_from_its_trace(
    spans: InMemorySpanExporter,
) -> None:
    written_at = datetime.now(UTC) - timedelta(seconds=5)
    with tracing.published([("topic", {"traceparent": PARENT, "a": "b"}, written_at)]) as headers:
        pass
    (span,) = spans.get_finished_spans()
    assert headers == [{"traceparent": parent_of(context(span)), "a": "b"}]
    assert context(span).trace_id == TRACE_ID
    assert span.start_time == pytest.approx(written_at.timestamp() * 1e9, abs=1000)


def test_spans_that_nobody_exports_still_carry_context_and_are_not_sampled() -> None:
    silent = tracing.provider("router", version="", exporter=None)
    with silent.get_tracer("test").start_as_current_span("work") as span:
        assert not span.is_recording()
        carried = trace.get_current_span(tracing.extract(tracing.inject({}))).get_span_context()
        assert carried.is_valid
        assert not carried.trace_flags.sampled


def context(span: ReadableSpan) -> trace.SpanContext:
    found: trace.SpanContext | None = span.context
    assert found is not None
    return found


def parent_of(span_context: trace.SpanContext) -> str:
    """How headers name a span."""
    flags = f"{span_context.trace_flags:02x}"
    return f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{flags}"


def test_a_provider_names_the_service_and_exports_what_ended() -> None:
    exporter = InMemorySpanExporter()
    provider = tracing.provider("router", version="1.2.3", exporter=exporter)
    with provider.get_tracer("test").start_as_current_span("work"):
        pass
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "router"
    assert span.resource.attributes["service.version"] == "1.2.3"


def test_metrics_have_bounded_labels_and_our_prefix() -> None:
    found = [each for each in vars(metrics).values() if hasattr(each, "_labelnames")]
    assert found
    for metric in found:
        assert metric._name.startswith("fased_")
        assert not {"session", "user", "run", "key", "id"} & set(metric._labelnames)
