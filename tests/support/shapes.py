"""The two shapes that Fased runs in, as end-to-end tests see them: one process, and a cluster.

Decides how each of them is killed in the middle of work; what must hold then is the tests' word.
"""

import random
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import httpx2 as httpx

from cli.connection import Gateway, read_gateway_file
from tests.support import ports
from tests.support.cluster import Cluster, running_cluster
from tests.support.up import Up, running_up

ONE_PROCESS = "one-process"
CLUSTER = "cluster"
SHAPES = (ONE_PROCESS, CLUSTER)
# Runs that one executor carries out at once.
SLOTS = 8

Meanwhile = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Door(Protocol):
    """Where people come in."""

    def http(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A client of the HTTP API, as somebody who may do all."""
        ...


class Shape(Door, Protocol):
    """A running Fased: its database, where it takes webhooks, its gRPC gateway for its admin."""

    @property
    def dsn(self) -> str:
        """As asyncpg takes it."""
        ...

    @property
    def webhook_url(self) -> str:
        """What platforms call."""
        ...

    def gateway(self) -> Gateway:
        """Where people's commands go."""
        ...

    def secrets(self) -> Sequence[str]:
        """What nobody may read anywhere, of what it was started with."""
        ...

    async def metrics(self) -> str:
        """What it tells Prometheus."""
        ...

    def fased(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a `fased` command against it."""
        ...

    def output(self) -> str:
        """All that its processes printed."""
        ...

    async def kill_some(self, chance: random.Random, meanwhile: Meanwhile = _nothing) -> int:
        """kill -9 some of it, do what `meanwhile` is, and start that again.

        Gives the runs that were lost at most.
        """
        ...


class OneProcess:
    """`fased up`."""

    def __init__(self, up: Up, webhook_url: str) -> None:
        self.up = up
        self.webhook_url = webhook_url
        self.http, self.fased, self.output = up.http, up.fased, up.output

    @property
    def dsn(self) -> str:
        """See `Shape`."""
        return self.up.dsn

    def gateway(self) -> Gateway:
        """See `Shape`."""
        return read_gateway_file(self.up.state_dir)

    def secrets(self) -> Sequence[str]:
        """See `Shape`; it shows its token to who starts it, and makes the others itself."""
        return ()

    async def metrics(self) -> str:
        """See `Shape`: it serves none."""
        return ""

    async def kill_some(self, chance: random.Random, meanwhile: Meanwhile = _nothing) -> int:
        """See `Shape`: all of it."""
        await self.up.kill()
        await meanwhile()
        await self.up.start()
        return SLOTS


class ManyProcesses:
    """Six services, most of them twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._spared: list[str] = []
        self.dsn, self.webhook_url, self.gateway = (
            cluster.dsn,
            cluster.webhook_url,
            cluster.gateway,
        )
        self.http, self.fased, self.output = cluster.http, cluster.fased, cluster.output

    def secrets(self) -> Sequence[str]:
        """See `Shape`."""
        return self.cluster.token, self.cluster.service_token

    async def metrics(self) -> str:
        """See `Shape`."""
        return "".join([await each.metrics() for each in self.cluster.members.values()])

    async def kill_some(self, chance: random.Random, meanwhile: Meanwhile = _nothing) -> int:
        """See `Shape`: three processes, whichever they are; after three times nearly all were."""
        if len(self._spared) < 3:
            self._spared = chance.sample(list(self.cluster.members), len(self.cluster.members))
        names, self._spared = self._spared[:3], self._spared[3:]
        await self.cluster.kill(*names)
        await meanwhile()
        await self.cluster.start(*names)
        return SLOTS * sum(name.startswith("executor") for name in names)


@asynccontextmanager
async def running_shape(name: str, dm_scope: str = "", **environment: str) -> AsyncIterator[Shape]:
    """One of `SHAPES`, gone after the block; `dm_scope` says who shares a session."""
    environment = {"FASED_RUN_CONCURRENCY": str(SLOTS)} | environment
    if name == CLUSTER:
        async with running_cluster(**environment) as cluster:
            if dm_scope:
                await cluster.set_dm_scope(dm_scope)
            yield ManyProcesses(cluster)
    else:
        listen = f"127.0.0.1:{ports.free_port()}"
        configuration = {"session": {"dmScope": dm_scope}} if dm_scope else {}
        async with running_up(configuration, FASED_WEBHOOK_LISTEN=listen, **environment) as up:
            yield OneProcess(up, f"http://{listen}")
