"""The services that the operator calls, as stubs. Decides nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from fased.api.channels.v1 import channels_service_pb2_grpc as channels
from fased.api.executor.v1 import credential_service_pb2_grpc as executor
from fased.api.policy.v1 import policy_service_pb2_grpc as policy
from fased.api.router.v1 import router_service_pb2_grpc as router
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc as scheduler


@dataclass(frozen=True, slots=True)
class Services:
    """One stub for each service whose definitions are resources."""

    agents: "policy.AgentServiceAsyncStub"
    providers: "policy.ModelProviderServiceAsyncStub"
    policy: "policy.PolicyServiceAsyncStub"
    routes: "router.RouteServiceAsyncStub"
    gates: "router.GateServiceAsyncStub"
    sessions: "router.SessionServiceAsyncStub"
    accounts: "channels.AccountServiceAsyncStub"
    tasks: "scheduler.TaskServiceAsyncStub"
    runs: "scheduler.RunServiceAsyncStub"
    credentials: "executor.CredentialServiceAsyncStub"

    @classmethod
    def of(cls, client: Callable[[str], grpc.aio.Channel]) -> "Services":
        """Stubs over the channels that `client` gives by a service's name."""
        by_policy, by_router, by_scheduler = map(client, ("policy", "router", "scheduler"))
        return cls(
            policy.AgentServiceStub(by_policy),
            policy.ModelProviderServiceStub(by_policy),
            policy.PolicyServiceStub(by_policy),
            router.RouteServiceStub(by_router),
            router.GateServiceStub(by_router),
            router.SessionServiceStub(by_router),
            channels.AccountServiceStub(client("channels")),
            scheduler.TaskServiceStub(by_scheduler),
            scheduler.RunServiceStub(by_scheduler),
            executor.CredentialServiceStub(client("executor")),
        )
