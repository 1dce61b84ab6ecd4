"""The router service: inbound events in, runs and commands' effects out. Wires only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import structlog

from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2_grpc
from fased.bus import topics
from fased.bus.consumer import run_consumer
from fased.bus.relay import run_relay
from fased.process import Host, Service, wait_or_stop
from fased.store import transient
from fased.store.router import effects, group_history, pairings
from services.router.gate_policies import GateServicer
from services.router.inbound import Inbound
from services.router.pairing import PairingServicer
from services.router.routes import RouteServicer
from services.router.sessions import SessionServicer
from services.router.tables import RoutingTables

NAME = "router"
PRUNE_PERIOD_S = 600.0
# Longer than the bus keeps an event, or a late redelivery would carry its command out again.
KEPT = timedelta(days=8)


logger = structlog.get_logger(__name__)


@asynccontextmanager
async def open_service(host: Host) -> AsyncIterator[Service]:
    """The service, with its consumer of inbound events and its relay."""
    agents = policy_service_pb2_grpc.AgentServiceStub(host.client("policy"))
    tables = RoutingTables(host.database.engine, agents)
    inbound = Inbound(host, tables)

    def register(server: grpc.aio.Server) -> None:
        router_service_pb2_grpc.add_RouteServiceServicer_to_server(
            RouteServicer(host.database, tables), server
        )
        router_service_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionServicer(host.database, tables), server
        )
        router_service_pb2_grpc.add_PairingServiceServicer_to_server(
            PairingServicer(host.database), server
        )
        router_service_pb2_grpc.add_GateServiceServicer_to_server(
            GateServicer(host.database), server
        )

    async def consume() -> None:
        await run_consumer(host.bus, NAME, [topics.INBOUND], inbound, stop=host.stop)

    async def relay() -> None:
        await run_relay(host.database.queue, host.bus, NAME, host.hints, stop=host.stop)

    async def prune() -> None:
        while not await wait_or_stop(host.stop, PRUNE_PERIOD_S):
            try:
                async with host.database.queue.acquire() as conn:
                    await effects.prune(conn, KEPT)
                    await group_history.prune(conn, KEPT)
                    await pairings.prune(conn)
            except transient.DRIVER_ERRORS as exc:
                logger.warning("router_prune_failed", error=type(exc).__name__)

    yield Service(NAME, register, (consume, relay, prune))
