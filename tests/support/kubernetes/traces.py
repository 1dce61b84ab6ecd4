"""What a cluster may leave behind on its machine. Decides what counts: not what others do there."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TABLES = ("filter", "nat", "mangle")


def traces() -> dict[str, set[str]]:
    """Links, routes, firewall rules, mounts, and processes in namespaces of their own, by kind."""
    return {
        "links": _lines("ip", "-oneline", "link", drop_numbers=True),
        "routes": _lines("ip", "route"),
        "rules": {
            f"{table}: {rule}"
            for table in _TABLES
            for rule in _lines("iptables", "--table", table, "--list-rules")
        },
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "processes": set(_strangers()),
    }


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail after the block when it left anything that was not there before."""
    before = traces()
    yield
    left = {kind: found - before[kind] for kind, found in traces().items()}
    assert not any(left.values()), left


def _strangers() -> Iterator[str]:
    """Processes whose namespace of processes is not ours: those of pods and of nodes."""
    ours = os.readlink("/proc/self/ns/pid")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.readlink(folder / "ns" / "pid") != ours:
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    yield f"{folder.name} {command.decode(errors='replace')}"
            except OSError:
                # It ended meanwhile.
                continue


def _lines(*words: str, drop_numbers: bool = False) -> set[str]:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    return {line.partition(": ")[2].partition(":")[0] if drop_numbers else line for line in lines}
