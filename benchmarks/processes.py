"""What processes used while something was measured. Decides whose CPU time and memory count."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds (user and system) since the process began, and resident bytes."""

    cpu_s: float
    rss_bytes: int


def used(pids: Mapping[str, int]) -> dict[str, Used]:
    """What each process used, its threads included and its children not."""
    return {name: _used(psutil.Process(pid)) for name, pid in pids.items()}


def family_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children, those that have ended too."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    ended_s: float = times.children_user + times.children_system
    return _used(process).cpu_s + ended_s + sum(_living_cpu_s(each) for each in process.children())


def _used(process: psutil.Process) -> Used:
    times = process.cpu_times()
    return Used(times.user + times.system, process.memory_info().rss)


def _living_cpu_s(process: psutil.Process) -> float:
    try:
        return _used(process).cpu_s
    except psutil.NoSuchProcess:
        return 0.0
