"""What is left of a cluster's machine when its starter is killed. Comes before the tests that share
a cluster: there is one machine at a time.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.kubernetes.machine import END_TIMEOUT_S, LINK

_POLL_PERIOD_S = 0.05
_STARTER = """
import asyncio, pathlib, subprocess, sys
from tests.support.kubernetes.machine import Machine

async def run():
    machine = Machine(pathlib.Path(sys.argv[1]))
    await machine.start()
    started = [*machine.within, "sh", "-c", "echo up; exec sleep 3600"]
    subprocess.run(["setsid", *started])

asyncio.run(run())
"""


def test_a_killed_starter_leaves_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="fased-node-", dir="/tmp"))
    words = [sys.executable, "-c", _STARTER, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        first = Path("/proc", (folder / "pid").read_text().strip())
        assert first.exists()
        assert _link().exists()
        starter.kill()
        # The end of all that hold its output: what ran in the machine is gone.
        assert starter.stdout.read() == b""
    deadline = time.monotonic() + END_TIMEOUT_S
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(_POLL_PERIOD_S)
    assert not folder.exists()
    assert not first.exists()
    assert not _link().exists()
    assert not list(Path("/sys/fs/cgroup").glob("**/fased-testbed"))


def _link() -> Path:
    return Path("/sys/class/net") / LINK
