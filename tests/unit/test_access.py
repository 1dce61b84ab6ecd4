"""Every rpc declares who may call it, and names the namespace it acts in."""

import importlib
from collections.abc import Iterator

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from fased.core.access import Role
from fased.rpc import access

MODULES = (
    "fased.api.channels.v1.channels_service_pb2",
    "fased.api.executor.v1.executor_service_pb2",
    "fased.api.policy.v1.policy_service_pb2",
    "fased.api.router.v1.router_service_pb2",
    "fased.api.scheduler.v1.queue_service_pb2",
    "fased.api.scheduler.v1.scheduler_service_pb2",
)


def methods() -> Iterator[MethodDescriptor]:
    for name in MODULES:
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@pytest.mark.parametrize("method", list(methods()), ids=path_of)
def test_every_rpc_declares_the_role_it_needs(method: MethodDescriptor) -> None:
    assert access.required_role(path_of(method)) is not None


@pytest.mark.parametrize(
    "method",
    [each for each in methods() if access.required_role(path_of(each)) is not Role.SERVICE],
    ids=path_of,
)
def test_every_rpc_for_people_names_its_namespace(method: MethodDescriptor) -> None:
    request = message_factory.GetMessageClass(method.input_type)()
    for field, value in (("name", "namespaces/alpha/things/x"), ("parent", "namespaces/alpha")):
        if field in request.DESCRIPTOR.fields_by_name:
            setattr(request, field, value)
            break
    else:
        resource = next(each for each in request.DESCRIPTOR.fields if each.message_type)
        getattr(request, resource.name).name = "namespaces/alpha/things/x"
    assert access.namespace_of(request) == "alpha"


def test_an_unknown_method_has_no_role() -> None:
    assert access.required_role("/fased.api.policy.v1.AgentService/Nothing") is None
    assert access.required_role("/nobody.Knows/This") is None
