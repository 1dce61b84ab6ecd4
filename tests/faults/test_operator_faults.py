"""Custom resources while parts fail: a killed apiserver, cut watches, a frozen operator, services
that are away. Whatever was said last stands in the end.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as scheduler_pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.member import Member
from tests.support.operators import Operated, eventually, manifest, operated, task

ACTIVE = "fased_operator_active 1.0"


@pytest.fixture
async def cluster(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> AsyncIterator[Operated]:
    async with operated(own_apiserver, database_url, tmp_path) as one:
        yield one


async def display_name(cluster: Operated, agent_id: str) -> str:
    """The name that an Agent shows, `""` where there is none."""
    stub = policy_service_pb2_grpc.AgentServiceStub(cluster.running.channel)
    listed = await stub.ListAgents(pb.ListAgentsRequest(parent=f"namespaces/{cluster.here}"))
    names = {each.name.rpartition("/")[2]: each.display_name for each in listed.agents}
    return names.get(agent_id, "")


async def until_named(cluster: Operated, agent_id: str, name: str) -> None:
    await eventually(partial(display_name, cluster, agent_id), lambda shown: shown == name)


async def rows(cluster: Operated) -> int:
    """How many tasks stand in the services."""
    stub = scheduler_service_pb2_grpc.TaskServiceStub(cluster.running.channel)
    request = scheduler_pb.ListTasksRequest(parent=f"namespaces/{cluster.here}")
    return len((await stub.ListTasks(request)).tasks)


async def active(operators: Sequence[Member]) -> list[Member]:
    """Those of them that hold the Lease."""
    return [each for each in operators if ACTIVE in (await each.metrics()).splitlines()]


async def until_active(*operators: Member) -> None:
    await eventually(partial(active, operators), bool)


async def test_a_killed_apiserver_hides_no_change(
    cluster: Operated, own_apiserver: Apiserver
) -> None:
    operator = await cluster.start()
    await cluster.apply(
        manifest("Agent", "main", cluster.here),
        manifest("Agent", "old", cluster.here, displayName="Old"),
        task("gone", cluster.here),
        task("kept", cluster.here),
    )
    for name in ("gone", "kept"):
        await cluster.until_ready("Task", name, cluster.here)
    for _ in range(2):
        own_apiserver.kill()
        await own_apiserver.restart()
    # While the operator cannot see: watches begin anew by themselves, each at its own time.
    operator.signal(signal.SIGSTOP)
    own_apiserver.kill()
    await own_apiserver.restart()
    where = f"--namespace={cluster.here}"
    await own_apiserver.kubectl("delete", where, "--wait=false", "task/gone")
    await cluster.apply(
        manifest("Agent", "old", cluster.here, displayName="New"),
        task("kept", cluster.here, trigger={"every": {"interval": "2h"}}),
        task("made", cluster.here),
    )
    operator.signal(signal.SIGCONT)
    await cluster.until_ready("Task", "made", cluster.here)
    status = await cluster.until_ready("Task", "kept", cluster.here)
    assert status["trigger"] == "every 2h"
    await until_named(cluster, "old", "New")
    await eventually(partial(rows, cluster), lambda count: count == 2)


async def test_a_frozen_operator_brings_no_old_spec_back(cluster: Operated) -> None:
    first = await cluster.start()
    await until_active(first)
    second = await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="One"))
    await until_named(cluster, "main", "One")
    first.signal(signal.SIGSTOP)
    # What the frozen one will believe when it thaws; the other acts on what comes after.
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="Two"))
    await until_active(second)
    await until_named(cluster, "main", "Two")
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="Three"))
    await until_named(cluster, "main", "Three")
    first.signal(signal.SIGCONT)
    await eventually(partial(active, [first]), lambda found: not found)
    body = await cluster.get("Agent", "main", cluster.here)
    assert body["status"]["observedGeneration"] == 3
    assert await display_name(cluster, "main") == "Three"
    # It takes over again when it is the last one.
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="Four"))
    await until_named(cluster, "main", "Four")
    second.signal(signal.SIGKILL)
    await second.ended()
    await until_active(first)
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="Five"))
    await until_named(cluster, "main", "Five")


async def test_a_stopped_operator_hands_over_at_once(cluster: Operated) -> None:
    first = await cluster.start(FASED_LEASE_S="60")
    await until_active(first)
    second = await cluster.start(FASED_LEASE_S="10")
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    # Far sooner than its Lease of a minute would have ended.
    await until_active(second)


async def test_services_that_are_away_leave_conditions_as_they_are(cluster: Operated) -> None:
    address = "unix:/nowhere/at/all"
    operator = await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here), task("one", cluster.here))
    before = await cluster.until_ready("Task", "one", cluster.here)
    await cluster.end()
    await operator.start({**cluster.environment, "FASED_SCHEDULER_ADDRESS": address})
    await eventually(partial(asyncio.to_thread, operator.output), _is_put_off)
    after = (await cluster.get("Task", "one", cluster.here))["status"]
    assert after == before


def _is_put_off(output: str) -> bool:
    return "reconcile_put_off" in output
