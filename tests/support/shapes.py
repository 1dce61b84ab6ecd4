"""The two shapes that Fased runs in, as end-to-end tests see them: one process, and a cluster.

Decides how each of them is killed in the middle of work; what must hold then is the tests' word.
"""

import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import httpx2 as httpx

from tests.support.cluster import Cluster, running_cluster
from tests.support.up import Up, running_up

ONE_PROCESS = "one-process"
CLUSTER = "cluster"
SHAPES = (ONE_PROCESS, CLUSTER)
# Runs that one executor carries out at once.
SLOTS = 8


class Door(Protocol):
    """Where people come in."""

    def http(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A client of the HTTP API, as somebody who may do all."""
        ...


class Shape(Door, Protocol):
    """A running Fased."""

    def fased(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a `fased` command against it."""
        ...

    def output(self) -> str:
        """All that its processes printed."""
        ...

    async def kill_some(self, chance: random.Random) -> int:
        """kill -9 some of it and start that again; gives the runs that were lost at most."""
        ...


class OneProcess:
    """`fased up`."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.http, self.fased, self.output = up.http, up.fased, up.output

    async def kill_some(self, chance: random.Random) -> int:
        """See `Shape`: all of it."""
        await self.up.kill()
        await self.up.start()
        return SLOTS


class ManyProcesses:
    """Six services, most of them twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._spared: list[str] = []
        self.http, self.fased, self.output = cluster.http, cluster.fased, cluster.output

    async def kill_some(self, chance: random.Random) -> int:
        """See `Shape`: three processes, whichever they are; after three times nearly all were."""
        if len(self._spared) < 3:
            self._spared = chance.sample(list(self.cluster.members), len(self.cluster.members))
        names, self._spared = self._spared[:3], self._spared[3:]
        await self.cluster.kill(*names)
        await self.cluster.start(*names)
        return SLOTS * sum(name.startswith("executor") for name in names)


@asynccontextmanager
async def running_shape(name: str, **environment: str) -> AsyncIterator[Shape]:
    """One of `SHAPES`, gone after the block."""
    if name == CLUSTER:
        async with running_cluster(**environment) as cluster:
            yield ManyProcesses(cluster)
    else:
        async with running_up(**environment) as up:
            yield OneProcess(up)
