"""Measures the operator on a real apiserver: tasks as resources, until all of them are Ready.

`python -m benchmarks.reconciles [--tasks N]` starts etcd, kube-apiserver and PostgreSQL, runs the
services in this program's process and the operator as one of its own, and prints one JSON line a
figure:

- `first`: all resources are there, then the operator starts; until the last status says Ready.
- `edited`: each prompt is changed, as fast as the apiserver takes it; until the last one is Ready.
- `restarted`: the operator is killed and started again; until it has looked at each, and what it
  wrote by the apiserver's audit log.

`cpu_ms_each` is the CPU time of each part for a task; `services` is this program's process, which
also sends the edits. `resident_mib` is what the operator has at the end, `peak_mib` the most it
had. It asserts nothing about time.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2
import psutil

from benchmarks import processes
from fased.store import migrate
from fased.telemetry import logging
from tests.support.kubernetes.apiserver import Apiserver, temporary_apiserver
from tests.support.member import Member
from tests.support.operators import Operated, manifest, operated, task
from tests.support.postgres import temporary_folder, temporary_server

TASKS = 2000
POLL_S = 0.25
TIMEOUT_S = 600.0
WRITERS = 16
_WRITES = {"create", "update", "patch", "delete"}
_TASKS = "/apis/fased.dev/v1alpha1/namespaces/{}/tasks"
_PARTS = ("operator", "kube-apiserver", "etcd", "postgres")
# A status whose answer was lost is not counted: the end is counted at the apiserver.
_ALMOST = 0.98
_LOOKED = 'fased_reconciles_total{kind="Task",outcome="ready"} '
_WRITTEN = 'fased_statuses_written_total{kind="Task"} '


def main(count: int) -> None:
    """Measure and print."""
    logging.configure("benchmark", level="ERROR")
    with (
        temporary_apiserver() as apiserver,
        temporary_server() as postgres,
        temporary_folder() as folder,
    ):
        asyncio.run(_run(apiserver, postgres.dsn, folder, count))


async def _run(apiserver: Apiserver, dsn: str, folder: Path, count: int) -> None:
    await migrate.upgrade(dsn)
    async with operated(apiserver, dsn, folder) as cluster:
        await _measure(apiserver, cluster, count)


async def _measure(apiserver: Apiserver, cluster: Operated, count: int) -> None:
    bodies = [_task(cluster, number, "Hello") for number in range(count)]
    await cluster.apply(manifest("Agent", "main", cluster.here))
    await _send(apiserver, "POST", [(_TASKS.format(cluster.here), body) for body in bodies])
    quiet = {"FASED_POLL_S": "15", "FASED_SWEEP_S": "60", "FASED_LEASE_S": "15"}
    operator = await cluster.start(**quiet)

    async def written() -> int:
        """How many are Ready, counted by what was written until it may be all of them."""
        seen = int(await _value(operator, _WRITTEN)) - before
        return seen if seen < count * _ALMOST else await _ready(apiserver, cluster)

    before = 0
    await _tell("first", operator, count, written)
    before = int(await _value(operator, _WRITTEN))
    edited = [_task(cluster, number, "Hello again") for number in range(count)]
    sending = asyncio.create_task(_edit(apiserver, cluster, edited))
    await _tell("edited", operator, count, written)
    await sending
    mark = apiserver.audit_mark()
    operator.signal(signal.SIGKILL)
    await operator.ended()
    await operator.start({**cluster.environment, **quiet})
    await operator.until_serving()

    async def looked_at() -> int:
        return int(await _value(operator, _LOOKED))

    await _tell("restarted", operator, count, looked_at)
    writes = Counter(
        each.resource
        for each in apiserver.audit(mark)
        if each.user.startswith("operator-") and each.verb in _WRITES
    )
    print(json.dumps({"figure": "restarted_writes", **writes}), flush=True)


async def _tell(
    figure: str,
    operator: Member,
    count: int,
    done: Callable[[], Awaitable[int]],
) -> None:
    """Print what it takes until `done` says the count."""
    assert operator.process is not None
    pid = operator.process.pid
    before, began, peak, seen = _cpu_s(pid), 0.0, 0, 0
    deadline = time.monotonic() + TIMEOUT_S
    while seen < count and time.monotonic() < deadline:
        # From when it has the Lease and the first one is done.
        began = began or (time.monotonic() if seen else 0.0)
        peak = max(peak, _resident(pid))
        await asyncio.sleep(POLL_S)
        seen = await done()
    seconds, after = time.monotonic() - (began or time.monotonic()), _cpu_s(pid)
    print(
        json.dumps(
            {
                "figure": figure,
                "tasks": count,
                "done": seen,
                "seconds": round(seconds, 2),
                "reconciles_per_s": round(count / seconds, 1) if seconds else None,
                "cpu_ms_each": {
                    name: round((used - before.get(name, 0.0)) / count * 1e3, 2)
                    for name, used in sorted(after.items())
                },
                "resident_mib": round(_resident(pid) / 2**20, 1),
                "peak_mib": round(max(peak, _resident(pid)) / 2**20, 1),
                "load": os.getloadavg()[0],
                **_machine(),
            }
        ),
        flush=True,
    )


def _task(cluster: Operated, number: int, prompt: str) -> dict[str, Any]:
    trigger = {"cron": {"expression": f"{number % 60} 3 * * *", "timezone": "Europe/Berlin"}}
    return task(f"task-{number}", cluster.here, trigger=trigger, prompt=f"{prompt} {number}")


async def _edit(apiserver: Apiserver, cluster: Operated, bodies: list[dict[str, Any]]) -> None:
    paths = [f"{_TASKS.format(cluster.here)}/{body['metadata']['name']}" for body in bodies]
    patches = [{"spec": {"prompt": body["spec"]["prompt"]}} for body in bodies]
    await _send(apiserver, "PATCH", list(zip(paths, patches, strict=True)))


async def _send(apiserver: Apiserver, method: str, requests: list[tuple[str, Any]]) -> None:
    waiting = iter(requests)
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"

    async def send(client: httpx2.AsyncClient) -> None:
        for path, body in waiting:
            answer = await client.request(
                method, path, content=json.dumps(body), headers={"Content-Type": kind}
            )
            answer.raise_for_status()

    async with apiserver.http() as client:
        await asyncio.gather(*(send(client) for _ in range(WRITERS)))


async def _ready(apiserver: Apiserver, cluster: Operated) -> int:
    async with apiserver.http() as client:
        listed = (await client.get(_TASKS.format(cluster.here))).json()["items"]
    return sum(
        any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        for item in listed
        if (conditions := item.get("status", {}).get("conditions"))
        and item["status"]["observedGeneration"] == item["metadata"]["generation"]
    )


async def _value(operator: Member, line: str) -> float:
    """A metric of the operator, read with little work of our own."""
    text = await asyncio.to_thread(_read, f"http://127.0.0.1:{operator.metrics_port}/metrics")
    for each in text.splitlines():
        if each.startswith(line):
            return float(each.split()[-1])
    return 0.0


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _cpu_s(operator: int) -> dict[str, float]:
    """CPU seconds of each part by now."""
    own = psutil.Process()
    found = {"services": own.cpu_times().user + own.cpu_times().system}
    for process in own.children(recursive=True):
        try:
            times, name = process.cpu_times(), process.name()
        except psutil.NoSuchProcess:
            continue
        part = "operator" if process.pid == operator else name
        if part in _PARTS:
            found[part] = found.get(part, 0.0) + times.user + times.system
    return found


def _resident(pid: int) -> int:
    return processes.used({"operator": pid})["operator"].rss_bytes


def _machine() -> dict[str, Any]:
    return {
        "cores": psutil.cpu_count(),
        "python": platform.python_version(),
        "kopf": metadata.version("kopf"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=TASKS)
    main(parser.parse_args().tasks)
