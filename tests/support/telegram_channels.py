"""The channels service beside a Bot API server, for tests: its accounts, what comes in and goes
out. Decides none of its behaviour; waits are short, so that a test sees them end.
"""

import asyncio
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fased.api.channels.v1 import account_pb2, delivery_pb2
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc as stubs
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Received
from fased.core.errors import NotFound
from fased.core.messages import InboundEvent, OutboundMessage, Peer, PeerKind, Target
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, RunId, SessionKey
from fased.wire.messages import inbound_from_pb
from services.channels.service import open_service
from services.channels.settings import ChannelsSettings
from tests.support.calls import acting, eventually
from tests.support.services import Running, running
from tests.support.telegram_api import TelegramApi
from tests.support.telegram_state import Bot
from tests.support.webchat import outbound_record

TOKEN_NAME = "TEST_TELEGRAM_TOKEN"
TOKEN = "7000001:AAcanary-telegram-token-000000000000000"
PARENT = "namespaces/default"
SERVICE_TOKEN = "a-service-token-of-tests"
_ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {
    "poll_s": 1,
    "connection_lease_s": 3.0,
    "send_lease_s": 2.0,
    "send_timeout_s": 1.0,
    "webhook_listen": "127.0.0.1:0",
}


@dataclass(slots=True)
class Channels:
    """The channels service that runs, with stubs of what it serves."""

    running: Running
    api: TelegramApi
    bot: Bot
    accounts: Any
    deliveries: Any
    webhook_port: int = 0

    async def add_account(
        self, account_id: str = "default", credential: str = f"env:{TOKEN_NAME}", **fields: Any
    ) -> account_pb2.Account:
        """Make an account of the bot."""
        account = account_pb2.Account(
            channel="telegram",
            account_id=account_id,
            credential=credential,
            api_base=self.api.base_url,
            **fields,
        )
        request = pb.CreateAccountRequest(parent=PARENT, account=account)
        created: pb.CreateAccountResponse = await self.accounts.CreateAccount(request)
        return created.account

    async def add_webhook_account(self, account_id: str = "default") -> account_pb2.Account:
        """Make an account of the bot that is called, once Telegram knows where."""
        url = f"http://127.0.0.1:{self.webhook_port}"
        made = await self.add_account(
            account_id, mode=account_pb2.RECEIVE_MODE_WEBHOOK, webhook_url=url
        )

        async def is_known() -> bool:
            return self.bot.webhook is not None

        await eventually(is_known)
        return made

    async def status(
        self, account_id: str = "default", *, probe: bool = False
    ) -> account_pb2.AccountStatus:
        """How an account does."""
        request = pb.GetAccountStatusRequest(
            name=f"{PARENT}/accounts/telegram:{account_id}", probe=probe
        )
        answer: pb.GetAccountStatusResponse = await self.accounts.GetAccountStatus(
            request, **acting()
        )
        return answer.status

    async def until_status(self, account_id: str = "default", **wanted: Any) -> Any:
        """An account's status, once its fields are so."""

        async def is_so() -> account_pb2.AccountStatus | None:
            status = await self.status(account_id)
            so = all(getattr(status, name) == value for name, value in wanted.items())
            return status if so else None

        return await eventually(is_so)

    async def publish(self, *messages: OutboundMessage) -> None:
        """Put results on the bus."""
        await self.running.host.bus.publish([outbound_record(each) for each in messages])

    async def inbound(self, count: int) -> list[InboundEvent]:
        """The first messages that came in, once there are this many."""
        records = await self.published(topics.INBOUND, count)
        return [inbound_from_pb(message_pb2.InboundEvent.FromString(r.value)) for r in records]

    async def inbound_texts_once(self, count: int) -> list[str]:
        """The texts of the first events that came in, in order, once there are this many.

        A process that is killed between the bus's answer and the outbox's delete has its events
        published again, under the same ids; a reader takes the first of each.
        """
        texts: dict[str, str] = {}
        async for record in self._records(topics.INBOUND):
            event = inbound_from_pb(message_pb2.InboundEvent.FromString(record.value))
            texts.setdefault(event.event_id, event.text)
            if len(texts) == count:
                break
        return list(texts.values())

    async def published(self, topic: str, count: int) -> list[Received]:
        """The first records of a topic, once there are this many."""
        found: list[Received] = []
        async for record in self._records(topic):
            found.append(record)
            if len(found) == count:
                break
        return found

    async def _records(self, topic: str) -> AsyncIterator[Received]:
        group = f"test-{uuid.uuid4()}"
        async with self.running.host.bus.consumer(group, [topic]) as consumer:
            while True:
                batch = await consumer.next_batch()
                for record in batch.records:
                    yield record
                await consumer.commit(batch, batch.next_offset)
                consumer.finish(batch)

    async def ended(self, message: OutboundMessage) -> delivery_pb2.Delivery:
        """A delivery, once it is not pending."""

        async def is_over() -> delivery_pb2.Delivery | None:
            request = pb.GetDeliveryRequest(name=f"{PARENT}/deliveries/{message.id}")
            try:
                found = (await self.deliveries.GetDelivery(request)).delivery
            except NotFound:
                return None
            is_pending = found.state == delivery_pb2.DELIVERY_STATE_PENDING
            return None if is_pending else found

        found: delivery_pb2.Delivery = await eventually(is_over)
        return found

    async def texts(self) -> list[str]:
        """All values of all columns of the schema, as text."""
        found: list[str] = []
        async with self.running.host.database.queue.acquire() as conn:
            tables = await conn.fetch(
                """SELECT table_schema, table_name FROM information_schema.tables
                    WHERE table_schema IN ('channels', 'bus')"""
            )
            for schema, table in tables:
                rows = await conn.fetch(f"SELECT t::text FROM {schema}.{table} t")
                found += [row[0] for row in rows]
        return found


@asynccontextmanager
async def channels(
    database_url: str, api: TelegramApi, bot: Bot, **settings: Any
) -> AsyncIterator[Channels]:
    """The service on the database at the URL."""
    ports: list[int] = []
    opened = partial(
        open_service,
        settings=ChannelsSettings(**{**QUICK, **settings}),
        bound=ports.append,
    )
    async with running(database_url, lambda *_: (opened,)) as services:
        channel = services.channel
        yield Channels(
            services,
            api,
            bot,
            stubs.AccountServiceStub(channel),
            stubs.DeliveryServiceStub(channel),
            ports[0] if ports else 0,
        )


@asynccontextmanager
async def channels_process(
    database_url: str, token: str, **settings: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own, to kill; killed after the block."""
    with tempfile.TemporaryDirectory(prefix="fased-") as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "FASED_DATABASE_URL": database_url,
            "FASED_SERVICE_TOKEN": SERVICE_TOKEN,
            "FASED_LISTEN": f"unix:{folder}/s",
            "FASED_METRICS_LISTEN": "127.0.0.1:0",
            TOKEN_NAME: token,
            **{
                f"FASED_{name.upper()}": str(value) for name, value in {**QUICK, **settings}.items()
            },
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.channels"), cwd=_ROOT, env=environment
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def result(
    chat_id: int,
    text: str,
    *,
    account_id: str = "default",
    kind: PeerKind = PeerKind.DIRECT,
    run_id: int | None = None,
    **fields: Any,
) -> OutboundMessage:
    """A result for a chat; `thread` and `reply_to_id` are the target's, others the message's."""
    place = {name: fields.pop(name) for name in ("thread", "reply_to_id") if name in fields}
    target = Target(ChannelId("telegram"), AccountId(account_id), Peer(kind, str(chat_id)), **place)
    return OutboundMessage(
        id=str(uuid.uuid4()),
        namespace=Namespace("default"),
        agent_id=AgentId("main"),
        session_key=SessionKey("agent:main:main"),
        target=target,
        text=text,
        run_id=None if run_id is None else RunId(run_id),
        **fields,
    )


def texts_of(bot: Bot, chat_id: int) -> Sequence[str]:
    """What a chat was sent, in order."""
    return [sent.text for sent in bot.sent if sent.chat_id == chat_id]
