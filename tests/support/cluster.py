"""The services as processes of their own, on Kafka and PostgreSQL, each to be killed, frozen,
stopped and started again by its name (`router-1`). Decides none of their behaviour.
"""

import asyncio
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2 as httpx

from cli.connection import Gateway
from fased.api.router.v1 import binding_pb2, router_service_pb2, router_service_pb2_grpc
from fased.bus import topics
from fased.bus.kafka import open_kafka
from fased.rpc.client import open_client
from fased.store import outbox
from tests.support import ports
from tests.support.kafka import Broker, temporary_broker
from tests.support.member import POLL_PERIOD_S, Member, bare_environment
from tests.support.postgres import temporary_folder
from tests.support.postgres15 import Postgres, temporary_cluster_postgres
from tests.support.up import NO_OLLAMA

REPLICAS = {"policy": 1, "channels": 2, "router": 2, "scheduler": 2, "executor": 2, "gateway": 1}
# A lost worker's runs are another's soon, and still no busy machine loses one by itself.
_QUICK = {"FASED_LEASE_S": "6", "FASED_HEARTBEAT_S": "1"}
_CONSUMED = (
    ("router", topics.INBOUND),
    ("channels", topics.OUTBOUND),
    ("scheduler", topics.RUN_EVENTS),
    ("executor", topics.RUN_EVENTS),
)


class Cluster:
    """Six services, four of them twice."""

    def __init__(
        self, folder: Path, postgres: Postgres, kafka: Broker, environment: dict[str, str]
    ) -> None:
        self.postgres = postgres
        self.kafka = kafka
        self.token = "fased_" + secrets.token_urlsafe(32)
        self.service_token = secrets.token_urlsafe(32)
        self._http_port, self._public_port = ports.free_port(), ports.free_port()
        self.members = {
            name: Member(service, folder / f"{name}.log")
            for service, replicas in REPLICAS.items()
            for name in (f"{service}-{replica}" for replica in range(replicas))
        }
        self._environment = {**self._shared(), **NO_OLLAMA, **_QUICK, **environment}

    @property
    def dsn(self) -> str:
        """Its database."""
        return self.postgres.dsn

    @property
    def webhook_url(self) -> str:
        """Where one of the channels takes webhooks: there is no balancer before them."""
        return f"http://127.0.0.1:{self.members['channels-0'].webhook_port}"

    def gateway(self) -> Gateway:
        """Where its gRPC gateway is, for its admin."""
        return Gateway(f"127.0.0.1:{self._public_port}", self.token)

    async def migrate(self) -> None:
        """Make the schemas and topics."""
        done = await asyncio.to_thread(self.fased, "migrate")
        assert done.returncode == 0, done.stderr

    async def set_dm_scope(self, dm_scope: str) -> None:
        """Say who shares a session, as a resource of a cluster does."""
        channel, client = open_client(self.members["router-0"].address, self.service_token)
        await router_service_pb2_grpc.RouteServiceStub(channel).ApplyRouting(
            router_service_pb2.ApplyRoutingRequest(
                parent="namespaces/default",
                managed_by="resource:test",
                session=binding_pb2.SessionPolicy(dm_scope=dm_scope),
            )
        )
        await client.close()

    async def start(self, *names: str) -> None:
        """Start these processes, or all; returns when each of them serves."""
        started = [self.members[name] for name in names or self.members]
        for member in started:
            await member.start(self._environment)
        for member in started:
            await member.until_serving()

    async def kill(self, *names: str) -> None:
        """kill -9; returns when they are gone."""
        await self._end(names, signal.SIGKILL)

    async def stop(self, *names: str) -> list[int]:
        """SIGTERM, as Kubernetes ends a pod; gives the exit codes."""
        return await self._end(names or tuple(self.members), signal.SIGTERM)

    def freeze(self, *names: str) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(names, signal.SIGSTOP)

    def thaw(self, *names: str) -> None:
        """SIGCONT."""
        self._signal(names, signal.SIGCONT)

    def names_of(self, service: str) -> list[str]:
        """The names of a service's replicas."""
        return [name for name, member in self.members.items() if member.service == service]

    def fased(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a `fased` command against it, as its admin."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of its HTTP API, with the admin's token."""
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._http_port}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        ) as client:
            yield client

    async def lag(self) -> int:
        """What is under way: records nobody has committed, and events that wait in outboxes."""
        async with open_kafka(self.kafka.bootstrap, client_id="test") as bus:
            lags = [await bus.lag(group, [topic]) for group, topic in _CONSUMED]
        conn = await asyncpg.connect(self.postgres.dsn)
        try:
            waiting = [
                await conn.fetchval(f"SELECT coalesce(sum(events), 0) FROM {schema}.outbox")
                for schema in outbox.SCHEMAS
            ]
        finally:
            await conn.close()
        return sum(lags) + sum(map(int, waiting))

    async def until_no_lag(self, timeout_s: float = 60) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(timeout_s):
            while await self.lag():  # noqa: ASYNC110 (it is in other processes)
                await asyncio.sleep(POLL_PERIOD_S)

    def output(self, *names: str) -> str:
        """All that these processes printed, or all of them."""
        return "".join(self.members[name].output() for name in names or self.members)

    async def end(self) -> None:
        """Stop whatever runs."""
        running = [name for name, each in self.members.items() if each.process is not None]
        self.thaw(*(name for name in running if self.members[name].is_frozen))
        if running:
            await self.stop(*running)

    async def _end(self, names: Iterable[str], how: signal.Signals) -> list[int]:
        self._signal(names, how)
        return [await self.members[name].ended() for name in names]

    def _signal(self, names: Iterable[str], how: signal.Signals) -> None:
        for name in names:
            self.members[name].signal(how)

    def _shared(self) -> dict[str, str]:
        """What all of them, and the command, are told."""
        addresses = {
            f"FASED_{service.upper()}_ADDRESS": _address(
                each for each in self.members.values() if each.service == service
            )
            for service in REPLICAS
        }
        return {
            **bare_environment(),
            **addresses,
            "FASED_DATABASE_URL": self.postgres.dsn,
            "FASED_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "FASED_SERVICE_TOKEN": self.service_token,
            "FASED_ADMIN_TOKEN": self.token,
            "FASED_HTTP_PORT": str(self._http_port),
            "FASED_GRPC_LISTEN": f"127.0.0.1:{self._public_port}",
            "FASED_GATEWAY": f"127.0.0.1:{self._public_port}",
            "FASED_TOKEN": self.token,
        }


@asynccontextmanager
async def running_cluster(**environment: str) -> AsyncIterator[Cluster]:
    """A cluster on a broker and a database of its own, all gone after the block."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        postgres = stack.enter_context(temporary_cluster_postgres())
        kafka = stack.enter_context(temporary_broker())
        cluster = Cluster(folder, postgres, kafka, environment)
        stack.push_async_callback(cluster.end)
        await cluster.migrate()
        await cluster.start()
        yield cluster


def _address(members: Iterable[Member]) -> str:
    # Replicas behind one address, as a headless service of Kubernetes gives them.
    return "ipv4:" + ",".join(member.address for member in members)
