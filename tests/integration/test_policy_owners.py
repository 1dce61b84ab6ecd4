"""Agents and model providers that custom resources define, and what follows for runs and tasks."""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fased.api.policy.v1 import agent_pb2, model_provider_pb2
from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc as grpc_stubs
from fased.core import errors
from fased.core.access import Role
from services.policy import service
from tests.support.calls import acting
from tests.support.services import Running, running

A, B = "namespaces/alpha", "namespaces/beta"


@pytest.fixture
async def up(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, lambda listen, token: [service.open_service]) as started:
        yield started


@pytest.fixture
def agents(up: Running) -> Any:
    return grpc_stubs.AgentServiceStub(up.channel)


@pytest.fixture
def providers(up: Running) -> Any:
    return grpc_stubs.ModelProviderServiceStub(up.channel)


@pytest.fixture
def policy(up: Running) -> Any:
    return grpc_stubs.PolicyServiceStub(up.channel)


def agent(agent_id: str, parent: str = A, **fields: Any) -> agent_pb2.Agent:
    return agent_pb2.Agent(name=f"{parent}/agents/{agent_id}", **fields)


def provider(provider_id: str, parent: str = A, **fields: Any) -> model_provider_pb2.ModelProvider:
    values = {"type": "openai", "base_url": "http://models.svc:8000/v1", **fields}
    return model_provider_pb2.ModelProvider(name=f"{parent}/modelProviders/{provider_id}", **values)


async def apply_agent(
    agents: Any, agent_id: str, *, parent: str = A, generation: int = 1, **fields: Any
) -> pb.ApplyAgentsResponse:
    return await agents.ApplyAgents(  # type: ignore[no-any-return]
        pb.ApplyAgentsRequest(
            parent=parent,
            managed_by=f"resource:{agent_id}",
            agents=[agent(agent_id, parent, **fields)],
            generation=generation,
        )
    )


async def apply(
    providers: Any,
    *wanted: model_provider_pb2.ModelProvider,
    owner: str = "resource:one",
    parent: str = A,
    generation: int = 0,
) -> tuple[list[str], list[str]]:
    answer = await providers.ApplyModelProviders(
        pb.ApplyModelProvidersRequest(
            parent=parent, managed_by=owner, providers=wanted, generation=generation
        )
    )
    return list(answer.changed), list(answer.removed)


async def ids(providers: Any, parent: str = A) -> list[str]:
    listed = await providers.ListModelProviders(pb.ListModelProvidersRequest(parent=parent))
    return [each.name.rpartition("/")[2] for each in listed.providers]


async def decided(policy: Any, namespace: str = "alpha", model: str = "") -> pb.RunDecision:
    run = pb.WantedRun(namespace=namespace, agent_id="main", mode="agent-turn", model=model)
    answer = await policy.DecideRuns(pb.DecideRunsRequest(runs=[run]))
    return answer.decisions[0]  # type: ignore[no-any-return]


async def reasons(policy: Any, model: str = "", usable: Sequence[str] = ()) -> list[str]:
    request = pb.PreflightRequest(
        namespace="alpha",
        agent_id="main",
        mode="agent-turn",
        model=model,
        usable_providers=usable,
    )
    return [each.reason for each in (await policy.Preflight(request)).findings]


async def test_an_older_generation_of_an_agent_is_refused_and_a_gone_one_begins_anew(
    agents: Any,
) -> None:
    assert (await apply_agent(agents, "main", generation=4, model="a/new")).changed == ["main"]
    with pytest.raises(errors.Aborted) as caught:
        await apply_agent(agents, "main", generation=3, model="a/old")
    assert caught.value.reason == "STALE_GENERATION"
    assert not (await apply_agent(agents, "main", generation=4, model="a/new")).changed
    owned = pb.ListAgentOwnersRequest(prefix="resource:")
    [owner] = (await agents.ListAgentOwners(owned)).owners
    assert (owner.namespace, owner.managed_by, owner.generation) == ("alpha", "resource:main", 4)
    nothing = pb.ApplyAgentsRequest(parent=A, managed_by="resource:main", generation=4)
    assert (await agents.ApplyAgents(nothing)).removed == ["main"]
    assert not (await agents.ListAgentOwners(owned)).owners
    assert (await apply_agent(agents, "main", generation=1)).changed == ["main"]
    name = pb.GetAgentRequest(name=f"{A}/agents/main")
    assert (await agents.GetAgent(name)).agent.revision == 2


async def test_one_resource_is_the_default_agent_and_another_is_told_whose_word_stands(
    agents: Any,
) -> None:
    await apply_agent(agents, "one", is_default=True)
    await apply_agent(agents, "one", parent=B, is_default=True)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await apply_agent(agents, "two", is_default=True)
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert caught.value.metadata["managed_by"] == "resource:one"
    await apply_agent(agents, "one", generation=2)
    assert (await apply_agent(agents, "two", is_default=True)).changed == ["two"]


async def test_owners_of_many_namespaces_come_page_by_page(agents: Any) -> None:
    for number in range(3):
        for parent in (A, B):
            await apply_agent(agents, f"a{number}", parent=parent, generation=number + 1)
    found, token = [], ""
    while True:
        request = pb.ListAgentOwnersRequest(prefix="resource:", page_size=4, page_token=token)
        page = await agents.ListAgentOwners(request)
        found += [(each.namespace, each.managed_by, each.generation) for each in page.owners]
        token = page.next_page_token
        if not token:
            break
    assert found == [
        (namespace, f"resource:a{number}", number + 1)
        for namespace in ("alpha", "beta")
        for number in range(3)
    ]
    foreign = pb.ListAgentOwnersRequest(page_token="bm9uZQ==")
    with pytest.raises(errors.InvalidArgument):
        await agents.ListAgentOwners(foreign)


async def test_an_owner_applies_its_providers_and_leaves_others_alone(providers: Any) -> None:
    assert await apply(providers, provider("local"), provider("big")) == (["local", "big"], [])
    assert await apply(providers, provider("local"), provider("big")) == ([], [])
    await apply(providers, provider("theirs"), owner="resource:two")
    await apply(providers, provider("local", B), parent=B)
    assert await apply(providers, provider("big", default_model="m")) == (["big"], ["local"])
    assert await ids(providers) == ["big", "theirs"]
    assert await ids(providers, B) == ["local"]
    with pytest.raises(errors.FailedPrecondition) as caught:
        await apply(providers, provider("theirs"))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert await ids(providers) == ["big", "theirs"]
    assert await apply(providers) == ([], ["big"])
    owners = await providers.ListModelProviderOwners(pb.ListModelProviderOwnersRequest())
    assert [(each.namespace, each.managed_by) for each in owners.owners] == [
        ("alpha", "resource:two"),
        ("beta", "resource:one"),
    ]


async def test_an_older_generation_of_a_provider_is_refused(providers: Any) -> None:
    await apply(providers, provider("local"), generation=7)
    with pytest.raises(errors.Aborted) as caught:
        await apply(providers, generation=6)
    assert caught.value.reason == "STALE_GENERATION"
    assert await ids(providers) == ["local"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (provider("Local"), "name"),
        (provider("local", B), "name"),
        (provider("local", type="anthropic"), "type"),
        (provider("local", base_url="models.svc:8000"), "base_url"),
        (provider("local", base_url="http://me:canary@models.svc"), "base_url"),
        (provider("local", credential="sk-canary"), "credential"),
        (provider("local", credential="env:OPENAI_API_KEY"), "credential"),
        (provider("local", credential="file:/etc/passwd"), "credential"),
        (provider("local", default_model="two words"), "default_model"),
    ],
)
async def test_a_provider_that_cannot_be_is_refused_with_its_field(
    providers: Any, wanted: model_provider_pb2.ModelProvider, field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await apply(providers, wanted)
    assert caught.value.metadata["field"] == field
    assert "canary" not in caught.value.message
    assert not await ids(providers)


async def test_a_decision_comes_with_the_providers_that_its_models_name(
    agents: Any, providers: Any, policy: Any
) -> None:
    local = provider("local", credential="secret:models/key", default_model="small")
    await apply(providers, local, provider("spare"), provider("unused"))
    await apply_agent(
        agents, "main", model="local/large", fallback_models=["openai/gpt", "spare/tiny"]
    )
    decision = await decided(policy)
    assert (decision.model, decision.model_reason) == ("local/large", "AGENT_DEFAULT")
    assert [each.name.rpartition("/")[2] for each in decision.providers] == ["local", "spare"]
    assert decision.providers[0].credential == "secret:models/key"
    assert [each.name for each in (await decided(policy, model="openai/gpt")).providers] == [
        f"{A}/modelProviders/spare"
    ]


async def test_the_eldest_provider_with_a_default_gives_a_namespaces_default_model(
    agents: Any, providers: Any, policy: Any
) -> None:
    for parent in (A, B):
        await apply_agent(agents, "main", parent=parent)
    await apply(providers, provider("zeta", default_model="small"), provider("none"))
    await apply(providers, provider("alpha", default_model="other"), owner="resource:two")
    decision = await decided(policy)
    assert (decision.model, decision.model_reason) == ("zeta/small", "NAMESPACE_DEFAULT")
    assert [each.name for each in decision.providers] == [f"{A}/modelProviders/zeta"]
    listed = await agents.ListAgents(pb.ListAgentsRequest(parent=A))
    assert listed.default_model == "zeta/small"
    elsewhere = await decided(policy, "beta")
    assert (elsewhere.model, list(elsewhere.providers)) == ("", [])
    named = pb.ApplyAgentsRequest(
        parent=A, managed_by="file:fased.json", default_model="openai/gpt", set_default_model=True
    )
    await agents.ApplyAgents(named)
    assert (await decided(policy)).model == "openai/gpt"


async def test_a_namespaces_own_provider_is_usable_though_no_worker_knows_it(
    agents: Any, providers: Any, policy: Any
) -> None:
    await apply_agent(agents, "main")
    assert await reasons(policy) == ["NO_MODEL_CREDENTIAL"]
    assert await reasons(policy, "local/large", ["openai"]) == ["PROVIDER_NOT_USABLE"]
    await apply(providers, provider("local"))
    assert await reasons(policy, "local/large") == []
    assert await reasons(policy, "other/large") == ["PROVIDER_NOT_USABLE"]
    # A worker's own default needs a worker that has one.
    assert await reasons(policy) == ["NO_MODEL_CREDENTIAL"]
    await apply(providers, provider("local", default_model="small"))
    assert await reasons(policy) == []


async def test_only_services_apply_and_a_viewer_sees_its_own_namespace(providers: Any) -> None:
    request = pb.ApplyModelProvidersRequest(parent=A, managed_by=f"resource:{uuid.uuid4()}")
    with pytest.raises(errors.PermissionDenied):
        await providers.ApplyModelProviders(request, **acting("alpha", Role.ADMIN))
    seen = pb.ListModelProvidersRequest(parent=A)
    await providers.ListModelProviders(seen, **acting("alpha", Role.VIEWER))
    with pytest.raises(errors.PermissionDenied):
        await providers.ListModelProviders(seen, **acting("beta", Role.VIEWER))
