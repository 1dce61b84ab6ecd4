"""`fased.json` read from disk and made to stand in the rows of real services."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli import config_file
from cli.config_file import ConfigFile
from fased.api.policy.v1 import agent_pb2, policy_service_pb2_grpc
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.router.v1 import binding_pb2, router_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core import errors
from services.channels import service as channels
from services.policy import service as policy
from services.router import service as router
from tests.support.services import Running, running

PARENT = "namespaces/default"
FILE = """
{
  // Two Agents; the second one answers where nothing matches.
  agents: {
    defaults: { model: { primary: "openai/small" } },
    list: [
      { id: "main", name: "Main", systemPrompt: "Be brief." },
      { id: "coding", default: true, model: "openai/coder", models: { strong: "openai/big" } },
    ],
  },
  bindings: [
    { agentId: "main", match: { channel: "telegram", peer: { kind: "dm", id: 123 } } },
    { agentId: "coding", match: { channel: "telegram" } },
  ],
  session: { dmScope: "per-peer", identityLinks: { zoe: ["1"], al: ["1"] } },
  routing: { wildcardPeer: true },
}
"""


@pytest.fixture
async def up(database_url: str) -> AsyncIterator[Running]:
    services = [policy.open_service, router.open_service, channels.open_service]
    async with running(database_url, lambda listen, token: services) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fased.json"


def written(path: Path, text: str) -> ConfigFile:
    """A file with this text, as it is read; empty for no file."""
    path.unlink(missing_ok=True)
    if text:
        path.write_text(text, encoding="utf-8")
    return config_file.read(path)


async def apply(up: Running, path: Path, text: str) -> tuple[str, ...]:
    """Write the file, read it and make it stand."""
    return await config_file.apply(up.channel, written(path, text))


async def agents(up: Running) -> policy_pb.ListAgentsResponse:
    """The Agents that stand."""
    stub: Any = policy_service_pb2_grpc.AgentServiceStub(up.channel)
    return await stub.ListAgents(policy_pb.ListAgentsRequest(parent=PARENT))  # type: ignore[no-any-return]


def routes(up: Running) -> Any:
    """The stub of RouteService."""
    return router_service_pb2_grpc.RouteServiceStub(up.channel)


async def bindings(up: Running) -> pb.ListBindingsResponse:
    """The bindings that stand."""
    return await routes(up).ListBindings(pb.ListBindingsRequest(parent=PARENT))  # type: ignore[no-any-return]


async def decision(up: Running, peer: str, channel: str = "telegram") -> tuple[str, str]:
    """Which Agent answers a direct chat, and in which session."""
    chat = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id=peer)
    resolved = await routes(up).ResolveRoute(
        pb.ResolveRouteRequest(parent=PARENT, channel=channel, peer=chat)
    )
    return resolved.decision.agent_id, resolved.decision.session_key


async def test_agents_bindings_and_session_policy_stand_as_the_file_says(
    up: Running, path: Path
) -> None:
    assert await apply(up, path, FILE) == ()
    listed = await agents(up)
    assert listed.default_model == "openai/small"
    main, coding = listed.agents
    assert (main.display_name, main.system_prompt) == ("Main", "Be brief.")
    assert (coding.model, dict(coding.model_roles)) == ("openai/coder", {"strong": "openai/big"})
    assert [agent.is_default for agent in listed.agents] == [False, True]
    assert {agent.managed_by for agent in listed.agents} == {"file:fased.json"}
    assert [each.name for each in (await bindings(up)).bindings] == [
        f"{PARENT}/bindings/bindings[0]", f"{PARENT}/bindings/bindings[1]",
    ]  # fmt: skip
    assert await decision(up, "123") == ("main", "agent:main:direct:123")
    assert await decision(up, "1") == ("coding", "agent:coding:direct:zoe")
    assert await decision(up, "2", "slack") == ("coding", "agent:coding:direct:2")


async def test_the_same_file_again_changes_nothing(up: Running, path: Path) -> None:
    await apply(up, path, FILE)
    before = await agents(up), await bindings(up)
    await apply(up, path, FILE)
    assert (await agents(up), await bindings(up)) == before


async def test_what_the_file_drops_is_gone_and_what_others_made_stays(
    up: Running, path: Path
) -> None:
    stub: Any = policy_service_pb2_grpc.AgentServiceStub(up.channel)
    await stub.CreateAgent(policy_pb.CreateAgentRequest(parent=PARENT, agent_id="mine"))
    await apply(up, path, FILE)
    await apply(up, path, '{agents: {list: [{id: "main"}]}}')
    assert [agent.name.rpartition("/")[2] for agent in (await agents(up)).agents] == [
        "mine", "main",
    ]  # fmt: skip
    assert (await agents(up)).default_model == ""
    assert not (await bindings(up)).bindings
    assert await decision(up, "1") == ("main", "agent:main:main")
    await apply(up, path, "")
    assert [agent.name.rpartition("/")[2] for agent in (await agents(up)).agents] == ["mine"]


async def test_the_files_first_agent_is_the_default_whoever_was_made_before(
    up: Running, path: Path
) -> None:
    stub: Any = policy_service_pb2_grpc.AgentServiceStub(up.channel)
    await stub.CreateAgent(policy_pb.CreateAgentRequest(parent=PARENT, agent_id="mine"))
    await apply(up, path, '{agents: {list: [{id: "b"}, {id: "a"}]}}')
    assert (await decision(up, "1"))[0] == "b"
    await apply(up, path, '{agents: {list: [{id: "a"}, {id: "b"}]}}')
    assert (await decision(up, "1"))[0] == "a"


async def test_what_the_file_names_is_edited_in_the_file(up: Running, path: Path) -> None:
    await apply(up, path, FILE)
    stub: Any = policy_service_pb2_grpc.AgentServiceStub(up.channel)
    edits = (
        stub.UpdateAgent(
            policy_pb.UpdateAgentRequest(agent=agent_pb2.Agent(name=f"{PARENT}/agents/main"))
        ),
        stub.DeleteAgent(policy_pb.DeleteAgentRequest(name=f"{PARENT}/agents/main")),
        routes(up).DeleteBinding(pb.DeleteBindingRequest(name=f"{PARENT}/bindings/bindings[1]")),
        routes(up).CreateBinding(
            pb.CreateBindingRequest(
                parent=PARENT,
                binding=binding_pb2.Binding(
                    agent_id="main", match=binding_pb2.Match(channel="telegram")
                ),
            )
        ),
    )
    for edit in edits:
        with pytest.raises(errors.FailedPrecondition) as caught:
            await edit
        assert caught.value.reason == "MANAGED_ELSEWHERE"
        assert "fased.json" in caught.value.message


async def test_what_is_odd_about_the_bindings_is_said(up: Running, path: Path) -> None:
    [said] = await apply(
        up,
        path,
        '{agents: {list: [{id: "a"}]}, bindings: [{agentId: "b", match: {channel: "x"}}]}',
    )
    assert said == (
        "The binding bindings[0] names Agent b, which does not exist; the default Agent a answers."
    )


def test_a_file_that_is_not_there_says_nothing(path: Path) -> None:
    config = config_file.read(path)
    assert (config.exists, config.warnings) == (False, ())
    assert not config.configuration.agents


def test_what_has_no_effect_is_a_warning(path: Path) -> None:
    text = (
        '\ufeff{"broadcast": {"1": ["a"]}, "channels": {}, "session": {"mainKey": "x"}, "odd": 1}'
    )
    assert written(path, text).warnings == (
        "fased.json: odd is not known here and has no effect.",
        "fased.json: session.mainKey has no effect: the main key is always main.",
        "fased.json: broadcast has no effect in this version.",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n  agents: {},\n  bindings: [}\n}", 'line 3 Unexpected "}"'),
        ("", "Empty strings are not legal JSON5"),
        ("[]", "it is no object"),
        ('{agents: {list: [{id: "a"}, {id: "A"}]}}', "agents.list[1].id names Agent a a second"),
        ("{bindings: {}}", "bindings must be a list"),
        ('{bindings: [{agentId: "a", match: {peer: "x"}}]}', "bindings[0].match.peer must be"),
        ("{session: {reset: {atHour: 25}}}", "session.reset.atHour must be"),
        ('{agents: {list: [{id: "a", model: "x y"}]}}', "agents.list, Agent a: model: 'x y'"),
        ('{agents: {list: [{id: "a", models: {x: "y"}}]}}', "agents.list, Agent a: model_roles:"),
    ],
)
def test_an_error_names_the_file_and_the_line_or_field(path: Path, text: str, said: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(errors.InvalidArgument) as caught:
        config_file.read(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_a_file_that_cannot_be_read_is_one_clear_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(errors.InvalidArgument) as caught:
        config_file.read(path)
    assert caught.value.message.startswith(f"cannot read {path}: ")
