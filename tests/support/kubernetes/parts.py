"""Where the programs of the tests' Kubernetes are, built first where they are not. Decides no
versions: those are in `modules/` and in `scripts/ensure-kubernetes.sh`.
"""

import functools
import os
import subprocess
from pathlib import Path
from typing import Literal

Level = Literal["api", "cluster"]

CONFIG = Path(__file__).parent / "config"
_ENSURE = Path(__file__).parents[3] / "scripts" / "ensure-kubernetes.sh"


@functools.cache
def folders(level: Level) -> dict[str, Path]:
    """The folder of each part by its name; building them may take minutes, once."""
    done = subprocess.run([_ENSURE, level], check=True, stdout=subprocess.PIPE, text=True)
    return {name: Path(folder) for name, folder in map(_words, done.stdout.splitlines())}


def search_path(level: Level) -> str:
    """A `PATH` on which the parts come first, then what this machine has."""
    ours = [str(folder) for folder in folders(level).values()]
    return ":".join([*ours, os.environ["PATH"], "/usr/sbin", "/sbin"])


def helm() -> Path:
    """The Helm program, for charts that no cluster is asked about."""
    return folders("api")["helm"] / "helm"


def _words(line: str) -> tuple[str, str]:
    name, _, folder = line.partition(" ")
    return name, folder
