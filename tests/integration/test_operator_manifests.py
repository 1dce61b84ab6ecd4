"""Wrong manifests: refused where they are applied, with the field and why; or not accepted, in the
words that the CLI has for it.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from fased.core.errors import FasedError
from fased.core.resource_definitions import task_of
from fased.core.resources import Kind, read_resource
from fased.wire.tasks import task_to_pb
from tests.support.kubernetes.access import CommandFailed
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.operators import Operated, condition, manifest, operated

CASES = Path(__file__).parents[1] / "cases" / "manifests"


def cases() -> dict[str, Mapping[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CASES.glob("*.yaml"))}


async def problems(cluster: Operated, case: Mapping[str, Any]) -> list[str]:
    """What is otherwise than the case expects."""
    body = dict(case["manifest"])
    body["metadata"] = {**body["metadata"], "namespace": cluster.here}
    expected = case["expect"]
    try:
        await cluster.apply(body)
        said = ""
    except CommandFailed as exc:
        said = str(exc)
    if "refused" in expected:
        return [word for word in expected["refused"].values() if word not in said]
    return [said] if said else await not_accepted(cluster, body, **expected["accepted"])


async def not_accepted(
    cluster: Operated, body: Mapping[str, Any], reason: str, words: str
) -> list[str]:
    kind, name = body["kind"], body["metadata"]["name"]
    seen = await cluster.until(
        kind, name, cluster.here, lambda status: bool(condition(status, "Accepted"))
    )
    found = condition(seen["status"], "Accepted")
    by_command = await refusal(cluster, seen)
    wanted = (
        (found["status"], "False"),
        (found["reason"], reason),
        (found["message"], by_command),
        (words in found["message"], True),
    )
    return [f"{is_so}, not {should_be}" for is_so, should_be in wanted if is_so != should_be]


async def refusal(cluster: Operated, body: Mapping[str, Any]) -> str:
    """What the scheduler answers the CLI for the same task."""
    task = task_to_pb(task_of(read_resource(Kind.TASK, body)))
    tasks = scheduler_service_pb2_grpc.TaskServiceStub(cluster.running.channel)
    try:
        await tasks.CreateTask(pb.CreateTaskRequest(parent=f"namespaces/{cluster.here}", task=task))
    except FasedError as exc:
        return exc.message
    return "nothing"


async def test_wrong_manifests_name_the_field_and_the_reason(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> None:
    async with operated(own_apiserver, database_url, tmp_path) as cluster:
        await cluster.start()
        await cluster.apply(manifest("Agent", "main", cluster.here))
        found = cases()
        assert len(found) >= 20
        wrong = await asyncio.gather(*(problems(cluster, case) for case in found.values()))
        assert {name: each for name, each in zip(found, wrong, strict=True) if each} == {}


async def test_what_a_resource_is_about_cannot_be_changed(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> None:
    async with operated(own_apiserver, database_url, tmp_path) as cluster:
        spec = {"prompt": "Hello", "trigger": {"manual": {}}}
        await cluster.apply(manifest("Task", "one", cluster.here, agent="main", **spec))
        try:
            await cluster.apply(manifest("Task", "one", cluster.here, agent="other", **spec))
            said = ""
        except CommandFailed as exc:
            said = str(exc)
        assert "spec.agent" in said
        assert "a task stays with its Agent" in said
