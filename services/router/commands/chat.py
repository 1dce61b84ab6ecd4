"""What a command acts in: the chat it came from, its session and the services it may ask.

Decides nothing; `carry_out.py` picks the effect of a command.
"""

import uuid
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from fased.core.messages import InboundEvent, Target
from fased.core.names import AgentId, Namespace
from fased.core.stored_session import Session
from fased.process import Host
from fased.store.database import Connection
from services.router.placing import Placed
from services.router.tables import KnownAgent

# The namespace of request ids derived from events (UUIDv5), so that a redelivered command asks
# another service for the same thing.
_EVENT_NAMESPACE = uuid.UUID("6f0d7a54-52d5-4f10-9a51-3c6f5b0d1e77")


@dataclass(frozen=True, slots=True)
class Services:
    """The services that commands ask."""

    tasks: "scheduler_service_pb2_grpc.TaskServiceAsyncStub"
    runs: "scheduler_service_pb2_grpc.RunServiceAsyncStub"

    @classmethod
    def of(cls, host: Host) -> "Services":
        """Stubs over the host's channels."""
        scheduler = host.client("scheduler")
        return cls(
            scheduler_service_pb2_grpc.TaskServiceStub(scheduler),
            scheduler_service_pb2_grpc.RunServiceStub(scheduler),
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """The transaction that a command's mark, its change of the router's rows and its reply share:
    one connection, as SQLAlchemy's and as the driver's.
    """

    sql: AsyncConnection
    driver: Connection


@dataclass(frozen=True, slots=True)
class Chat:
    """One command's surroundings."""

    placed: Placed
    agents: tuple[KnownAgent, ...]
    services: Services

    @property
    def event(self) -> InboundEvent:
        """The event that carried the command."""
        return self.placed.routed.event

    @property
    def namespace(self) -> Namespace:
        """The tenant."""
        return self.event.namespace

    @property
    def parent(self) -> str:
        """The namespace as a resource name."""
        return f"namespaces/{self.namespace}"

    @property
    def agent_id(self) -> AgentId:
        """The Agent that answers in this chat."""
        return self.placed.routed.decision.agent_id

    @property
    def session(self) -> Session:
        """The session in use."""
        return self.placed.session

    @property
    def target(self) -> Target:
        """Where answers to this chat go."""
        return target_of(self.event)

    def request_id(self, ordinal: int = 0) -> str:
        """The id under which another service carries out this event's `ordinal`-th effect."""
        name = f"{self.namespace}/{self.event.event_id}/{ordinal}"
        return str(uuid.uuid5(_EVENT_NAMESPACE, name))

    def describe_agent(self, agent_id: str) -> str:
        """An Agent's name for people."""
        known = next((agent for agent in self.agents if agent.id == agent_id), None)
        return known.display_name or known.id if known else agent_id


def target_of(event: InboundEvent) -> Target:
    """Where answers to an event go: its own chat, on the account that received it."""
    return Target(event.channel, event.account_id, event.peer, event.thread, event.native_id)
