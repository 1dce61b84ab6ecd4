"""`fased up` as a process of its own, as a person starts it, and a client of its pages' API."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx

from cli import postgres_home, postmaster
from tests.support.postgres import remove_database, temporary_folder

START_TIMEOUT_S = 60.0
# Nothing listens there, so no Ollama of this machine takes part.
NO_OLLAMA = {"OLLAMA_HOST": "127.0.0.1:9"}
_BARE = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")


@asynccontextmanager
async def running_up(
    configuration: Mapping[str, Any] | None = None, /, **environment: str
) -> AsyncIterator["Up"]:
    """A `fased up` on a folder of its own, stopped after the block; its database goes with it.

    `configuration` is what its fased.json says.
    """
    with temporary_folder() as base:
        up = Up(base / "state", {"HOME": str(base), **NO_OLLAMA, **environment})
        if configuration:
            up.state_dir.mkdir(mode=0o700)
            (up.state_dir / "fased.json").write_text(json.dumps(configuration))
        try:
            await up.start()
            yield up
        finally:
            if up.process is not None and up.process.returncode is None:
                await up.stop()
            remove_database(up.state_dir)


@dataclass
class Up:
    """A `fased up` on a state folder of its own; it can be killed and started again."""

    state_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    started_in_s: float = 0.0

    async def start(self) -> None:
        """Start it and wait until its gateway answers; raises what it printed when it ends."""
        began = time.monotonic()
        known = self._known_start()
        log = (self.state_dir.parent / f"{self.state_dir.name}.log").open("ab")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli.main", "up", *self._words()),
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while time.monotonic() - began < START_TIMEOUT_S:
            if self.process.returncode is not None:
                raise AssertionError(f"fased up ended: {self.output()[-4000:]}")
            if self._known_start() not in (None, known) and await self._answers():
                self.started_in_s = time.monotonic() - began
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"fased up did not come up: {self.output()[-4000:]}")

    async def kill(self) -> None:
        """kill -9, as a power cut would end it; PostgreSQL lives on."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ctrl-C; gives the exit code."""
        return await self._end(signal.SIGINT)

    def kill_postgres(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End its PostgreSQL: SIGKILL as the kernel would, SIGQUIT as `-m immediate` does."""
        os.kill(self._postmaster().pid, how)

    @property
    def dsn(self) -> str:
        """Its database, which is there while the process is killed too."""
        role, database = postgres_home.ROLE, postgres_home.DATABASE
        where = f"host={quote(str(self._postmaster().sockets))}&port={postgres_home.PORT}"
        return f"postgresql://{role}@/{database}?{where}"

    def gateway(self) -> dict[str, Any]:
        """What `fased up` wrote for its clients: addresses, token, pid."""
        content: dict[str, Any] = json.loads((self.state_dir / "gateway.json").read_text())
        return content

    def output(self) -> str:
        """All that its starts printed."""
        log = self.state_dir.parent / f"{self.state_dir.name}.log"
        return log.read_text(errors="replace")

    def fased(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a `fased` command against it."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            env={**self._environment(), **more},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    @asynccontextmanager
    async def http(self, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of its HTTP API, with the console's token unless another is given."""
        gateway = self.gateway()
        headers = {"Authorization": f"Bearer {gateway['token'] if token is None else token}"}
        async with httpx.AsyncClient(
            base_url=gateway["http"], headers=headers, timeout=30
        ) as client:
            yield client

    def _postmaster(self) -> postmaster.Postmaster:
        home, pointer = self.state_dir / "postgres", self.state_dir / postgres_home.POINTER
        if pointer.exists():
            home = Path(pointer.read_text().strip())
        found = postmaster.read(home / "data")
        assert found is not None
        return found

    def _words(self) -> list[str]:
        return ["--state-dir", str(self.state_dir), "--port", str(self.port)]

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _BARE if name in os.environ}
        return {**kept, "FASED_STATE_DIR": str(self.state_dir), **self.environment}

    def _known_start(self) -> float | None:
        try:
            return float(self.gateway()["started"])
        except (FileNotFoundError, ValueError):
            return None

    async def _answers(self) -> bool:
        try:
            async with self.http() as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        async with asyncio.timeout(30):
            code = await self.process.wait()
        self.process = None
        return code
