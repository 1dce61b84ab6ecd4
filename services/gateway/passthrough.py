"""The public gRPC port: authenticates, and passes the public services through unchanged.

Decides who calls and which methods are public (those whose role is not SERVICE). Bytes are not
read: the owning service checks role and namespace, and its status comes back as it was.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Never

import grpc
from google.protobuf import descriptor_pool
from opentelemetry import trace

from fased.api.channels.v1 import channels_service_pb2
from fased.api.executor.v1 import executor_service_pb2
from fased.api.policy.v1 import policy_service_pb2
from fased.api.router.v1 import router_service_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2
from fased.core.access import Role
from fased.core.errors import FasedError, PermissionDenied
from fased.rpc import access, status
from fased.rpc.client import MAX_MESSAGE_BYTES
from fased.rpc.interceptors import AUTHORIZATION, actor_metadata
from fased.telemetry import tracing
from services.gateway.callers import authenticate, bearer
from services.gateway.services import Services

DEFAULT_TIMEOUT_S = 60.0
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)
# What is served, by package; naming the modules also loads their descriptors.
_OWNERS = {
    module.DESCRIPTOR.package: name
    for name, module in (
        ("channels", channels_service_pb2),
        ("executor", executor_service_pb2),
        ("policy", policy_service_pb2),
        ("router", router_service_pb2),
        ("scheduler", scheduler_service_pb2),
    )
}


class PassThrough(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Every method of every public service, as bytes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """A handler that forwards; None, which is UNIMPLEMENTED, for a method nobody has."""
        method = handler_call_details.method
        owner = _OWNERS.get(method.strip("/").rpartition("/")[0].rpartition(".")[0])
        streams = _response_streams(method)
        if owner is None or streams is None:
            return None
        channel = self._services.by_name[owner]
        if streams:
            return grpc.unary_stream_rpc_method_handler(self._stream(channel, method))
        return grpc.unary_unary_rpc_method_handler(self._unary(channel, method))

    def _unary(self, channel: grpc.aio.Channel, method: str) -> Any:
        forward: Any = channel.unary_unary(method, None, None)

        async def call(request: bytes, context: Any) -> bytes:
            try:
                with _span(method, context):
                    metadata = await self._actor(method, context)
                    timeout_s = context.time_remaining() or DEFAULT_TIMEOUT_S
                    answer: bytes = await forward(request, timeout=timeout_s, metadata=metadata)
                    return answer
            except FasedError as exc:
                error = exc
            return await _abort(context, error)

        return call

    def _stream(self, channel: grpc.aio.Channel, method: str) -> Any:
        forward: Any = channel.unary_stream(method, None, None)

        async def call(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                metadata = await self._actor(method, context)
                timeout_s = context.time_remaining()
                answers = forward(request, timeout=timeout_s, metadata=metadata)
                async with aclosing(answers) as open_answers:
                    async for answer in open_answers:
                        yield answer
                return
            except FasedError as exc:
                error = exc
            await _abort(context, error)

        return call

    async def _actor(self, method: str, context: Any) -> list[tuple[str, str]]:
        given = dict(context.invocation_metadata() or ())
        caller = await authenticate(self._services, bearer(str(given.get(AUTHORIZATION, ""))))
        if access.required_role(method) in (None, Role.SERVICE):
            raise PermissionDenied(f"{method} is closed", reason="METHOD_CLOSED")
        return actor_metadata(caller)


def new_server(services: Services) -> grpc.aio.Server:
    """A server of the public port, not yet listening."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((PassThrough(services),))
    return server


def _response_streams(method: str) -> bool | None:
    service_name, _, method_name = method.strip("/").partition("/")
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
        return bool(service.methods_by_name[method_name].server_streaming)
    except KeyError:
        return None


def _span(method: str, context: Any) -> Any:
    parent = tracing.extract_metadata(context.invocation_metadata() or ())
    name = method.removeprefix("/fased.api.")
    return tracing.tracer().start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER)


async def _abort(context: Any, error: FasedError) -> Never:
    """End the call as the owning service did, else with our own error's status."""
    answered = error.__cause__
    if isinstance(answered, grpc.aio.AioRpcError):
        trailing: Any = answered.trailing_metadata() or ()
        details = tuple(each for each in trailing if each[0] == status.STATUS_METADATA)
        await context.abort(answered.code(), answered.details() or "", details)
    own = ((status.STATUS_METADATA, status.details_of(error)),)
    await context.abort(status.code_of(error), error.message, own)
    raise AssertionError("abort raises")
