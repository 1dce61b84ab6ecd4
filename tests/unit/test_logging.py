"""Logs: what a line holds, and what never stands in one."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from fased.telemetry import logging as telemetry_logging
from fased.telemetry.logging import REDACTED


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; the process's logging is as before after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    written = io.StringIO()
    telemetry_logging.configure("router", stream=written)
    yield written
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def line(stream: io.StringIO) -> dict[str, object]:
    (text,) = stream.getvalue().splitlines()
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_is_one_json_object_with_time_level_service_and_values(
    stream: io.StringIO,
) -> None:
    structlog.get_logger("fased.test").info("run_finished", outcome="succeeded", steps=3)
    found = line(stream)
    assert str(found.pop("timestamp")).endswith("Z")
    assert found == {
        "event": "run_finished",
        "level": "info",
        "logger": "fased.test",
        "service": "router",
        "outcome": "succeeded",
        "steps": 3,
    }


def test_a_librarys_line_has_the_same_shape(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("retrying %s", "https://user:hunter22@host/x")
    found = line(stream)
    assert (found["logger"], found["level"], found["service"]) == (
        "some.library",
        "warning",
        "router",
    )
    assert found["event"] == f"retrying https://{REDACTED}@host/x"


def test_levels_below_the_chosen_one_are_left_out(stream: io.StringIO) -> None:
    structlog.get_logger().debug("too_fine")
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    assert stream.getvalue() == ""


def test_context_and_trace_stand_in_every_line_inside_them(stream: io.StringIO) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    with (
        structlog.contextvars.bound_contextvars(request_id="r-1"),
        provider.get_tracer("test").start_as_current_span("span") as span,
    ):
        structlog.get_logger().info("happened")
    found = line(stream)
    assert found["request_id"] == "r-1"
    assert found["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert found["span_id"] == f"{span.get_span_context().span_id:016x}"


@pytest.mark.parametrize(
    "key",
    [
        *("token", "bot_token", "api_key", "apiKey", "X-Api-Key", "private_key", "password"),
        *("Authorization", "client_secret", "cookie", "set-cookie", "credentials", "dsn"),
    ],
)
def test_a_value_under_a_secret_sounding_key_is_blacked_out(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("happened", outer=[{key: "canary-value"}], **{key: "canary-value"})
    assert "canary-value" not in stream.getvalue()


@pytest.mark.parametrize("key", ["tokens_used", "keyboard", "token_count", "session_key", "key"])
def test_a_value_under_a_harmless_key_stays(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("happened", **{key: "value-that-stays"})
    assert line(stream)[key] == "value-that-stays"


SECRETS = [
    "sk-proj-abcdefghijklmnopqrstuv0123",
    "sk-ant-api03-abcdefghijklmnop",
    "xoxb-123456789012-abcdefghijkl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw-_",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_text_of_a_secrets_shape_is_blacked_out_wherever_it_stands(
    stream: io.StringIO, secret: str
) -> None:
    try:
        raise ValueError(f"refused by https://host/{secret}/path")
    except ValueError:
        structlog.get_logger().exception("call_failed", note=f"with ({secret})")
    assert secret not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://fased:pa:ss@db:5432/x", f"postgresql://{REDACTED}@db:5432/x"),
        ("https://host/path?q=1", "https://host/path?q=1"),
        (f"GET https://host/bot{SECRETS[-1]}/getMe", f"GET https://host/bot{REDACTED}/getMe"),
        ("task-with-a-long-name", "task-with-a-long-name"),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {REDACTED}"),
        ("GET /?token=abc&x=1", f"GET /?token={REDACTED}&x=1"),
        ("namespaces/a/tasks/b at 12:30", "namespaces/a/tasks/b at 12:30"),
    ],
)
def test_only_the_secret_part_of_a_text_goes(text: str, expected: str) -> None:
    assert telemetry_logging.redact_text(text) == expected


@given(st.text(), st.sampled_from(SECRETS), st.text())
def test_redaction_is_idempotent(before: str, secret: str, after: str) -> None:
    once = telemetry_logging.redact_text(f"{before} {secret} {after}")
    assert telemetry_logging.redact_text(once) == once


def test_a_set_up_for_a_terminal_is_no_json(stream: io.StringIO) -> None:
    written = io.StringIO()
    telemetry_logging.configure("up", console=True, stream=written)
    structlog.get_logger().info("started", port=80)
    assert "started" in written.getvalue()
    assert not written.getvalue().startswith("{")
    assert stream.getvalue() == ""
