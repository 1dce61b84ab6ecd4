"""The public gRPC port: the same services, for who has a token; errors come back as they were."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from fased.api.channels.v1 import channels_service_pb2, channels_service_pb2_grpc
from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2, scheduler_service_pb2_grpc
from fased.api.types.v1 import access_pb2
from fased.core.errors import NotFound
from fased.rpc.client import Client
from fased.rpc.status import STATUS_METADATA
from tests.support.calls import DEADLINE_S
from tests.support.gateway import open_gateway_on

HERE = "namespaces/default"


def bearing(token: str) -> dict[str, Any]:
    return {"metadata": [("authorization", f"Bearer {token}")], "timeout": DEADLINE_S}


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """The code and reason that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailing: Any = caught.value.trailing_metadata() or ()
    status = status_pb2.Status.FromString(dict(trailing)[STATUS_METADATA])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return caught.value.code(), info.reason


async def test_calls_pass_with_a_token_and_only_so(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        agents = policy_service_pb2_grpc.AgentServiceStub(channel)
        request = policy_service_pb2.ListAgentsRequest(parent=HERE)
        listed = await agents.ListAgents(request, **bearing(gateway.token))
        assert [each.name for each in listed.agents] == [f"{HERE}/agents/main"]
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        assert await refused(agents.ListAgents(request)) == (unauthenticated, "TOKEN_MISSING")
        wrong = agents.ListAgents(request, **bearing("wrong"))
        assert await refused(wrong) == (unauthenticated, "TOKEN_INVALID")


async def test_the_owning_service_checks_role_and_namespace(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        agents = policy_service_pb2_grpc.AgentServiceStub(channel)
        denied = grpc.StatusCode.PERMISSION_DENIED
        create = policy_service_pb2.CreateAgentRequest(
            parent=HERE, agent_id="ops", request_id=str(uuid.uuid4())
        )
        created = agents.CreateAgent(create, **bearing(gateway.token))
        assert await refused(created) == (denied, "ROLE_TOO_LOW")
        elsewhere = policy_service_pb2.ListAgentsRequest(parent="namespaces/other")
        answer = agents.ListAgents(elsewhere, **bearing(gateway.token))
        assert await refused(answer) == (denied, "NAMESPACE_DENIED")


async def test_methods_of_services_are_closed_to_everyone(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        admin = await gateway.new_token("root", access_pb2.ROLE_ADMIN)
        policy = policy_service_pb2_grpc.PolicyServiceStub(channel)
        run = policy_service_pb2.WantedRun(namespace="default", agent_id="main")
        decide = policy_service_pb2.DecideRunsRequest(runs=[run])
        code, reason = await refused(policy.DecideRuns(decide, **bearing(admin)))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_CLOSED")
        tokens = policy_service_pb2_grpc.TokenServiceStub(channel)
        ask = policy_service_pb2.AuthenticateRequest(secret=admin)
        code, reason = await refused(tokens.Authenticate(ask, **bearing(admin)))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_CLOSED")


async def test_a_caller_cannot_name_another_actor(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        agents = policy_service_pb2_grpc.AgentServiceStub(channel)
        forged = [
            ("authorization", f"Bearer {gateway.token}"),
            ("fased-actor", "root"),
            ("fased-actor-role", str(access_pb2.ROLE_ADMIN)),
            ("fased-actor-namespaces", "*"),
        ]
        answer = agents.ListAgents(
            policy_service_pb2.ListAgentsRequest(parent="namespaces/other"), metadata=forged
        )
        code, _ = await refused(answer)
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_unknown_methods_are_unimplemented(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        for method in (
            "/fased.api.policy.v1.AgentService/Nope",
            "/fased.api.nobody.v1.AgentService/ListAgents",
            "/x",
        ):
            call: Any = channel.unary_unary(method, None, None)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", **bearing(gateway.token))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_our_own_client_gets_our_own_errors(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        client: Any = Client(gateway.public, gateway.token)
        runs = scheduler_service_pb2_grpc.RunServiceStub(client)
        with pytest.raises(NotFound):
            await runs.GetRun(scheduler_service_pb2.GetRunRequest(name=f"{HERE}/runs/99"))
        await client.close()


async def test_streams_pass_and_keep_their_deadline(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        chat = channels_service_pb2_grpc.ConversationServiceStub(channel)
        opened = await chat.OpenConversation(
            channels_service_pb2.OpenConversationRequest(parent=HERE), **bearing(gateway.token)
        )
        name = opened.conversation.name
        post = channels_service_pb2.PostMessageRequest(name=name, message_id="a", text="hello")
        posted = await chat.PostMessage(post, **bearing(gateway.token))
        assert posted.event.sender.id == "default/ada"
        watch = channels_service_pb2.WatchConversationRequest(name=name)
        stream = chat.WatchConversation(watch, **bearing(gateway.token))
        async with asyncio.timeout(DEADLINE_S):
            first = await anext(aiter(stream))
        assert first.event.text == "hello"
        stream.cancel()
        short = chat.WatchConversation(
            channels_service_pb2.WatchConversationRequest(name=name, after_sequence=1),
            metadata=bearing(gateway.token)["metadata"],
            timeout=0.3,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in short:
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_is_refused_like_a_call(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.grpc() as channel:
        chat = channels_service_pb2_grpc.ConversationServiceStub(channel)
        name = f"{HERE}/conversations/{uuid.uuid4()}"
        watch = channels_service_pb2.WatchConversationRequest(name=name)
        for token, code in (
            (gateway.token, grpc.StatusCode.NOT_FOUND),
            ("wrong", grpc.StatusCode.UNAUTHENTICATED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in chat.WatchConversation(watch, **bearing(token)):
                    pass
            assert caught.value.code() is code
