"""A collector of traces on loopback: takes OTLP over HTTP, as protobuf. Decides nothing."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """A span as it was exported; ids in hexadecimal, `parent_id` empty at a root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began_at_ns: int
    ended_at_ns: int
    has_failed: bool
    linked_trace_ids: frozenset[str]


class Collector:
    """What was exported so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []

    def spans(self) -> list[SeenSpan]:
        """All spans, in the order they came."""
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """The spans of one trace, by their begin."""
        found = [span for span in self.spans() if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.began_at_ns)

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        """Keep what one export holds."""
        seen = [
            _seen(_service_of(group), span)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += seen


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector at `endpoint`, as `FASED_OTLP_ENDPOINT` wants it."""
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces"
            if known:
                message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                collector.take(message)
            answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of each request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, name="otlp")
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _service_of(group: trace_pb2.ResourceSpans) -> str:
    attributes = {each.key: each.value.string_value for each in group.resource.attributes}
    return attributes["service.name"]


def _seen(service: str, span: trace_pb2.Span) -> SeenSpan:
    return SeenSpan(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        frozenset(link.trace_id.hex() for link in span.links),
    )
