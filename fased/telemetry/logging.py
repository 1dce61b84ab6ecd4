"""Logs: one JSON object a line on standard error, ours and the libraries' alike.

Decides format, levels and what is blacked out. Secrets are kept out at their source (`SecretStr`,
references); blacking out by key and by shape is the second fence.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from fased.telemetry.repeats import Repeats

REDACTED = "[redacted]"
_SECRET_KEY = re.compile(
    r"(?:^|[_\-.])(?:token|secret|password|passwd|authorization|cookie|credential|dsn|"
    r"api[_\-]?key|private[_\-]?key)s?$",
    re.IGNORECASE,
)
_SECRET_SHAPES = (
    # user:password@ of any URL
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), REDACTED),
    (re.compile(r"\b(Bearer|Basic)\s+[\w\-.~+/]+=*", re.IGNORECASE), rf"\1 {REDACTED}"),
    # OpenAI, Anthropic, Slack, GitHub; then a Telegram bot's, which follows a letter in its URL
    (re.compile(r"\b(?:sk|xox[abprs]|gh[pousr])[-_][\w\-]{10,}"), REDACTED),
    (re.compile(r"(?<!\d)\d{6,12}:[A-Za-z0-9_\-]{30,}"), REDACTED),
    (re.compile(r"(?<=[?&])((?:access_|api_)?(?:token|key)|secret)=[^&\s\"']+"), rf"\1={REDACTED}"),
)
# Libraries that tell every request or statement at the level we log at, or at debug every step;
# those of HTTP with its address, which holds the token of a Telegram bot.
_QUIET = (
    *("httpx", "httpcore", "httpx2", "httpcore2"),
    *("openai", "uvicorn.access", "sqlalchemy.engine", "asyncio", "kopf"),
    *("grpc", "markdown_it", "aiokafka"),
)

# Tells each try to connect again as a warning with its traceback; whoever asks the pool is told.
_ALARMING = ("asyncpg.pool",)
# Libraries that tell each try, several times a second, while a server is away.
_REPEATING = ("aiokafka",)
_REPEAT_PERIOD_S = 30.0


def configure(
    service: str, *, level: str = "INFO", console: bool = False, stream: TextIO | None = None
) -> None:
    """Set logging up for the process: `console` is for a person's terminal, JSON for the rest.

    Unset `stream` is standard error. Calling it again replaces the earlier set-up.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Repeats(_REPEATING, period_s=_REPEAT_PERIOD_S))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _ALARMING:
        logging.getLogger(name).setLevel(logging.ERROR)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Black out values under secret-sounding keys and text of a secret's shape, at any depth."""
    return _redact_mapping(event)


def _redact_mapping(values: Mapping[str, object]) -> MutableMapping[str, object]:
    return {
        key: REDACTED if _SECRET_KEY.search(str(key)) and value else _redact_value(value)
        for key, value in values.items()
    }


def _redact_value(value: object) -> object:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return _redact_mapping(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(each) for each in value]
    return value


def redact_text(text: str) -> str:
    """The text with whatever has a secret's shape blacked out."""
    for shape, replacement in _SECRET_SHAPES:
        text = shape.sub(replacement, text)
    return text


def _add_service(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
        event["span_id"] = trace.format_span_id(span.span_id)
    return event
