"""The services behind the gateway, as stubs. Decides nothing."""

from dataclasses import dataclass

import grpc

from fased.api.channels.v1 import channels_service_pb2_grpc as channels
from fased.api.policy.v1 import policy_service_pb2_grpc as policy
from fased.api.router.v1 import router_service_pb2_grpc as router
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc as scheduler
from fased.process import Host

BEHIND = ("channels", "router", "policy", "scheduler", "executor")


@dataclass(frozen=True, slots=True)
class Services:
    """One stub for each service that HTTP shows; `by_name` has the channels themselves."""

    by_name: dict[str, grpc.aio.Channel]
    agents: "policy.AgentServiceAsyncStub"
    tokens: "policy.TokenServiceAsyncStub"
    sessions: "router.SessionServiceAsyncStub"
    conversations: "channels.ConversationServiceAsyncStub"
    tasks: "scheduler.TaskServiceAsyncStub"
    runs: "scheduler.RunServiceAsyncStub"

    @classmethod
    def of(cls, host: Host) -> "Services":
        """Stubs over the channels of a host."""
        by_name = {name: host.client(name) for name in BEHIND}
        return cls(
            by_name,
            policy.AgentServiceStub(by_name["policy"]),
            policy.TokenServiceStub(by_name["policy"]),
            router.SessionServiceStub(by_name["router"]),
            channels.ConversationServiceStub(by_name["channels"]),
            scheduler.TaskServiceStub(by_name["scheduler"]),
            scheduler.RunServiceStub(by_name["scheduler"]),
        )
