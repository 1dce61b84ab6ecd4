"""The `fased` command as a process of its own, as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 60
_BARE = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")

Ended = subprocess.CompletedProcess[str]


def fased(state_dir: Path, *words: str, stdin: str = "", **environment: str) -> Ended:
    """Run `fased` with these words and only these settings; gives what it printed."""
    kept = {name: os.environ[name] for name in _BARE if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        env={**kept, "FASED_STATE_DIR": str(state_dir), **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
