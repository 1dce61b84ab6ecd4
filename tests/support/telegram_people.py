"""People who write to a bot in many chats at once, and what must have come of it.

Decides what is written and what counts as answered: each message once and in order, or its
delivery told as unknown. The model is scripted to answer `You said: {text}`.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import grpc

from fased.api.channels.v1 import channels_service_pb2 as channels_pb
from fased.api.channels.v1 import channels_service_pb2_grpc as channels_grpc
from fased.api.channels.v1 import delivery_pb2
from fased.api.router.v1 import pairing_pb2
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.router.v1 import router_service_pb2_grpc as router_grpc
from fased.rpc.client import open_client
from tests.support.load import ANSWER
from tests.support.shapes import Shape
from tests.support.telegram_api import TelegramApi
from tests.support.telegram_state import Bot

PARENT = "namespaces/default"
HOLD, RESEND = "hold", "resend"
POLL, WEBHOOK = "poll", "webhook"
# What is in flight at a kill is more than what is on the wire in the wink of an eye.
ANSWER_DELAY_S = 0.1
# A killed replica's account and chats are another's soon.
QUICK = {
    "FASED_POLL_S": "2",
    "FASED_CONNECTION_LEASE_S": "6",
    # Of sends, only those of the killed shall be unknown, however busy the machine is.
    "FASED_SEND_TIMEOUT_S": "15",
    "FASED_SEND_LEASE_S": "20",
}

SENT = delivery_pb2.DELIVERY_STATE_SENT
UNKNOWN = delivery_pb2.DELIVERY_STATE_UNKNOWN


@dataclass(slots=True)
class People:
    """Those who write to the bot of one account; `in_flight` are deliveries that a fault found
    begun and not ended.
    """

    shape: Shape
    bot: Bot
    account_id: str
    on_unknown: str
    chats: Sequence[int]
    written: dict[int, int] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)

    @property
    def messages(self) -> int:
        """All that were written."""
        return sum(self.written.values())

    async def write(self, each: int, pause_s: float) -> None:
        """Everybody writes `each` messages, pausing so long after one on average."""
        async with asyncio.TaskGroup() as group:
            for chat in self.chats:
                group.create_task(self._write_in(chat, each, pause_s))

    async def until_answered(self, count: int, timeout_s: float = 300) -> None:
        """Wait until the bot has answered that many of the messages."""
        async with asyncio.timeout(timeout_s):
            while self.answered() < count:  # noqa: ASYNC110 (it is in other processes)
                await asyncio.sleep(0.02)

    def answered(self) -> int:
        """How many messages have an answer."""
        return len({(sent.chat_id, sent.text) for sent in self.bot.sent})

    async def note_in_flight(self) -> None:
        """Remember the deliveries whose send was begun and has no end."""
        conn = await asyncpg.connect(self.shape.dsn)
        try:
            rows = await conn.fetch(
                """SELECT DISTINCT d.id FROM channels.delivery_chunk c
                     JOIN channels.delivery d
                       ON d.namespace = c.namespace AND d.id = c.delivery_id
                    WHERE c.state = 'sending' AND d.account_id = $1""",
                self.account_id,
            )
        finally:
            await conn.close()
        self.in_flight.update(str(row["id"]) for row in rows)

    async def check(self, timeout_s: float = 300) -> Counter[str]:
        """Everything was answered once and in order, or told as unknown, as `on_unknown` allows;
        the counts.
        """
        deliveries = await self._until_ended(timeout_s)
        unanswered = self._unanswered(deliveries)
        counts = Counter(
            messages=self.messages,
            in_flight=self.in_flight.total(),
            unanswered=unanswered.total(),
        )
        for chat in self.chats:
            of_chat = [each for each in deliveries if each.target.peer.id == str(chat)]
            counts += self._check_chat(chat, of_chat, self.in_flight + unanswered)
        assert counts["unknown_sends"] <= counts["in_flight"] + counts["unanswered"], counts
        assert counts["doubles"] <= counts["unknown_sends"], counts
        return counts

    def _check_chat(
        self, chat: int, deliveries: list[delivery_pb2.Delivery], may_be_unknown: Counter[str]
    ) -> Counter[str]:
        sent = [(str(each.message_id), each.text) for each in self.bot.sent if each.chat_id == chat]
        texts = dict(sent)
        wanted = [ANSWER.format(text=_text(turn)) for turn in range(self.written[chat])]
        counts: Counter[str] = Counter()
        # A chat's runs are numbered in the order of its messages.
        deliveries.sort(key=lambda each: each.run_id)
        assert len(deliveries) == len(wanted), f"{len(deliveries)} deliveries in chat {chat}"
        for text, delivery in zip(wanted, deliveries, strict=True):
            [chunk] = delivery.chunks
            counts["unknown_sends"] += chunk.unknown_sends
            assert chunk.unknown_sends <= may_be_unknown[_id_of(delivery)], f"{delivery}"
            if delivery.state == SENT:
                assert texts[chunk.receipt] == text, f"chat {chat}: {delivery}"
            else:
                assert delivery.state == UNKNOWN, f"chat {chat}: {delivery}"
                counts["unknown"] += 1
                counts["missing"] += text not in texts.values()
        order = [wanted.index(text) for _, text in sent]
        assert order == sorted(order), f"chat {chat}: {sent}"
        counts["doubles"] += len(order) - len(set(order))
        if self.on_unknown == HOLD:
            assert not counts["doubles"], f"chat {chat}: {sent}"
        else:
            assert not counts["missing"], f"chat {chat}: {sent}"
            assert not counts["unknown"], f"chat {chat}: {deliveries}"
        return counts

    def _unanswered(self, deliveries: Sequence[delivery_pb2.Delivery]) -> Counter[str]:
        """The sends that were in flight for too long by themselves, as a machine's that has far
        too much to do.
        """
        ours = set(map(_id_of, deliveries))
        lines = (
            json.loads(line)
            for line in self.shape.output().splitlines()
            if "send_outcome_unknown" in line and "NO_ANSWER" in line
        )
        return Counter(line["delivery"] for line in lines if line["delivery"] in ours)

    async def _write_in(self, chat: int, each: int, pause_s: float) -> None:
        chance = random.Random(chat)
        for _ in range(each):
            turn = self.written.get(chat, 0)
            self.bot.user_says(chat, _text(turn))
            self.written[chat] = turn + 1
            await asyncio.sleep(chance.uniform(0, 2 * pause_s))

    async def _until_ended(self, timeout_s: float) -> list[delivery_pb2.Delivery]:
        """The deliveries of the account, once there is one for each message and none waits."""
        found: list[delivery_pb2.Delivery] = []
        try:
            async with asyncio.timeout(timeout_s), _gateway(self.shape) as channel:
                stub = channels_grpc.DeliveryServiceStub(channel)
                while True:
                    found = [
                        each
                        async for each in _deliveries(stub)
                        if each.target.account_id == self.account_id
                    ]
                    if len(found) >= self.messages and all(map(_has_ended, found)):
                        return found
                    await asyncio.sleep(0.5)
        except TimeoutError:
            states = Counter(delivery_pb2.DeliveryState.Name(each.state) for each in found)
            raise AssertionError(
                f"written {self.messages}, answered {self.answered()}, deliveries {states}"
            ) from None


async def open_people(
    shape: Shape,
    api: TelegramApi,
    token: str,
    *,
    on_unknown: str,
    mode: str = POLL,
    chats: int,
) -> People:
    """People who may all write to a new account, which is connected.

    Its token is in the environment of the shape, as `TOKEN_<bot>`.
    """
    bot = api.bots[token]
    account_id = f"{on_unknown}-{bot.id}"
    webhook = ("--webhook-url", shape.webhook_url) if mode == WEBHOOK else ()
    added = await asyncio.to_thread(
        shape.fased,
        *("channels", "add", "telegram", "--account", account_id, "--mode", mode, *webhook),
        *("--token-env", token_name(token), "--api-base", api.base_url, "--on-unknown", on_unknown),
    )
    assert added.returncode == 0, added.stderr
    await set_dm_policy(shape, account_id, "open")
    async with _gateway(shape) as channel:
        await _until_connected(channel, account_id)
    bot.add_fault("slow", method="sendMessage", times=0, delay_s=ANSWER_DELAY_S)
    first = bot.id * 1000
    return People(shape, bot, account_id, on_unknown, range(first, first + chats))


async def set_dm_policy(shape: Shape, account_id: str, dm_policy: str) -> None:
    """Say who may write to an account: with `open`, everybody."""
    gate = pairing_pb2.Gate(
        name=f"{PARENT}/gates/telegram:{account_id}",
        dm_policy=dm_policy,
        allow_from=["*"] if dm_policy == "open" else [],
    )
    async with _gateway(shape) as channel:
        await router_grpc.GateServiceStub(channel).UpdateGate(
            router_pb.UpdateGateRequest(gate=gate)
        )


def token_name(token: str) -> str:
    """The variable that a bot's token is in."""
    return f"TOKEN_{token.partition(':')[0]}"


@asynccontextmanager
async def _gateway(shape: Shape) -> AsyncIterator[grpc.aio.Channel]:
    gateway = shape.gateway()
    channel, client = open_client(gateway.grpc, gateway.token)
    try:
        yield channel
    finally:
        await client.close()


async def _until_connected(channel: grpc.aio.Channel, account_id: str) -> None:
    stub = channels_grpc.AccountServiceStub(channel)
    request = channels_pb.GetAccountStatusRequest(name=f"{PARENT}/accounts/telegram:{account_id}")
    async with asyncio.timeout(60):
        while not (await stub.GetAccountStatus(request)).status.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _deliveries(
    stub: "channels_grpc.DeliveryServiceAsyncStub",
) -> AsyncIterator[delivery_pb2.Delivery]:
    request = channels_pb.ListDeliveriesRequest(parent=PARENT, page_size=1000)
    while True:
        page = await stub.ListDeliveries(request)
        for each in page.deliveries:
            yield each
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _id_of(delivery: delivery_pb2.Delivery) -> str:
    return delivery.name.rpartition("/")[2]


def _has_ended(delivery: delivery_pb2.Delivery) -> bool:
    return delivery.state != delivery_pb2.DELIVERY_STATE_PENDING


def _text(turn: int) -> str:
    return f"message {turn}"
