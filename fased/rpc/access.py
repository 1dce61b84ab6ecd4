"""What a method needs and which namespace a request names. Decides from the protos alone."""

from functools import cache

from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from fased.api.types.v1 import access_pb2
from fased.core.access import Role
from fased.core.names import Namespace, parse_namespace

OPEN_SERVICES = ("grpc.health.v1.Health",)


@cache
def required_role(method: str) -> Role | None:
    """The role declared for `/package.Service/Method`; None for a method that declares none."""
    service_name, _, method_name = method.strip("/").partition("/")
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
        options = service.methods_by_name[method_name].GetOptions()
    except KeyError:
        return None
    declared = options.Extensions[access_pb2.required_role]
    return Role(declared) if declared else None


def is_open(method: str) -> bool:
    """Whether anybody may call it: health alone."""
    return method.strip("/").partition("/")[0] in OPEN_SERVICES


def namespace_of(request: Message) -> Namespace | None:
    """The namespace that a request's `name` or `parent` (or its resource's `name`) lies in.

    None when it names none; raises InvalidArgument when it is no namespace.
    """
    text = _resource(request)
    if not text:
        return None
    parts = text.split("/", 2)
    return parse_namespace(parts[1] if len(parts) > 1 and parts[0] == "namespaces" else "")


def _resource(request: Message) -> str:
    fields = request.DESCRIPTOR.fields_by_name
    for key in ("name", "parent"):
        if key in fields:
            return str(getattr(request, key))
    for field in request.DESCRIPTOR.fields:
        if (
            field.message_type
            and not field.is_repeated
            and "name" in field.message_type.fields_by_name
        ):
            return str(getattr(request, field.name).name)
    return ""
