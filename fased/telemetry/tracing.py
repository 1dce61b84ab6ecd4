"""Traces: their set-up, and their context in headers and in gRPC metadata.

Decides the encoding (W3C trace context) and where spans go; not which spans there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, Span, SpanKind, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util._decorator import _agnosticcontextmanager

Metadata = Sequence[tuple[str, str | bytes]]

_W3C = TraceContextTextMapPropagator()
_SCOPE = "fased"


class _Carrying(Tracer):
    """A tracer whose spans nobody sees: the first of a trace names it, and the others are it."""

    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Span:
        current = trace.get_current_span(context)
        if current.get_span_context().is_valid:
            return trace.NonRecordingSpan(current.get_span_context())
        return self._inner.start_span(name, context, *args, **kwargs)

    @_agnosticcontextmanager
    def start_as_current_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Iterator[Span]:
        with use_span(self.start_span(name, context)) as span:
            yield span


class _CarryingProvider(TracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return _Carrying(super().get_tracer(*args, **kwargs))


def provider(service: str, *, version: str, exporter: SpanExporter | None) -> TracerProvider:
    """A tracer provider for one process; spans go to `exporter`, in batches, from a thread.

    Without one, spans only carry the trace's context, which costs next to nothing. The caller
    installs it and shuts it down.
    """
    if exporter is None:
        return _CarryingProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    made = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": version}),
        shutdown_on_exit=False,
    )
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


def otlp_exporter(endpoint: str) -> SpanExporter:
    """An exporter to an OTLP collector over HTTP; `endpoint` is its base URL."""
    # Imported here: its HTTP client costs every process memory that few of them need.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")


def tracer() -> Tracer:
    """The platform's tracer, of whatever provider the process installed."""
    return _tracer_of(trace.get_tracer_provider())


# Making one takes as long as five spans, and a process has one provider.
@lru_cache(maxsize=2)
def _tracer_of(provider: trace.TracerProvider) -> Tracer:
    return provider.get_tracer(_SCOPE)


def inject(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, with the current trace context added (`traceparent`, `tracestate`)."""
    carrier = dict(headers)
    _W3C.inject(carrier)
    return carrier


def extract(headers: Mapping[str, str]) -> Context:
    """The trace context that headers carry; an empty one when they carry none that is valid."""
    return _W3C.extract(headers, context=Context())


def inject_metadata(metadata: Metadata | None = None) -> list[tuple[str, str | bytes]]:
    """gRPC metadata with the current trace context added."""
    return [*(metadata or ()), *inject({}).items()]


def extract_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Context:
    """The trace context that gRPC metadata carries."""
    return extract({key: value for key, value in metadata if isinstance(value, str)})


@contextmanager
def published(
    events: Sequence[tuple[str, Mapping[str, str], datetime]],
) -> Iterator[list[dict[str, str]]]:
    """Spans around the publishing of events, each in its own trace; gives their headers anew.

    An event is a topic, its headers, and when it was written: its span begins there, so that what
    it waited for shows.
    """
    now = datetime.now(UTC)
    spans = [
        tracer().start_span(
            f"publish {topic}",
            context=extract(headers),
            kind=SpanKind.PRODUCER,
            start_time=_nanoseconds(min(at, now)),
        )
        for topic, headers, at in events
    ]
    try:
        yield [
            _headers_of(span, headers) for span, (_, headers, _) in zip(spans, events, strict=True)
        ]
    finally:
        for span in spans:
            span.end()


@contextmanager
def consumed(name: str, headers: Sequence[Mapping[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Spans around the effect of consumed records; gives the records' headers anew.

    Each record's span continues that record's trace, and its headers then say so. The span of one
    record is current inside the block. For several that is a span of their batch, linked to each
    of theirs; an effect that speaks for one of them uses `continued`.
    """
    spans = [
        tracer().start_span(name, context=extract(each), kind=SpanKind.CONSUMER) for each in headers
    ]
    try:
        renewed = [_headers_of(span, each) for span, each in zip(spans, headers, strict=True)]
        with use_span(spans[0]) if len(spans) == 1 else _batch(name, spans):
            yield renewed
    finally:
        for span in spans:
            span.end()


@contextmanager
def _batch(name: str, spans: Sequence[Span]) -> Iterator[None]:
    links = [Link(span.get_span_context()) for span in spans]
    with tracer().start_as_current_span(
        f"{name} batch", context=Context(), kind=SpanKind.CONSUMER, links=links
    ):
        yield


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Inside the block, the trace that the headers carry is the current one."""
    token = otel_context.attach(extract(headers))
    try:
        yield
    finally:
        otel_context.detach(token)


def _headers_of(span: Span, headers: Mapping[str, str]) -> dict[str, str]:
    carrier = dict(headers)
    _W3C.inject(carrier, context=trace.set_span_in_context(span, Context()))
    return carrier


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
