"""A program of the tests' Kubernetes that runs on its own. Decides nothing of what it does."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

START_TIMEOUT_S = 90.0
POLL_PERIOD_S = 0.1


class Daemon:
    """A process with a log, to be killed and started again."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._command = command
        self._folder = folder
        self._environment = environment
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a moment to serve."""
        assert self._process is None, f"{self.name} runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill -9, if it runs; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def until(self, what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something it brings about; raises its last words when it ends instead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await is_so():
            has_ended = self._process is None or self._process.poll() is not None
            if has_ended or time.monotonic() > deadline:
                lines = self._log.read_text(errors="replace").splitlines()[-30:]
                raise AssertionError("\n".join([f"{self.name}: waited for {what}:", *lines]))
            await asyncio.sleep(POLL_PERIOD_S)


def flag_words(flags: Mapping[str, str]) -> list[str]:
    """Flags as a command takes them."""
    return [f"--{name}={value}" for name, value in flags.items()]
