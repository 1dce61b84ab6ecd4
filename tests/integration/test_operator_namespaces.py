"""Two namespaces whose resources have the same names: nothing crosses."""

from pathlib import Path

import pytest

from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from fased.api.types.v1 import access_pb2
from fased.core.errors import FasedError
from fased.rpc.client import open_client
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.operators import Operated, manifest, operated, secret, task

RUN_NOW = {"fased.dev/run-now": "1"}


async def make(cluster: Operated, namespace: str) -> None:
    """The same names in a namespace; what they say names the namespace."""
    match = {"channel": "webchat"}
    key = {"secretKeyRef": {"name": "keys", "key": "key"}}
    await cluster.apply(
        manifest("Agent", "main", namespace, displayName=f"Main of {namespace}", model="own/m"),
        manifest("ModelProvider", "own", namespace, credential=key),
        manifest("Route", "all", namespace, agent="main", match=match),
        task("greet", namespace, prompt=f"Hello {namespace}", annotations=RUN_NOW),
    )


async def test_equal_names_in_two_namespaces_do_not_meet(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> None:
    async with operated(own_apiserver, database_url, tmp_path) as cluster:
        await cluster.start()
        for namespace in (cluster.here, cluster.there):
            await make(cluster, namespace)
        # The Secret of one is none of the other's.
        await secret(own_apiserver, "keys", cluster.here, key="sk-none")
        await cluster.until_ready("ModelProvider", "own", cluster.here)
        found = await cluster.until_condition(
            "ModelProvider", "own", cluster.there, "Ready", "SECRET_MISSING"
        )
        assert cluster.there in found["message"]
        for namespace in (cluster.here, cluster.there):
            await cluster.until_ready("Route", "all", namespace)
            await cluster.until("Task", "greet", namespace, lambda status: "lastRunId" in status)
            await check_rows(cluster, namespace)
        # Deleting one namespace's resources leaves the other's.
        words = ("delete", "agents,tasks,routes,modelproviders", "--all")
        await own_apiserver.kubectl(*words, f"--namespace={cluster.here}")
        await cluster.apply(task("later", cluster.here))
        await cluster.until_condition("Task", "later", cluster.here, "Ready", "AGENT_MISSING")
        await check_rows(cluster, cluster.there)


async def check_rows(cluster: Operated, namespace: str) -> None:
    """Agent, route, task and run of a namespace are its own."""
    channel, parent = cluster.running.channel, f"namespaces/{namespace}"
    agents = policy_service_pb2_grpc.AgentServiceStub(channel)
    listed = await agents.ListAgents(policy_pb.ListAgentsRequest(parent=parent))
    assert [each.display_name for each in listed.agents] == [f"Main of {namespace}"]
    routes = router_service_pb2_grpc.RouteServiceStub(channel)
    bound = await routes.ListBindings(router_pb.ListBindingsRequest(parent=parent))
    assert [each.name for each in bound.bindings] == [f"{parent}/bindings/all"]
    runs = scheduler_service_pb2_grpc.RunServiceStub(channel)
    made = await runs.ListRuns(pb.ListRunsRequest(parent=parent))
    assert [each.body.prompt for each in made.runs] == [f"Hello {namespace}"]


async def test_a_token_of_one_namespace_sees_nothing_of_the_other(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> None:
    async with operated(own_apiserver, database_url, tmp_path) as cluster:
        await cluster.start()
        await cluster.apply(manifest("Agent", "main", cluster.there), task("one", cluster.there))
        await cluster.until_ready("Task", "one", cluster.there)
        tokens = policy_service_pb2_grpc.TokenServiceStub(cluster.running.channel)
        made = await tokens.CreateToken(
            policy_pb.CreateTokenRequest(
                parent=f"namespaces/{cluster.here}", token_id="own", role=access_pb2.ROLE_ADMIN
            )
        )
        caller = await tokens.Authenticate(policy_pb.AuthenticateRequest(secret=made.secret))
        assert list(caller.caller.namespaces) == [cluster.here]
        channel, client = open_client(cluster.running.listen, made.secret)
        try:
            tasks = scheduler_service_pb2_grpc.TaskServiceStub(channel)
            with pytest.raises(FasedError):
                await tasks.ListTasks(pb.ListTasksRequest(parent=f"namespaces/{cluster.there}"))
        finally:
            await client.close()
