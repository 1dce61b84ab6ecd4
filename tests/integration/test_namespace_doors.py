"""Every door of every service, found in the protos and routes: who has no right gets nothing.

A method or route that is added later is under test without a word here.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from starlette.routing import Route

from fased.api.channels.v1 import channels_service_pb2
from fased.api.executor.v1 import executor_service_pb2
from fased.api.policy.v1 import policy_service_pb2
from fased.api.router.v1 import router_service_pb2
from fased.api.scheduler.v1 import queue_service_pb2, scheduler_service_pb2
from fased.api.types.v1 import access_pb2
from fased.core.access import Role
from fased.rpc import access
from fased.rpc.status import STATUS_METADATA
from services.gateway import api, conversations
from tests.support.calls import DEADLINE_S, acting
from tests.support.gateway import Gateway, open_gateway_on

MODULES = (
    channels_service_pb2,
    executor_service_pb2,
    policy_service_pb2,
    queue_service_pb2,
    router_service_pb2,
    scheduler_service_pb2,
)
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
HERE, THERE = "alpha", "beta"
# What a route's body must have before its namespace is looked at.
BODIES = {"messages": {"text": "hi", "messageId": "m"}, "sessions": {"title": "Plans"}}


@dataclass(frozen=True, slots=True)
class Method:
    """An rpc, and a request for something that lies in a namespace."""

    path: str
    streams: bool
    request_class: Any

    @property
    def is_closed(self) -> bool:
        """Whether services alone may call it."""
        return access.required_role(self.path) is Role.SERVICE

    def request(self, namespace: str) -> bytes:
        """A request that names the namespace in every way that requests do."""
        message = self.request_class()
        resource = f"namespaces/{namespace}/things/main"
        for field in message.DESCRIPTOR.fields:
            if field.name == "parent":
                message.parent = f"namespaces/{namespace}"
            elif field.name == "name":
                message.name = resource
            elif field.name == "namespace":
                message.namespace = namespace
            elif (
                field.message_type
                and not field.is_repeated
                and "name" in field.message_type.fields_by_name
            ):
                getattr(message, field.name).name = resource
        serialized: bytes = message.SerializeToString()
        return serialized

    async def outcome(
        self, channel: grpc.aio.Channel, request: bytes, metadata: Any
    ) -> tuple[grpc.StatusCode, str]:
        """The code and the reason that the call ends with; OK is what must not come."""
        options: dict[str, Any] = {"metadata": metadata, "timeout": DEADLINE_S}
        try:
            if self.streams:
                stream: Any = channel.unary_stream(self.path, None, None)
                async for _ in stream(request, **options):
                    break
            else:
                unary: Any = channel.unary_unary(self.path, None, None)
                await unary(request, **options)
        except grpc.aio.AioRpcError as refused:
            return refused.code(), _reason(refused)
        return grpc.StatusCode.OK, ""


def _reason(refused: grpc.aio.AioRpcError) -> str:
    assert "Traceback" not in (refused.details() or "")
    trailing: Any = refused.trailing_metadata() or ()
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(dict(trailing)[STATUS_METADATA]).details[0].Unpack(info)
    return str(info.reason)


def _method(descriptor: MethodDescriptor) -> Method:
    service = descriptor.containing_service.full_name
    return Method(
        f"/{service}/{descriptor.name}",
        descriptor.server_streaming,
        GetMessageClass(descriptor.input_type),
    )


METHODS = [
    _method(method)
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def bearing(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[Gateway]:
    environment = {"FASED_SCRIPTED_MODEL": "echo"}
    async with open_gateway_on(database_url, environment=environment) as opened:
        for namespace in (HERE, THERE):
            await opened.add_agent("main", namespace)
        yield opened


def test_the_sweep_sees_every_kind_of_method() -> None:
    assert len(METHODS) > 40
    assert any(method.streams for method in METHODS)
    assert any(method.is_closed for method in METHODS)


async def test_the_public_port_refuses_who_shows_no_good_token(gateway: Gateway) -> None:
    bad: list[list[tuple[str, str]]] = [
        [],
        bearing("wrong"),
        bearing(""),
        [("authorization", f"Basic {gateway.token}")],
        bearing(gateway.running.service_token),
        [*acting(HERE)["metadata"]],
    ]
    async with gateway.grpc() as channel:
        for method in METHODS:
            for metadata in bad:
                code, reason = await method.outcome(channel, method.request(HERE), metadata)
                assert code is UNAUTHENTICATED, (method.path, metadata)
                assert reason in ("TOKEN_MISSING", "TOKEN_INVALID")


async def test_the_public_port_refuses_the_token_of_another_namespace(gateway: Gateway) -> None:
    admin = bearing(await gateway.new_token("root", access_pb2.ROLE_ADMIN, HERE))
    async with gateway.grpc() as channel:
        for method in METHODS:
            wanted = "METHOD_CLOSED" if method.is_closed else "NAMESPACE_DENIED"
            found = await method.outcome(channel, method.request(THERE), admin)
            assert found == (DENIED, wanted), method.path


async def test_a_request_that_names_no_namespace_gets_nothing(gateway: Gateway) -> None:
    admin = bearing(await gateway.new_token("root", access_pb2.ROLE_ADMIN, HERE))
    async with gateway.grpc() as channel:
        for method in METHODS:
            code, _ = await method.outcome(channel, b"", admin)
            assert code is DENIED, method.path


async def test_a_service_refuses_who_does_not_prove_to_be_one(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.running.listen) as channel:
        for method in METHODS:
            for metadata in ([], bearing("wrong"), bearing(gateway.token)):
                found = await method.outcome(channel, method.request(HERE), metadata)
                assert found == (UNAUTHENTICATED, "TOKEN_INVALID"), method.path


async def test_a_service_refuses_an_actor_of_another_namespace(gateway: Gateway) -> None:
    actor = [*bearing(gateway.running.service_token), *acting(HERE, Role.ADMIN)["metadata"]]
    async with grpc.aio.insecure_channel(gateway.running.listen) as channel:
        for method in METHODS:
            wanted = "ROLE_TOO_LOW" if method.is_closed else "NAMESPACE_DENIED"
            found = await method.outcome(channel, method.request(THERE), actor)
            assert found == (DENIED, wanted), method.path


def routes_of(namespace: str) -> Iterator[tuple[str, str, Any]]:
    """Method, address and body of every route that lies in a namespace."""
    for route in (*api.ROUTES, *conversations.ROUTES):
        assert isinstance(route, Route)
        if "{namespace}" not in route.path:
            continue
        path = route.path.format(namespace=namespace, run="1", conversation=f"{1:032x}")
        for verb in (route.methods or set()) - {"HEAD"}:
            yield verb, path, BODIES.get(path.rpartition("/")[2], {}) if verb == "POST" else None


async def test_http_refuses_who_shows_no_good_token(gateway: Gateway) -> None:
    async with gateway.anonymous() as nobody:
        for verb, path, body in routes_of("default"):
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "fased-token-1=x"}):
                answer = await nobody.request(verb, path, json=body, headers=given)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["reason"] in ("TOKEN_MISSING", "TOKEN_INVALID")


async def test_http_refuses_the_token_of_another_namespace(gateway: Gateway) -> None:
    admin = await gateway.new_token("root", access_pb2.ROLE_ADMIN, HERE)
    headers = {"Authorization": f"Bearer {admin}"}
    async with gateway.anonymous(headers=headers) as intruder:
        for verb, path, body in routes_of(THERE):
            answer = await intruder.request(verb, path, json=body)
            assert answer.status_code == 403, path
            assert answer.json()["error"]["reason"] == "NAMESPACE_DENIED"
