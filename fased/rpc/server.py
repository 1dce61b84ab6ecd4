"""A gRPC server with our interceptor and health. Decides options only."""

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from fased.rpc.client import MAX_MESSAGE_BYTES
from fased.rpc.interceptors import ServerInterceptor, Translate

OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


def new_server(service_token: str, translate: Translate) -> tuple[grpc.aio.Server, HealthServicer]:
    """A server that guards every method, with the standard health service registered."""
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(service_token, translate)], options=OPTIONS
    )
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server, servicer
