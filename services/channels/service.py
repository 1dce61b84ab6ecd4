"""The channels service: accounts, deliveries, WebChat and the platforms. Wires only."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import httpx2

from fased.api.channels.v1 import channels_service_pb2_grpc
from fased.bus.relay import run_relay
from fased.core.accounts import Account
from fased.process import Host, Loop, Service
from fased.secrets import open_secrets
from fased.store.channels import leases
from services.channels import retention, web_server
from services.channels.accounts import AccountServicer
from services.channels.adapters.telegram import Telegram, TelegramConnection
from services.channels.adapters.telegram_bot import Bot
from services.channels.adapters.telegram_webhook import Webhooks
from services.channels.adapters.webchat import WebChat
from services.channels.connections import Connections
from services.channels.conversations import ConversationServicer
from services.channels.deliveries import DeliveryServicer
from services.channels.outbound import SCHEMA, Outbound
from services.channels.progress import Progress
from services.channels.settings import ChannelsSettings
from services.channels.statuses import Statuses
from services.channels.watchers import Watchers

# Polls, sends and probes of all accounts; each waits on its own connection.
MAX_HTTP_CONNECTIONS = 400


@asynccontextmanager
async def open_service(
    host: Host,
    settings: ChannelsSettings | None = None,
    bound: Callable[[int], None] = lambda port: None,
) -> AsyncIterator[Service]:
    """The service, ready to be registered; its loops receive, deliver and relay.

    `bound` is told the port that webhooks are taken on, where they are.
    """
    settings = settings or ChannelsSettings()
    owner, statuses = uuid.uuid4().hex, Statuses(host.database)
    if settings.one_process:
        async with host.database.queue.acquire() as conn:
            await leases.end_all(conn)
    limits = httpx2.Limits(
        max_connections=MAX_HTTP_CONNECTIONS, max_keepalive_connections=MAX_HTTP_CONNECTIONS
    )
    async with (
        httpx2.AsyncClient(limits=limits, follow_redirects=False) as http,
        open_secrets(os.environ) as secrets,
    ):

        def connect(account: Account) -> TelegramConnection:
            bot = Bot(http, secrets, account.namespace, account.settings)
            return TelegramConnection(host, owner, account, bot, statuses, settings)

        connections = Connections(host, owner, connect, settings)
        watchers, webchat, telegram = Watchers(host.database, host.hints), WebChat(), Telegram()
        outbound = Outbound(host, {webchat.channel: webchat, telegram.channel: telegram})
        progress = Progress(host, watchers, connections.show_typing)

        def register(server: grpc.aio.Server) -> None:
            channels_service_pb2_grpc.add_AccountServiceServicer_to_server(
                AccountServicer(host, http, secrets), server
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

        async def connected() -> None:
            # What the last of them saw is written too.
            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(statuses.run(done))
                try:
                    await connections.run()
                finally:
                    done.set()

        async def forget() -> None:
            await retention.run(host, settings)

        loops: list[Loop] = [outbound.run, progress.run, poll, relay, connected, forget]
        if settings.webhook_listen:
            webhooks = Webhooks(host, statuses, connections.webhook_bot)
            listening = web_server.listen(settings.webhook_listen)
            bound(listening.getsockname()[1])
            loops.append(lambda: web_server.serve(webhooks, listening, host.stop))
        yield Service("channels", register, tuple(loops))
