"""The `fased` command as a process of its own, as a person runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 60
POLL_PERIOD_S = 0.05
_BARE = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")

Ended = subprocess.CompletedProcess[str]


def fased(state_dir: Path, *words: str, stdin: str = "", **environment: str) -> Ended:
    """Run `fased` with these words and only these settings; gives what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        env=settings(state_dir, **environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def settings(state_dir: Path, **environment: str) -> dict[str, str]:
    """An environment with this state folder, these variables and nothing of this machine's."""
    kept = {name: os.environ[name] for name in _BARE if name in os.environ}
    return {**kept, "FASED_STATE_DIR": str(state_dir), **environment}


@contextmanager
def running_up(base: Path, **environment: str) -> Iterator[Path]:
    """A `fased up` on `base`/state, stopped after the block; gives that folder."""
    state_dir, log = base / "state", base / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--port", "0"],
            env=settings(state_dir, FASED_POSTGRES_SYSTEM_DIR=str(base / "system"), **environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not (state_dir / "gateway.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"fased up did not come up: {log.read_text()[-4000:]}")
            time.sleep(POLL_PERIOD_S)
        yield state_dir
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_S)
