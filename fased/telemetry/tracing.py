"""Traces: their set-up, and their context in headers and in gRPC metadata.

Decides the encoding (W3C trace context) and where spans go; not which spans there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Metadata = Sequence[tuple[str, str | bytes]]

_W3C = TraceContextTextMapPropagator()
_SCOPE = "fased"


def provider(service: str, *, version: str, exporter: SpanExporter | None) -> TracerProvider:
    """A tracer provider for one process; spans go to `exporter`, in batches, from a thread.

    Without one, spans only carry context. The caller installs it and shuts it down.
    """
    made = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": version}),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        made.add_span_processor(BatchSpanProcessor(exporter))
    return made


def otlp_exporter(endpoint: str) -> SpanExporter:
    """An exporter to an OTLP collector over HTTP; `endpoint` is its base URL."""
    # Imported here: its HTTP client costs every process memory that few of them need.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")


def tracer() -> Tracer:
    """The platform's tracer, of whatever provider the process installed."""
    return trace.get_tracer(_SCOPE)


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
def consumed(name: str, headers: Sequence[Mapping[str, str]]) -> Iterator[Span]:
    """A span around the effect of consumed records, current inside the block.

    One record's span continues that record's trace; the span of several is linked to each of
    theirs, and an effect that speaks for one of them uses `continued`.
    """
    contexts = [extract(each) for each in headers]
    if len(contexts) == 1:
        parent, links = contexts[0], []
    else:
        spans = (trace.get_current_span(each).get_span_context() for each in contexts)
        parent, links = Context(), [Link(span) for span in spans if span.is_valid]
    with tracer().start_as_current_span(
        name, context=parent, kind=SpanKind.CONSUMER, links=links
    ) as span:
        yield span


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Inside the block, the trace that the headers carry is the current one."""
    token = otel_context.attach(extract(headers))
    try:
        yield
    finally:
        otel_context.detach(token)
