"""The machine in the machine on which a node of the tests runs. Decides where it is, not what
runs on it.
"""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

HOST_ADDRESS = "10.200.0.1"
NODE_ADDRESS = "10.200.0.2"
SERVICE_ADDRESSES = "10.96.0.0/16"
POD_ADDRESSES = "10.244.0.0/24"
LINK = "fased0"
_ROUTES = (SERVICE_ADDRESSES, POD_ADDRESSES)
START_TIMEOUT_S = 30.0
# All that runs in it is killed at once; removing the images takes longest.
END_TIMEOUT_S = 120.0
_POLL_PERIOD_S = 0.05
_PROGRAM = Path(__file__).with_name("machine.sh")


class Machine:
    """Namespaces that end with their starter, and take all that runs in them along."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    async def start(self) -> None:
        """Make it; returns when programs can be run in it."""
        process, pid = self._open(), self._folder / "pid"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not pid.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "machine.log").read_text()
                raise AssertionError(f"no machine for the node: {said}")
            await asyncio.sleep(_POLL_PERIOD_S)
        self._pid = int(pid.read_text())

    @property
    def within(self) -> Sequence[str]:
        """The command that runs another in it."""
        return ("nsenter", f"--target={self._pid}", "--mount", "--net", "--pid", "--")

    def end(self) -> None:
        """Kill all that runs in it; returns when its folder, link and cgroups are gone."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(END_TIMEOUT_S)

    def _open(self) -> "subprocess.Popen[bytes]":
        with (self._folder / "machine.log").open("wb") as log:
            self._process = subprocess.Popen(
                [_PROGRAM, self._folder, LINK, HOST_ADDRESS, NODE_ADDRESS, *_ROUTES],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._process
