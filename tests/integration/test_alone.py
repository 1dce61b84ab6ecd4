"""One service as a process of its own: how it starts, what it shows, and how it ends."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.rpc.client import open_client
from tests.support import ports
from tests.support.member import Member, bare_environment

SERVICE_TOKEN = "a-token-between-services"
ADMIN_TOKEN = "fased_0123456789abcdef0123456789abcdef"
DRAIN_S = 2.0


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {
        **bare_environment(),
        "FASED_DATABASE_URL": database_url,
        "FASED_SERVICE_TOKEN": SERVICE_TOKEN,
        "FASED_ADMIN_TOKEN": ADMIN_TOKEN,
        "FASED_DRAIN_S": str(DRAIN_S),
    }


@pytest.fixture
async def policy(tmp_path: Path) -> AsyncIterator[Member]:
    member = Member("policy", tmp_path / "policy.log")
    yield member
    if member.process is not None:
        member.signal(signal.SIGKILL)
        await member.ended()


async def start(member: Member, environment: dict[str, str]) -> None:
    await member.start(environment)
    await member.until_serving()


async def refused(member: Member, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code of a start that must fail, and the last line it printed."""
    await member.start(environment)
    code = await member.ended()
    return code, member.output().splitlines()[-1]


async def who_is(member: Member, secret: str) -> str:
    channel, client = open_client(member.address, SERVICE_TOKEN)
    try:
        tokens = policy_service_pb2_grpc.TokenServiceStub(channel)
        answer = await tokens.Authenticate(policy_pb.AuthenticateRequest(secret=secret))
        return answer.caller.subject
    finally:
        await client.close()


async def agents_of(member: Member) -> list[str]:
    channel, client = open_client(member.address, SERVICE_TOKEN)
    try:
        agents = policy_service_pb2_grpc.AgentServiceStub(channel)
        listed = await agents.ListAgents(policy_pb.ListAgentsRequest(parent="namespaces/default"))
        return [agent.name for agent in listed.agents]
    finally:
        await client.close()


async def test_it_shows_health_and_metrics_and_ends_well(
    policy: Member, environment: dict[str, str]
) -> None:
    await start(policy, environment)
    assert await who_is(policy, ADMIN_TOKEN) == "default/admin"
    shown = await policy.metrics()
    assert 'fased_rpc_seconds_count{method="policy.v1.TokenService/Authenticate"} 1.0' in shown
    assert "process_resident_memory_bytes" in shown
    policy.signal(signal.SIGTERM)
    assert await policy.ended() == 0


async def test_a_failed_call_is_counted_with_its_code(
    policy: Member, environment: dict[str, str]
) -> None:
    await start(policy, environment)
    with pytest.raises(Exception, match="not known"):
        await who_is(policy, "no such secret")
    method = "policy.v1.TokenService/Authenticate"
    wanted = f'fased_rpc_failures_total{{code="UNAUTHENTICATED",method="{method}"}} 1.0'
    assert wanted in await policy.metrics()


async def test_while_it_drains_it_is_not_serving_and_still_answers(
    policy: Member, environment: dict[str, str]
) -> None:
    await start(policy, environment)
    policy.signal(signal.SIGTERM)
    async with asyncio.timeout(DRAIN_S):
        while await policy.is_serving():  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.01)
    assert await who_is(policy, ADMIN_TOKEN) == "default/admin"
    assert await policy.ended() == 0


async def test_the_first_start_makes_an_agent_and_later_ones_only_replace_the_token(
    policy: Member, environment: dict[str, str]
) -> None:
    await start(policy, {**environment, "FASED_DEFAULT_AGENT": "first"})
    assert await agents_of(policy) == ["namespaces/default/agents/first"]
    policy.signal(signal.SIGKILL)
    await policy.ended()
    another = ADMIN_TOKEN[::-1]
    changed = {"FASED_DEFAULT_AGENT": "second", "FASED_ADMIN_TOKEN": another}
    await start(policy, {**environment, **changed})
    assert await agents_of(policy) == ["namespaces/default/agents/first"]
    assert await who_is(policy, another) == "default/admin"
    with pytest.raises(Exception, match="not known"):
        await who_is(policy, ADMIN_TOKEN)
    assert another not in policy.output()


async def test_what_keeps_it_from_starting_is_one_line(
    policy: Member, environment: dict[str, str]
) -> None:
    missing = {name: v for name, v in environment.items() if name != "FASED_SERVICE_TOKEN"}
    assert await refused(policy, missing) == (78, "FASED_SERVICE_TOKEN: field required")

    code, line = await refused(policy, {**environment, "FASED_ADMIN_TOKEN": "short"})
    assert code == 78
    assert line.startswith("FASED_ADMIN_TOKEN: ")
    assert "short'" not in line

    away = f"postgresql://nobody@127.0.0.1:{ports.free_port()}/away"
    code, line = await refused(policy, {**environment, "FASED_DATABASE_URL": away})
    assert code == 69
    assert line == (
        "policy: the database does not answer; try again in a moment (DATABASE_UNAVAILABLE)"
    )


async def test_a_port_that_is_taken_is_named(
    policy: Member, environment: dict[str, str], tmp_path: Path
) -> None:
    await start(policy, environment)
    second = Member("policy", tmp_path / "second.log", listen_port=policy.listen_port)
    code, line = await refused(second, environment)
    assert code == 69
    assert f"cannot listen on {policy.address}" in line

    third = Member("policy", tmp_path / "third.log", metrics_port=policy.metrics_port)
    code, line = await refused(third, environment)
    assert code == 69
    assert "choose another with FASED_METRICS_LISTEN" in line
