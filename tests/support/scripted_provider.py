"""An HTTP server that speaks OpenAI's chat completions by rules, and counts its calls.

Stands for the outside world: slow, failing and hanging up where a test says so.
"""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOLD_LIMIT_S = 30.0


@dataclass(slots=True)
class Rule:
    """What a call whose last message matches `match` gets; the first rule that matches counts.

    `times` bounds how often it applies (0: always). `hold` keeps the answer back until it is set,
    before the first word or after `hold_after` words. `close_after` words the connection breaks.
    """

    match: str = ""
    answer: str = "You said: {text}"
    status: int = 200
    error: Mapping[str, Any] | str = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 0
    hold: threading.Event | None = None
    hold_after: int = 0
    close_after: int | None = None
    finish: str | None = "stop"
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was received; `key` is the text of its last message."""

    key: str
    model: str
    messages: list[dict[str, str]]
    authorization: str


class ScriptedProvider:
    """The server's script and its memory."""

    def __init__(self, address: str, port: int) -> None:
        self.base_url = f"http://{address}:{port}/v1"
        self.rules: list[Rule] = []
        self.calls: list[Call] = []
        self.models: list[str] = []
        self.hung_up = threading.Event()
        self.called = threading.Event()
        self._used: Counter[int] = Counter()
        self._lock = threading.Lock()

    def count(self, key: str) -> int:
        """How many calls had this last message."""
        with self._lock:
            return sum(1 for call in self.calls if call.key == key)

    def take(self, call: Call) -> Rule:
        """Remember a call and give the rule that answers it."""
        with self._lock:
            self.calls.append(call)
            self.called.set()
            for at, rule in enumerate(self.rules):
                if re.search(rule.match, call.key) and not 0 < rule.times <= self._used[at]:
                    self._used[at] += 1
                    return rule
        return Rule()


@contextmanager
def scripted_provider(address: str = "127.0.0.1", port: int = 0) -> Iterator[ScriptedProvider]:
    """The server, on a free port unless one is given; stopped after the block."""
    server = _Server((address, port), _Speaker)
    server.provider = ScriptedProvider(address, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.provider
    finally:
        for rule in server.provider.rules:
            if rule.hold is not None:
                rule.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    provider: ScriptedProvider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""
        self.provider.hung_up.set()


class _Speaker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Ollama's list of models."""
        models = [{"name": name} for name in self.server.provider.models]
        self._answer(200, {"models": models}, {})

    def do_POST(self) -> None:
        """A chat completion."""
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = request["messages"][-1]["content"]
        authorization = self.headers.get("authorization", "")
        rule = self.server.provider.take(
            Call(key, request["model"], request["messages"], authorization)
        )
        if rule.hold is not None and not rule.hold_after:
            rule.hold.wait(HOLD_LIMIT_S)
        if rule.status != 200:
            body = {"error": rule.error} if isinstance(rule.error, Mapping) else rule.error
            self._answer(rule.status, body, rule.headers)
        elif rule.raw is not None:
            self._stream_head()
            self._chunk(rule.raw)
            self._chunk(b"")
        else:
            self._stream(rule, key)

    def _stream(self, rule: Rule, key: str) -> None:
        self._stream_head()
        for at, word in enumerate(re.findall(r"\s*\S+", rule.answer.replace("{text}", key))):
            if rule.close_after == at:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if rule.hold is not None and rule.hold_after == at:
                rule.hold.wait(HOLD_LIMIT_S)
            self._event({"choices": [{"index": 0, "delta": {"content": word}}]})
        if rule.finish is not None:
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": rule.finish}]})
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            self._event({"choices": [], "usage": usage})
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _stream_head(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _event(self, fields: Mapping[str, Any]) -> None:
        event = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        self._chunk(b"data: " + json.dumps({**event, **fields}).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _answer(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
