"""Calls to other services. Decides metadata, the default deadline and how errors come back."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import grpc

from fased.rpc import status
from fased.rpc.interceptors import AUTHORIZATION
from fased.telemetry import tracing

DEFAULT_TIMEOUT_S = 10.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A service that comes back is found within seconds, however long it was away.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A pod that was replaced has another address: names are looked up again soon, not after 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Services are called where their address says, whatever proxy a shell has set.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
)

Metadata = Sequence[tuple[str, str]]


def open_client(target: str, token: str) -> tuple[grpc.aio.Channel, "Client"]:
    """A client, and the same as the channel that a generated stub takes."""
    client = Client(target, token)
    return cast(grpc.aio.Channel, client), client


class Client:
    """A channel for generated stubs whose calls carry a token and the current trace, have a
    deadline, and raise our own errors.

    It stands where a `grpc.aio.Channel` does for `XStub(client)`. gRPC's own client interceptors
    would do the same at twice the CPU of a call: they start tasks of their own.
    """

    def __init__(self, target: str, token: str) -> None:
        """`target` is a gRPC address: `unix:/path` or `dns:///host:port`."""
        self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self._authorization = (AUTHORIZATION, f"Bearer {token}")

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close(None)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        """A call with one answer; without a timeout of its own it gets 10 s."""
        inner = self._channel.unary_unary(method, *args, **kwargs)

        async def call(
            request: Any,
            *,
            timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 (gRPC's own word)
            metadata: Metadata = (),
        ) -> Any:
            try:
                return await inner(request, timeout=timeout, metadata=self._metadata(metadata))
            except grpc.aio.AioRpcError as exc:
                raise status.error_from(exc) from exc

        return call

    def unary_stream(
        self, method: str, *args: Any, **kwargs: Any
    ) -> Callable[..., AsyncIterator[Any]]:
        """A call with many answers; it ends with its stream, or when its reader goes."""
        inner = self._channel.unary_stream(method, *args, **kwargs)

        async def call(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 (gRPC's own word)
            metadata: Metadata = (),
        ) -> AsyncIterator[Any]:
            stream = inner(request, timeout=timeout, metadata=self._metadata(metadata))
            try:
                async for response in stream:
                    yield response
            except grpc.aio.AioRpcError as exc:
                raise status.error_from(exc) from exc
            finally:
                stream.cancel()

        return call

    def _metadata(self, extra: Metadata) -> tuple[tuple[str, str], ...]:
        return (*extra, self._authorization, *tracing.inject({}).items())
