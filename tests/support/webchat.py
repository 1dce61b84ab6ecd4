"""WebChat for tests: the services it needs, conversations, and results as the executor emits them.

Decides none of their behaviour.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc as stubs
from fased.api.channels.v1 import conversation_pb2
from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Received, Record
from fased.core import conversations
from fased.core.messages import MessageKind, OutboundMessage, Peer, PeerKind, Target, bus_key
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, RunId, SessionKey
from fased.wire.messages import outbound_to_pb, target_to_pb
from services.channels.service import open_service as open_channels
from services.policy.service import open_service as open_policy
from tests.support.calls import acting, eventually
from tests.support.services import Running, running


@dataclass(frozen=True, slots=True)
class WebChat:
    """Channels and policy that run, with stubs of what WebChat serves."""

    running: Running
    chat: Any
    deliveries: Any
    accounts: Any

    async def add_agent(self, agent_id: str, namespace: str = "default", **fields: Any) -> None:
        """Make an Agent."""
        agents: Any = policy_service_pb2_grpc.AgentServiceStub(self.running.channel)
        request = policy_service_pb2.CreateAgentRequest(
            parent=f"namespaces/{namespace}", agent_id=agent_id, agent=agent_pb2.Agent(**fields)
        )
        await agents.CreateAgent(request)

    async def open(
        self, namespace: str = "default", agent_id: str = "", session_key: str = ""
    ) -> conversation_pb2.Conversation:
        """The conversation of an Agent and session."""
        request = pb.OpenConversationRequest(
            parent=f"namespaces/{namespace}", agent_id=agent_id, session_key=session_key
        )
        opened: pb.OpenConversationResponse
        opened = await self.chat.OpenConversation(request, **acting(namespace))
        return opened.conversation

    async def post(
        self,
        conversation: conversation_pb2.Conversation,
        message_id: str,
        text: str,
        **fields: Any,
    ) -> conversation_pb2.ConversationEvent:
        """Post a message as ada; its POSTED event."""
        request = pb.PostMessageRequest(
            name=conversation.name, message_id=message_id, text=text, **fields
        )
        namespace = conversation.name.split("/")[1]
        posted: pb.PostMessageResponse
        posted = await self.chat.PostMessage(request, **acting(namespace))
        return posted.event

    async def events(
        self, conversation: conversation_pb2.Conversation
    ) -> list[conversation_pb2.ConversationEvent]:
        """All stored events."""
        request = pb.ListEventsRequest(name=conversation.name, page_size=1000)
        return list((await self.chat.ListEvents(request)).events)

    async def until(
        self, conversation: conversation_pb2.Conversation, count: int
    ) -> list[conversation_pb2.ConversationEvent]:
        """All stored events, once there are this many."""

        async def enough() -> list[conversation_pb2.ConversationEvent]:
            events = await self.events(conversation)
            return events if len(events) >= count else []

        found: list[conversation_pb2.ConversationEvent] = await eventually(enough)
        return found

    async def publish(self, *messages: OutboundMessage) -> None:
        """Put results on the bus."""
        await self.running.host.bus.publish([outbound_record(each) for each in messages])

    async def report(self, progress: message_pb2.RunProgress) -> None:
        """Put a run's progress on the bus."""
        key = f"{progress.namespace}/{progress.run_id}"
        record = Record(topics.RUN_PROGRESS, key, progress.SerializeToString())
        await self.running.host.bus.publish([record])

    async def published(self, topic: str, count: int) -> list[Received]:
        """The first records of a topic, once there are this many."""
        found: list[Received] = []
        async with self.running.host.bus.consumer("the-test", [topic]) as consumer:
            while len(found) < count:
                batch = await consumer.next_batch()
                found.extend(batch.records)
                await consumer.commit(batch, batch.next_offset)
                consumer.finish(batch)
        return found


@asynccontextmanager
async def open_webchat(url: str) -> AsyncIterator[WebChat]:
    """Channels and policy on the database at `url`, with the Agent `main` in `default`."""
    async with running(url, lambda *_: (open_channels, open_policy)) as services:
        channel = services.channel
        webchat = WebChat(
            services,
            stubs.ConversationServiceStub(channel),
            stubs.DeliveryServiceStub(channel),
            stubs.AccountServiceStub(channel),
        )
        await webchat.add_agent("main")
        yield webchat


def answer(
    conversation: conversation_pb2.Conversation,
    text: str,
    *,
    message_id: str = "",
    kind: MessageKind = MessageKind.ANSWER,
    run_id: int | None = None,
    delivery_id: str = "",
    channel: str = "webchat",
) -> OutboundMessage:
    """A result for a conversation; about the post `message_id` where one is named."""
    namespace, conversation_id = conversation.name.split("/")[1], conversation.name.split("/")[3]
    event_id = ""
    if message_id:
        event_id = conversations.event_id_of(
            Namespace(namespace), uuid.UUID(conversation_id), message_id
        )
    return OutboundMessage(
        id=delivery_id or str(uuid.uuid4()),
        namespace=Namespace(namespace),
        agent_id=AgentId(conversation.agent_id),
        session_key=SessionKey(conversation.session_key),
        target=Target(
            ChannelId(channel), AccountId("default"), Peer(PeerKind.DIRECT, conversation_id)
        ),
        text=text,
        kind=kind,
        run_id=None if run_id is None else RunId(run_id),
        event_id=event_id,
    )


def progress_of(
    message: OutboundMessage, kind: message_pb2.ProgressKind.ValueType, text: str = ""
) -> message_pb2.RunProgress:
    """Progress of the run that will answer with `message`."""
    return message_pb2.RunProgress(
        namespace=message.namespace,
        run_id=message.run_id or 0,
        kind=kind,
        text=text,
        target=target_to_pb(message.target),
        event_id=message.event_id,
    )


def outbound_record(message: OutboundMessage) -> Record:
    """A result as the relay publishes it."""
    target = message.target
    key = bus_key(message.namespace, target.channel, target.account_id, target.peer)
    return Record(topics.OUTBOUND, key, outbound_to_pb(message).SerializeToString())
