"""A resource from its making to its end: what stands in the services for it, and in its status."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.operators import Operated, eventually, manifest, operated, task

RUN_NOW = "fased.dev/run-now"
PAUSED = "fased.dev/paused"


@pytest.fixture
async def cluster(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> AsyncIterator[Operated]:
    async with operated(own_apiserver, database_url, tmp_path) as one:
        yield one


async def agents(cluster: Operated, namespace: str) -> dict[str, str]:
    """Agents by id, with their owners."""
    stub = policy_service_pb2_grpc.AgentServiceStub(cluster.running.channel)
    answer = await stub.ListAgents(policy_pb.ListAgentsRequest(parent=f"namespaces/{namespace}"))
    return {each.name.rpartition("/")[2]: each.managed_by for each in answer.agents}


async def tasks(cluster: Operated, namespace: str) -> list[str]:
    """The names of tasks."""
    stub = scheduler_service_pb2_grpc.TaskServiceStub(cluster.running.channel)
    answer = await stub.ListTasks(pb.ListTasksRequest(parent=f"namespaces/{namespace}"))
    return [each.display_name for each in answer.tasks]


async def runs(cluster: Operated, namespace: str) -> list[Any]:
    stub = scheduler_service_pb2_grpc.RunServiceStub(cluster.running.channel)
    answer = await stub.ListRuns(pb.ListRunsRequest(parent=f"namespaces/{namespace}"))
    return list(answer.runs)


async def until_tasks(cluster: Operated, namespace: str, names: list[str]) -> None:
    await eventually(partial(tasks, cluster, namespace), lambda found: sorted(found) == names)


async def uid(cluster: Operated, kind: str, name: str) -> str:
    found: str = (await cluster.get(kind, name, cluster.here))["metadata"]["uid"]
    return found


async def annotate(cluster: Operated, name: str, words: str) -> None:
    where = (f"--namespace={cluster.here}", "--overwrite")
    await cluster.kubernetes.kubectl("annotate", "task", name, words, *where)


async def test_what_is_applied_stands_under_its_uid_and_goes_with_its_resource(
    cluster: Operated,
) -> None:
    await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here), task("one", cluster.here))
    await cluster.until_ready("Task", "one", cluster.here)
    owner = f"resource:{await uid(cluster, 'Agent', 'main')}"
    assert await agents(cluster, cluster.here) == {"main": owner}
    assert await tasks(cluster, cluster.here) == ["one"]
    words = ("delete", "--wait", "--timeout=20s", f"--namespace={cluster.here}")
    await cluster.kubernetes.kubectl(*words, "task/one", "agent/main")
    await until_tasks(cluster, cluster.here, [])
    await eventually(partial(agents, cluster, cluster.here), lambda found: not found)


async def test_what_was_deleted_while_no_operator_ran_goes_at_its_start(cluster: Operated) -> None:
    operator = await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here), task("one", cluster.here))
    await cluster.until_ready("Task", "one", cluster.here)
    await cluster.end()
    where = f"--namespace={cluster.here}"
    await cluster.kubernetes.kubectl("delete", where, "task/one")
    # The same name again is another resource, which takes over nothing but the name.
    await cluster.apply(task("one", cluster.here, prompt="Another"), task("two", cluster.here))
    assert await tasks(cluster, cluster.here) == ["one"]
    await operator.start(cluster.environment)
    await until_tasks(cluster, cluster.here, ["one", "two"])
    await cluster.until_ready("Task", "one", cluster.here)


async def test_an_agent_made_again_under_its_name_takes_the_old_ones_place(
    cluster: Operated,
) -> None:
    operator = await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="Old"))
    await cluster.until_condition("Agent", "main", cluster.here, "Accepted", "ACCEPTED")
    await cluster.end()
    await cluster.kubernetes.kubectl("delete", f"--namespace={cluster.here}", "agent/main")
    await cluster.apply(manifest("Agent", "main", cluster.here, displayName="New"))
    await operator.start({**cluster.environment, "FASED_SWEEP_S": "600"})
    await cluster.until_condition("Agent", "main", cluster.here, "Accepted", "ACCEPTED")
    owner = f"resource:{await uid(cluster, 'Agent', 'main')}"
    assert await agents(cluster, cluster.here) == {"main": owner}


async def test_run_now_makes_one_run_for_each_value_and_tells_how_it_ended(
    cluster: Operated,
) -> None:
    operator = await cluster.start()
    await cluster.apply(
        manifest("Agent", "main", cluster.here),
        task("greet", cluster.here, annotations={RUN_NOW: "first"}),
    )
    body = await cluster.until(
        "Task", "greet", cluster.here, lambda status: status.get("lastResult") == "succeeded"
    )
    assert body["status"]["runNow"] == "first"
    assert body["status"]["lastTime"]
    assert len(await runs(cluster, cluster.here)) == 1
    await annotate(cluster, "greet", f"{RUN_NOW}=second")
    first = body["status"]["lastRunId"]
    body = await cluster.until(
        "Task", "greet", cluster.here, lambda status: status.get("lastRunId", first) != first
    )
    assert body["status"]["runNow"] == "second"
    # Status forgets what was carried out: the run's id remembers.
    forgotten = json.dumps({"status": {"runNow": None}})
    await cluster.kubernetes.kubectl(
        "patch", "task", "greet", f"--namespace={cluster.here}", "--subresource=status",
        "--type=merge", f"--patch={forgotten}",
    )  # fmt: skip
    await cluster.until(
        "Task", "greet", cluster.here, lambda status: status.get("runNow") == "second"
    )
    assert len(await runs(cluster, cluster.here)) == 2
    assert "Traceback" not in operator.output()


async def test_a_run_that_is_asked_of_a_blocked_task_is_made_when_it_is_not_any_more(
    cluster: Operated,
) -> None:
    await cluster.start()
    await cluster.apply(task("early", cluster.here, annotations={RUN_NOW: "1"}))
    await cluster.until_condition("Task", "early", cluster.here, "Ready", "AGENT_MISSING")
    assert await runs(cluster, cluster.here) == []
    await cluster.apply(manifest("Agent", "main", cluster.here))
    await cluster.until(
        "Task", "early", cluster.here, lambda status: status.get("lastResult") == "succeeded"
    )


async def test_a_task_is_paused_and_resumed_by_its_annotation(cluster: Operated) -> None:
    await cluster.start()
    trigger = {"every": {"interval": "1h"}}
    await cluster.apply(
        manifest("Agent", "main", cluster.here), task("held", cluster.here, trigger=trigger)
    )
    await cluster.until_ready("Task", "held", cluster.here)
    await annotate(cluster, "held", f"{PAUSED}=true")
    body = await cluster.until(
        "Task", "held", cluster.here, lambda status: status.get("state") == "paused"
    )
    assert body["status"]["paused"] is True
    await annotate(cluster, "held", f"{PAUSED}-")
    body = await cluster.until(
        "Task", "held", cluster.here, lambda status: status.get("state") == "active"
    )
    assert "paused" not in body["status"]


async def test_an_edit_is_what_stands_and_status_says_for_which_generation(
    cluster: Operated,
) -> None:
    await cluster.start()
    trigger = {"cron": {"expression": "0 9 * * *", "timezone": "Europe/Berlin"}}
    await cluster.apply(
        manifest("Agent", "main", cluster.here), task("daily", cluster.here, trigger=trigger)
    )
    status = await cluster.until_ready("Task", "daily", cluster.here)
    assert status["trigger"] == "cron 0 9 * * * (Europe/Berlin)"
    trigger = {"every": {"interval": "30m"}}
    await cluster.apply(task("daily", cluster.here, trigger=trigger))
    status = await cluster.until_ready("Task", "daily", cluster.here)
    assert status["trigger"] == "every 30m"
    assert status["observedGeneration"] == 2
    assert {each["observedGeneration"] for each in status["conditions"]} == {2}


async def test_a_status_that_somebody_else_wrote_is_mended(cluster: Operated) -> None:
    await cluster.start()
    await cluster.apply(manifest("Agent", "main", cluster.here), task("one", cluster.here))
    await cluster.until_ready("Task", "one", cluster.here)
    patch = json.dumps({"status": {"state": "disabled", "conditions": []}})
    where = (f"--namespace={cluster.here}", "--subresource=status", "--type=merge")
    await cluster.kubernetes.kubectl("patch", "task", "one", *where, f"--patch={patch}")
    body = await cluster.until(
        "Task", "one", cluster.here, lambda status: status.get("state") == "active"
    )
    assert [each["status"] for each in body["status"]["conditions"]] == ["True"] * 4
