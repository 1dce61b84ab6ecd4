"""The policy service over real gRPC and PostgreSQL: Agents, tokens, decisions, who may do what."""

import uuid
from collections.abc import AsyncIterator

import pytest

from fased.api.policy.v1 import agent_pb2
from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc as grpc_stubs
from fased.api.types.v1 import access_pb2
from fased.core import errors
from fased.core.access import Caller, Role
from fased.rpc.interceptors import actor_metadata
from services.policy import service
from tests.support.services import Running, running

A, B = "namespaces/alpha", "namespaces/beta"


@pytest.fixture
async def up(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, lambda listen, token: [service.open_service]) as started:
        yield started


@pytest.fixture
def agents(up: Running) -> "grpc_stubs.AgentServiceAsyncStub":
    return grpc_stubs.AgentServiceStub(up.channel)


@pytest.fixture
def tokens(up: Running) -> "grpc_stubs.TokenServiceAsyncStub":
    return grpc_stubs.TokenServiceStub(up.channel)


async def create(
    agents: "grpc_stubs.AgentServiceAsyncStub", agent_id: str, parent: str = A, **fields: object
) -> agent_pb2.Agent:
    request = pb.CreateAgentRequest(
        parent=parent,
        agent_id=agent_id,
        agent=agent_pb2.Agent(**fields),  # type: ignore[arg-type]
        request_id=str(uuid.uuid4()),
    )
    return (await agents.CreateAgent(request)).agent


async def test_every_change_of_an_agent_is_a_new_revision(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    made = await create(agents, "Research Team", model="openai/one")
    assert made.name == f"{A}/agents/research-team"
    assert made.revision == 1
    made.model = "openai/two"
    changed = (await agents.UpdateAgent(pb.UpdateAgentRequest(agent=made))).agent
    assert (changed.model, changed.revision) == ("openai/two", 2)
    again = (await agents.UpdateAgent(pb.UpdateAgentRequest(agent=changed))).agent
    assert again.revision == 2


async def test_an_update_with_an_old_etag_is_refused(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    made = await create(agents, "main", model="openai/one")
    newer = agent_pb2.Agent()
    newer.CopyFrom(made)
    newer.model = "openai/two"
    await agents.UpdateAgent(pb.UpdateAgentRequest(agent=newer))
    made.model = "openai/three"
    with pytest.raises(errors.Aborted) as caught:
        await agents.UpdateAgent(pb.UpdateAgentRequest(agent=made))
    assert caught.value.reason == "ETAG_MISMATCH"


async def test_a_repeated_create_answers_with_the_first_agent(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    request = pb.CreateAgentRequest(parent=A, agent_id="main", request_id=str(uuid.uuid4()))
    first = await agents.CreateAgent(request)
    second = await agents.CreateAgent(request)
    assert first == second
    with pytest.raises(errors.AlreadyExists):
        await create(agents, "main")


async def test_equal_ids_in_two_namespaces_are_two_agents(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    await create(agents, "main", parent=A, model="openai/alpha")
    await create(agents, "main", parent=B, model="openai/beta")
    of_a = await agents.ListAgents(pb.ListAgentsRequest(parent=A))
    assert [agent.model for agent in of_a.agents] == ["openai/alpha"]
    await agents.DeleteAgent(pb.DeleteAgentRequest(name=f"{A}/agents/main"))
    kept = await agents.GetAgent(pb.GetAgentRequest(name=f"{B}/agents/main"))
    assert kept.agent.model == "openai/beta"


async def test_only_one_agent_of_a_namespace_is_the_default(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    await create(agents, "one", is_default=True)
    await create(agents, "two", is_default=True)
    await create(agents, "other", parent=B, is_default=True)
    listed = await agents.ListAgents(pb.ListAgentsRequest(parent=A))
    assert [agent.is_default for agent in listed.agents] == [False, True]
    assert (await agents.ListAgents(pb.ListAgentsRequest(parent=B))).agents[0].is_default


async def test_pages_of_agents_follow_each_other_and_fit_only_their_query(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    for name in ("one", "two", "three"):
        await create(agents, name)
    first = await agents.ListAgents(pb.ListAgentsRequest(parent=A, page_size=2))
    second = await agents.ListAgents(
        pb.ListAgentsRequest(parent=A, page_size=2, page_token=first.next_page_token)
    )
    names = [agent.name.rpartition("/")[2] for agent in (*first.agents, *second.agents)]
    assert names == ["one", "two", "three"]
    assert second.next_page_token == ""
    with pytest.raises(errors.InvalidArgument) as caught:
        await agents.ListAgents(pb.ListAgentsRequest(parent=B, page_token=first.next_page_token))
    assert caught.value.metadata == {"field": "page_token"}


async def test_what_a_file_owns_is_edited_in_the_file(
    agents: "grpc_stubs.AgentServiceAsyncStub",
) -> None:
    owner = "file:/home/x/fased.json"

    async def apply(*ids: str) -> pb.ApplyAgentsResponse:
        wanted = [agent_pb2.Agent(name=f"{A}/agents/{each}", model="openai/m") for each in ids]
        return await agents.ApplyAgents(
            pb.ApplyAgentsRequest(parent=A, managed_by=owner, agents=wanted)
        )

    await create(agents, "mine")
    assert list((await apply("main", "coding")).changed) == ["main", "coding"]
    assert list((await apply("main", "coding")).changed) == []
    with pytest.raises(errors.FailedPrecondition) as caught:
        await agents.DeleteAgent(pb.DeleteAgentRequest(name=f"{A}/agents/coding"))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert "/home/x/fased.json" in caught.value.message
    assert list((await apply("main")).removed) == ["coding"]
    left = await agents.ListAgents(pb.ListAgentsRequest(parent=A))
    assert [agent.name for agent in left.agents] == [f"{A}/agents/mine", f"{A}/agents/main"]


async def test_a_token_is_known_until_it_is_revoked(
    tokens: "grpc_stubs.TokenServiceAsyncStub",
) -> None:
    made = await tokens.CreateToken(
        pb.CreateTokenRequest(parent=A, token_id="ci", role=access_pb2.ROLE_OPERATOR)
    )
    known = await tokens.Authenticate(pb.AuthenticateRequest(secret=made.secret))
    assert list(known.caller.namespaces) == ["alpha"]
    assert known.caller.role == access_pb2.ROLE_OPERATOR
    listed = await tokens.ListTokens(pb.ListTokensRequest(parent=A))
    assert made.secret not in str(listed)
    await tokens.RevokeToken(pb.RevokeTokenRequest(name=made.token.name))
    with pytest.raises(errors.Unauthenticated):
        await tokens.Authenticate(pb.AuthenticateRequest(secret=made.secret))


async def test_nobody_grants_more_than_they_hold(
    tokens: "grpc_stubs.TokenServiceAsyncStub",
) -> None:
    actor = actor_metadata(Caller("alpha/boss", Role.ADMIN, ("alpha",)))
    with pytest.raises(errors.PermissionDenied) as caught:
        await tokens.CreateToken(
            pb.CreateTokenRequest(
                parent=A, token_id="far", role=access_pb2.ROLE_VIEWER, namespaces=["beta"]
            ),
            metadata=actor,
        )
    assert caught.value.reason == "GRANTS_TOO_MUCH"


@pytest.mark.parametrize(
    ("role", "namespaces", "reason"),
    [
        (Role.VIEWER, ("alpha",), "ROLE_TOO_LOW"),
        (Role.ADMIN, ("beta",), "NAMESPACE_DENIED"),
    ],
)
async def test_an_actor_is_held_to_its_role_and_namespaces(
    agents: "grpc_stubs.AgentServiceAsyncStub",
    role: Role,
    namespaces: tuple[str, ...],
    reason: str,
) -> None:
    with pytest.raises(errors.PermissionDenied) as caught:
        await agents.CreateAgent(
            pb.CreateAgentRequest(parent=A, agent_id="x"),
            metadata=actor_metadata(Caller("t", role, namespaces)),
        )
    assert caught.value.reason == reason


async def test_no_actor_reaches_what_only_services_may_call(
    tokens: "grpc_stubs.TokenServiceAsyncStub",
) -> None:
    actor = actor_metadata(Caller("t", Role.ADMIN, ("*",)))
    with pytest.raises(errors.PermissionDenied):
        await tokens.Authenticate(pb.AuthenticateRequest(secret="x"), metadata=actor)


async def test_a_run_of_a_missing_agent_is_refused_with_the_command_that_adds_it(
    up: Running,
) -> None:
    policy = grpc_stubs.PolicyServiceStub(up.channel)
    agents = grpc_stubs.AgentServiceStub(up.channel)
    created = pb.CreateAgentRequest(
        parent="namespaces/alpha", agent_id="here", agent=agent_pb2.Agent(model="a/b")
    )
    await agents.CreateAgent(created)
    runs = [
        pb.WantedRun(namespace="alpha", agent_id=agent_id, mode="agent-turn")
        for agent_id in ("here", "gone", "here")
    ]
    there, decided, again = (await policy.DecideRuns(pb.DecideRunsRequest(runs=runs))).decisions
    assert there.allowed
    assert there == again
    assert (there.agent.name, there.model) == ("namespaces/alpha/agents/here", "a/b")
    assert not decided.allowed
    assert decided.finding.reason == "AGENT_MISSING"
    assert decided.finding.setup_target == "fased agents add gone"
