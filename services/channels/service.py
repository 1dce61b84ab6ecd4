"""The channels service: accounts, deliveries and WebChat. Wires only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from fased.api.channels.v1 import channels_service_pb2_grpc
from fased.bus.relay import run_relay
from fased.process import Host, Service
from services.channels.accounts import AccountServicer
from services.channels.adapters.webchat import WebChat
from services.channels.conversations import ConversationServicer
from services.channels.deliveries import DeliveryServicer
from services.channels.outbound import SCHEMA, Outbound
from services.channels.progress import Progress
from services.channels.watchers import Watchers


@asynccontextmanager
async def open_service(host: Host) -> AsyncIterator[Service]:
    """The service, ready to be registered; its loops deliver, follow progress and relay."""
    webchat = WebChat()
    watchers = Watchers(host.database, host.hints)
    outbound = Outbound(host, {webchat.channel: webchat})
    progress = Progress(host, watchers)

    def register(server: grpc.aio.Server) -> None:
        channels_service_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountServicer(host.database), server
        )
        channels_service_pb2_grpc.add_DeliveryServiceServicer_to_server(
            DeliveryServicer(host.database), server
        )
        channels_service_pb2_grpc.add_ConversationServiceServicer_to_server(
            ConversationServicer(host, watchers), server
        )

    async def poll() -> None:
        await watchers.poll_until(host.stop)

    async def relay() -> None:
        await run_relay(host.database.queue, host.bus, SCHEMA, host.hints, stop=host.stop)

    yield Service("channels", register, (outbound.run, progress.run, poll, relay))
