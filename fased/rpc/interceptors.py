"""What every call to a service passes: who calls, whether it may, its trace, and its errors.

Decides nothing itself: a caller's right is `core/access.py`, the codes are `status.py`.
"""

import hmac
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Never

import grpc
import structlog
from opentelemetry.trace import Span, SpanKind, use_span

from fased.core.access import Caller, Role, check_call
from fased.core.errors import FasedError, PermissionDenied, Unauthenticated
from fased.rpc import access, status
from fased.telemetry import metrics, tracing

AUTHORIZATION = "authorization"
SUBJECT = "fased-actor"
ROLE = "fased-actor-role"
NAMESPACES = "fased-actor-namespaces"

logger = structlog.get_logger()

_caller: ContextVar[Caller] = ContextVar("fased_caller")

Translate = Callable[[Exception], FasedError | None]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]]


class ServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Guards every method of a server: deny by default, and one error table.

    `service_token` proves a service of Fased; a person's call comes from the gateway, which
    proves itself with it and names the actor. `translate` turns a library's failure into ours.
    """

    def __init__(self, service_token: str, translate: Translate) -> None:
        self._token = service_token
        self._translate = translate

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """The method's handler, guarded."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if access.is_open(method) or not _is_known(handler):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._guard_stream(method, handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._guard_unary(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, method: str, inner: Any) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            began_at_s = time.perf_counter()
            try:
                with use_span(self._checked_span(method, request, context), end_on_exit=True):
                    return await inner(request, context)
            except Exception as exc:
                error = self._ours(method, exc)
            finally:
                took_s = time.perf_counter() - began_at_s
                metrics.rpc_seconds.labels(_short(method)).observe(took_s)
            return await _abort(method, context, error)

        return guarded

    def _guard_stream(self, method: str, inner: Any) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            # Never the current span: a stream that its reader leaves is closed in another context.
            try:
                span = self._checked_span(method, request, context)
                try:
                    async with aclosing(inner(request, context)) as responses:
                        async for response in responses:
                            yield response
                finally:
                    span.end()
                return
            except Exception as exc:
                error = self._ours(method, exc)
            await _abort(method, context, error)

        return guarded

    def _checked_span(self, method: str, request: Any, context: Any) -> Span:
        """The call's span, once its caller may make it; raises what keeps it from that."""
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        caller = self._caller(metadata)
        needed = access.required_role(method)
        if needed is None:
            raise PermissionDenied(f"{method} is closed", reason="METHOD_CLOSED")
        check_call(caller, needed, access.namespace_of(request), method.rpartition("/")[2])
        _caller.set(caller)
        parent = tracing.extract_metadata(metadata.items())
        return tracing.tracer().start_span(_short(method), context=parent, kind=SpanKind.SERVER)

    def _caller(self, metadata: Mapping[str, str | bytes]) -> Caller:
        given = str(metadata.get(AUTHORIZATION, ""))
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Unauthenticated("a valid token is needed", reason="TOKEN_INVALID")
        if SUBJECT not in metadata:
            return Caller("service", Role.SERVICE, ("*",))
        return Caller(
            str(metadata[SUBJECT]),
            Role(int(metadata[ROLE])),
            tuple(str(metadata[NAMESPACES]).split(",")),
        )

    def _ours(self, method: str, exc: Exception) -> FasedError:
        if isinstance(exc, FasedError):
            return exc
        if (translated := self._translate(exc)) is not None:
            logger.warning("call_failed", method=method, reason=translated.reason, error=repr(exc))
            return translated
        error_id = uuid.uuid4().hex
        logger.error("call_crashed", method=method, error_id=error_id, exc_info=exc)
        return FasedError(f"internal error {error_id}", reason="INTERNAL")


def _is_known(handler: object | None) -> bool:
    return handler is not None


def current_caller() -> Caller:
    """Who made the call under way; for who may grant what, never for business data."""
    return _caller.get()


def actor_metadata(caller: Caller) -> list[tuple[str, str]]:
    """Metadata by which the gateway names the actor it calls for."""
    return [
        (SUBJECT, caller.subject),
        (ROLE, str(int(caller.role))),
        (NAMESPACES, ",".join(caller.namespaces)),
    ]


def _short(method: str) -> str:
    return method.removeprefix("/fased.api.")


async def _abort(method: str, context: Any, error: FasedError) -> Never:
    code = grpc.StatusCode.INTERNAL if error.reason == "INTERNAL" else status.code_of(error)
    metrics.rpc_failures.labels(_short(method), code.name).inc()
    await context.abort(code, error.message, ((status.STATUS_METADATA, status.details_of(error)),))
    raise AssertionError("abort raises")
