"""The policy service: Agents, decisions and tokens. Wires only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.process import Host, Service
from services.policy.agents import AgentServicer
from services.policy.decisions import PolicyServicer
from services.policy.first import make_first
from services.policy.model_providers import ModelProviderServicer
from services.policy.settings import FirstSettings
from services.policy.tokens import TokenServicer


@asynccontextmanager
async def open_service(host: Host, settings: FirstSettings | None = None) -> AsyncIterator[Service]:
    """The service, ready to be registered; it has no loops. `settings` say what it makes first."""
    if settings is not None:
        await make_first(host.database.engine, settings)

    def register(server: grpc.aio.Server) -> None:
        policy_service_pb2_grpc.add_AgentServiceServicer_to_server(
            AgentServicer(host.database), server
        )
        policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(
            PolicyServicer(host.database), server
        )
        policy_service_pb2_grpc.add_ModelProviderServiceServicer_to_server(
            ModelProviderServicer(host.database), server
        )
        policy_service_pb2_grpc.add_TokenServiceServicer_to_server(
            TokenServicer(host.database), server
        )

    yield Service("policy", register)
