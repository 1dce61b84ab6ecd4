"""Traces: their context through headers and metadata, and what a consumed record's span says."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
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
    with tracing.consumed("consume topic", [{"traceparent": PARENT}]):
        pass
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.kind) == (TRACE_ID, trace.SpanKind.CONSUMER)
    assert span.parent.span_id == 0xB7AD6B7169203331


def test_the_span_of_several_records_is_linked_to_each_of_their_traces(
    spans: InMemorySpanExporter,
) -> None:
    other = PARENT.replace("0af7", "1bf7")
    with tracing.consumed("consume topic", [{"traceparent": PARENT}, {}, {"traceparent": other}]):
        pass
    (span,) = spans.get_finished_spans()
    assert span.parent is None
    assert [link.context.trace_id >> 112 for link in span.links] == [0x0AF7, 0x1BF7]


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
