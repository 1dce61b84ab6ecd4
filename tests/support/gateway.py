"""The gateway for tests: the services behind it in this process, and clients of its doors.

Decides none of their behaviour.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import httpx2
from pydantic import SecretStr

from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.api.types.v1 import access_pb2
from fased.process import OpenService
from fased.wire.plain import camel
from services.channels.service import open_service as open_channels
from services.executor.service import open_service as open_executor
from services.executor.settings import Settings as ExecutorSettings
from services.gateway.service import open_service as open_gateway
from services.gateway.settings import Settings
from services.policy.service import open_service as open_policy
from services.router.service import open_service as open_router
from services.scheduler.service import open_service as open_scheduler
from services.scheduler.settings import SchedulerSettings
from tests.support.services import Running, running
from tests.support.turns import NO_OLLAMA


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs, with an operator's token for `default` in its clients."""

    running: Running
    url: str
    token: str
    http: httpx2.AsyncClient
    public: str

    @property
    def tokens(self) -> Any:
        """The token service, called as a service of Fased."""
        return policy_service_pb2_grpc.TokenServiceStub(self.running.channel)

    async def new_token(
        self,
        token_id: str,
        role: access_pb2.Role.ValueType = access_pb2.ROLE_OPERATOR,
        namespace: str = "default",
    ) -> str:
        """A fresh token's secret."""
        request = policy_service_pb2.CreateTokenRequest(
            parent=f"namespaces/{namespace}", token_id=token_id, role=role
        )
        created: policy_service_pb2.CreateTokenResponse = await self.tokens.CreateToken(request)
        return created.secret

    async def add_agent(self, agent_id: str, namespace: str = "default") -> None:
        """Make an Agent."""
        agents = policy_service_pb2_grpc.AgentServiceStub(self.running.channel)
        await agents.CreateAgent(
            policy_service_pb2.CreateAgentRequest(
                parent=f"namespaces/{namespace}", agent_id=agent_id
            )
        )

    def api(self, path: str) -> str:
        """An address below the namespace `default`."""
        return f"/api/v1/namespaces/default{path}"

    async def open(self, **words: str) -> str:
        """The path of a conversation below /api/v1."""
        body = {camel(name): value for name, value in words.items()}
        answer = await self.http.post(self.api("/conversations"), json=body)
        assert answer.status_code == 200, answer.text
        return f"/api/v1/{answer.json()['conversation']['name']}"

    @asynccontextmanager
    async def anonymous(self, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
        """A client without a token."""
        async with httpx2.AsyncClient(base_url=self.url, **options) as client:
            yield client

    @asynccontextmanager
    async def grpc(self) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to the public port."""
        async with grpc.aio.insecure_channel(self.public) as channel:
            yield channel


@asynccontextmanager
async def open_gateway_on(
    url: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """The gateway and the services behind it on the database at `url`, with the Agent `main`.

    No executor where its `environment` is None.
    """
    ports: list[int] = []
    public: list[str] = []

    def make(listen: str, service_token: str) -> Sequence[OpenService]:
        public.append(listen + "-public")
        gateway = Settings(
            database_url=url,
            service_token=SecretStr(service_token),
            http_port=0,
            grpc_listen=public[0],
            **settings,
        )
        services: list[OpenService] = [
            open_policy,
            open_router,
            open_channels,
            partial(open_scheduler, settings=SchedulerSettings()),
            partial(open_gateway, settings=gateway, bound=ports.append),
        ]
        if environment is not None:
            services.append(_executor(url, listen, service_token, environment))
        return services

    async with running(url, make) as services:
        base = f"http://127.0.0.1:{ports[0]}"
        async with httpx2.AsyncClient(base_url=base) as http:
            gateway = Gateway(services, base, "", http, public[0])
            token = await gateway.new_token("ada")
            http.headers["Authorization"] = f"Bearer {token}"
            await gateway.add_agent("main")
            yield Gateway(services, base, token, http, public[0])


def _executor(
    url: str, listen: str, service_token: str, environment: Mapping[str, str]
) -> OpenService:
    settings = ExecutorSettings(
        database_url=url,
        service_token=SecretStr(service_token),
        scheduler_address=listen,
        lease_wait_s=1,
        grace_s=1,
    )
    return partial(open_executor, settings=settings, environment={**NO_OLLAMA, **environment})
