"""People who write into chats, for tests of the router: events put on the bus as a channel would,
the replies and the runs that come of them. Decides defaults only.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.router.v1 import pairing_pb2, router_service_pb2, router_service_pb2_grpc
from fased.api.scheduler.v1 import run_pb2, scheduler_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as scheduler_pb
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Record
from fased.core.messages import Attachment, InboundEvent, Peer, PeerKind, Sender, bus_key
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey
from fased.wire.messages import inbound_to_pb
from tests.support.calls import eventually
from tests.support.schedulers import scheduling
from tests.support.services import Running

# Accounts that everybody may write to, but in tests of the gate.
OPEN_ACCOUNTS = ("telegram:default", "telegram:other", "telegram:work", "discord:default")
MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Router:
    """A running router with its neighbours, and what it said so far, by event."""

    up: Running
    said: dict[str, list[message_pb2.OutboundMessage]] = field(default_factory=dict)

    @property
    def routes(self) -> Any:
        """The stub of RouteService."""
        return router_service_pb2_grpc.RouteServiceStub(self.up.channel)

    @property
    def sessions(self) -> Any:
        """The stub of SessionService."""
        return router_service_pb2_grpc.SessionServiceStub(self.up.channel)

    @property
    def pairing(self) -> Any:
        """The stub of PairingService."""
        return router_service_pb2_grpc.PairingServiceStub(self.up.channel)

    @property
    def gates(self) -> Any:
        """The stub of GateService."""
        return router_service_pb2_grpc.GateServiceStub(self.up.channel)

    @property
    def tasks(self) -> Any:
        """The stub of TaskService."""
        return scheduler_service_pb2_grpc.TaskServiceStub(self.up.channel)

    async def add_agent(self, agent_id: str, namespace: str = "default", **fields: Any) -> None:
        """Make an Agent."""
        agents: Any = policy_service_pb2_grpc.AgentServiceStub(self.up.channel)
        await agents.CreateAgent(
            policy_service_pb2.CreateAgentRequest(
                parent=f"namespaces/{namespace}",
                agent_id=agent_id,
                agent=agent_pb2.Agent(**fields),
            )
        )

    async def open_gates(self, *namespaces: str) -> None:
        """Let everybody write to OPEN_ACCOUNTS, in groups too, and without a mention."""
        for namespace in namespaces:
            parent = f"namespaces/{namespace}"
            gates = [
                pairing_pb2.Gate(
                    name=f"{parent}/gates/{account}",
                    dm_policy="open",
                    allow_from=["*"],
                    groups=["*"],
                    require_mention=False,
                )
                for account in OPEN_ACCOUNTS
            ]
            await self.gates.ApplyGates(
                router_service_pb2.ApplyGatesRequest(
                    parent=parent, managed_by="file:open", gates=gates
                )
            )

    async def publish(self, *events: InboundEvent) -> None:
        """Put events on the bus, in order."""
        await self.up.host.bus.publish([_record(event) for event in events])

    async def reply_to(self, event: InboundEvent) -> message_pb2.OutboundMessage:
        """The reply to a command, once it has come."""
        await self.publish(event)
        return await self.replied(event)

    async def replied(self, event: InboundEvent) -> message_pb2.OutboundMessage:
        """The reply to a command that was published before."""

        async def said() -> list[message_pb2.OutboundMessage]:
            return self.said.get(event.event_id, [])

        found: list[message_pb2.OutboundMessage] = await eventually(said)
        return found[0]

    async def run_of(self, event: InboundEvent) -> run_pb2.Run:
        """The run that a message made, once it is there."""

        async def made() -> list[run_pb2.Run]:
            return [run for run in await self.runs(event.namespace) if _is_of(run, event)]

        await self.publish(event)
        [found] = await eventually(made)
        return found  # type: ignore[no-any-return]

    async def runs(self, namespace: str = "default") -> list[run_pb2.Run]:
        """All runs of a namespace, the first made first."""
        stub: Any = scheduler_service_pb2_grpc.RunServiceStub(self.up.channel)
        listed = await stub.ListRuns(
            scheduler_pb.ListRunsRequest(parent=f"namespaces/{namespace}", page_size=1000)
        )
        return sorted(listed.runs, key=lambda run: run.run_id)

    async def rows(self, query: str, *args: object) -> list[Any]:
        """What a query on the database gives."""
        return [*await self.up.host.database.queue.fetch(query, *args)]

    async def settled(self) -> None:
        """Wait until every event that was published is done with."""

        async def is_read() -> bool:
            return await self.up.host.bus.lag("router", [topics.INBOUND]) == 0

        await eventually(is_read)


@dataclass(frozen=True, slots=True)
class Writer:
    """Somebody in a chat; every text is an event of its own, a minute after the one before."""

    router: Router
    blank: InboundEvent

    def event(self, text: str, **fields: Any) -> InboundEvent:
        """An event with this text, not published."""
        number = next(_numbers)
        blank = self.blank
        return replace(
            blank,
            event_id=f"{blank.namespace}:{blank.channel}:{blank.account_id}:{number}",
            native_id=str(number),
            text=text,
            **{"received_at": MONDAY + timedelta(minutes=number), **fields},
        )

    async def command(self, text: str) -> str:
        """What a command is answered with."""
        return (await self.router.reply_to(self.event(text))).text

    async def write(self, text: str = "hello", **fields: Any) -> run_pb2.Run:
        """The run that a message makes."""
        return await self.router.run_of(self.event(text, **fields))


@asynccontextmanager
async def routing(
    database_url: str, *, namespaces: tuple[str, ...] = ("default",), is_open: bool = True
) -> AsyncIterator[Router]:
    """Router, policy and scheduler, with an Agent `main` in each namespace, where everybody may
    write unless told otherwise.
    """
    async with (
        scheduling(database_url, namespaces=namespaces) as scheduler,
        listening(Router(scheduler.up)) as router,
    ):
        if is_open:
            await router.open_gates(*namespaces)
        yield router


@asynccontextmanager
async def listening(router: Router) -> AsyncIterator[Router]:
    """The router with what it says collected."""

    async def listen() -> None:
        async with router.up.host.bus.consumer("the-test", [topics.OUTBOUND]) as consumer:
            while True:
                batch = await consumer.next_batch()
                for record in batch.records:
                    message = message_pb2.OutboundMessage.FromString(record.value)
                    router.said.setdefault(message.event_id, []).append(message)
                await consumer.commit(batch, batch.next_offset)
                consumer.finish(batch)

    listener = asyncio.create_task(listen())
    try:
        yield router
    finally:
        listener.cancel()
        await asyncio.wait({listener})
        if not listener.cancelled():
            listener.result()


def writer(
    router: Router,
    peer_id: str = "ada",
    *,
    namespace: str = "default",
    channel: str = "telegram",
    account_id: str = "default",
    kind: PeerKind = PeerKind.DIRECT,
    attached: tuple[str, str] | None = None,
) -> Writer:
    """Somebody in the chat of that id; `attached` is the Agent and session picked on a page."""
    picked = attached and Attachment(AgentId(attached[0]), SessionKey(attached[1]) or None)
    return Writer(
        router,
        InboundEvent(
            event_id="",
            namespace=Namespace(namespace),
            channel=ChannelId(channel),
            account_id=AccountId(account_id),
            peer=Peer(kind, peer_id),
            sender=Sender("ada", "Ada"),
            text="",
            received_at=MONDAY,
            attached=picked or None,
        ),
    )


def _record(event: InboundEvent) -> Record:
    key = bus_key(event.namespace, event.channel, event.account_id, event.peer)
    return Record(topics.INBOUND, key, inbound_to_pb(event).SerializeToString())


def _is_of(run: run_pb2.Run, event: InboundEvent) -> bool:
    return any(each.event_id == event.event_id for each in run.body.inputs)
