"""One service as a process of its own. Decides none of its behaviour."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx2 as httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import ports

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
POLL_PERIOD_S = 0.1
_BARE = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")


def bare_environment() -> dict[str, str]:
    """What a process needs of this machine, and nothing that is set for ourselves."""
    return {name: os.environ[name] for name in _BARE if name in os.environ}


@dataclass
class Member:
    """`python -m services.<service>`; its ports stay its own when it is started again."""

    service: str
    log: Path
    listen_port: int = field(default_factory=ports.free_port)
    metrics_port: int = field(default_factory=ports.free_port)
    webhook_port: int = field(default_factory=ports.free_port)
    process: asyncio.subprocess.Process | None = None
    is_frozen: bool = False

    @property
    def address(self) -> str:
        """Where its gRPC server listens."""
        return f"127.0.0.1:{self.listen_port}"

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start it with this environment; it may take a moment to serve."""
        assert self.process is None, f"{self.service} runs already"
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"services.{self.service}"),
                env={
                    **environment,
                    "FASED_LISTEN": self.address,
                    "FASED_METRICS_LISTEN": f"127.0.0.1:{self.metrics_port}",
                    "FASED_WEBHOOK_LISTEN": f"127.0.0.1:{self.webhook_port}",
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until_serving(self) -> None:
        """Wait until it serves; raises what it printed when it ends instead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await self.is_serving():
            if self._running().returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.service} does not serve:\n{self.output()[-4000:]}")
            await asyncio.sleep(POLL_PERIOD_S)

    async def is_serving(self) -> bool:
        """Whether its health answers SERVING."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def signal(self, how: signal.Signals) -> None:
        """Send a signal; SIGSTOP leaves its connections open, and nothing is answered."""
        self._running().send_signal(how)
        self.is_frozen = how is signal.SIGSTOP

    async def ended(self) -> int:
        """Its exit code, once it is gone."""
        async with asyncio.timeout(STOP_TIMEOUT_S):
            code = await self._running().wait()
        self.process, self.is_frozen = None, False
        return code

    async def end(self) -> None:
        """Stop it if it runs, frozen or not."""
        if self.process is None:
            return
        if self.is_frozen:
            self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        await self.ended()

    async def metrics(self) -> str:
        """What it tells Prometheus."""
        async with httpx.AsyncClient(timeout=10) as client:
            return (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text

    def output(self) -> str:
        """All that it printed, through all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _running(self) -> asyncio.subprocess.Process:
        assert self.process is not None, f"{self.service} does not run"
        return self.process
