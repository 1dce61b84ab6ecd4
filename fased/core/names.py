"""Ids and resource names. Decides how they are spelled and compared; not what they refer to."""

import re
from typing import NewType
from uuid import UUID

from fased.core.errors import InvalidArgument

Namespace = NewType("Namespace", str)
AgentId = NewType("AgentId", str)
AccountId = NewType("AccountId", str)
ChannelId = NewType("ChannelId", str)
SessionKey = NewType("SessionKey", str)
SessionId = NewType("SessionId", str)
TaskId = NewType("TaskId", str)
RunId = NewType("RunId", int)

DEFAULT_NAMESPACE = Namespace("default")
DEFAULT_AGENT = AgentId("main")
DEFAULT_ACCOUNT = AccountId("default")
MAX_ID_CHARS = 64

_CANONICAL = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_OTHER_RUNS = re.compile(r"[^a-z0-9_-]+")
# A Kubernetes namespace, since that is what it is there (RFC 1123 label).
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
# JavaScript's own property names: never ids, so that an exported file cannot poison a reader.
_RESERVED = frozenset({"__proto__", "constructor", "prototype"})


def canonical_id(text: str | None) -> str:
    """The canonical form of an account or Agent id, or `""` where nothing usable is left.

    Trimmed and lower-cased; runs of characters outside `[a-z0-9_-]` become `-`, outer `-` are
    stripped, the rest is cut at 64 characters (behaviour §1).
    """
    lowered = (text or "").strip().lower()
    if not lowered or lowered in _RESERVED:
        return ""
    if _CANONICAL.match(lowered):
        return lowered
    slug = _OTHER_RUNS.sub("-", lowered).strip("-")[:MAX_ID_CHARS]
    if not _CANONICAL.match(slug):
        # A cut "_…-" is no canonical form: read again it would lose its dash.
        slug = slug.rstrip("-")
    return "" if slug in _RESERVED else slug


def canonical_account(text: str | None) -> AccountId:
    """The canonical account id; empty becomes `default`."""
    return AccountId(canonical_id(text) or DEFAULT_ACCOUNT)


def canonical_agent(text: str | None) -> AgentId:
    """The canonical Agent id; empty becomes `main`."""
    return AgentId(canonical_id(text) or DEFAULT_AGENT)


def canonical_channel(text: str | None) -> ChannelId:
    """The canonical channel id: trimmed and case-folded, possibly empty."""
    return ChannelId((text or "").strip().casefold())


def parse_namespace(text: str) -> Namespace:
    """A checked namespace; raises InvalidArgument unless it is an RFC 1123 label."""
    if not _NAMESPACE.match(text):
        raise InvalidArgument(
            f"namespace {text[:80]!r} is not a lower-case DNS label of at most 63 characters",
            reason="INVALID_NAMESPACE",
            metadata={"field": "namespace"},
        )
    return Namespace(text)


def resource_name(namespace: str, collection: str, resource_id: str | int) -> str:
    """`namespaces/{namespace}/{collection}/{id}` (AIP-122)."""
    return f"namespaces/{namespace}/{collection}/{resource_id}"


def parse_resource_name(name: str, collection: str) -> tuple[Namespace, str]:
    """The namespace and id of a resource name; raises InvalidArgument naming the expected shape.

    The id is all that follows the collection, so that it may hold `/` (session keys do).
    """
    parts = name.split("/", 3)
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != collection or not parts[3]:
        raise InvalidArgument(
            f"name {name[:120]!r} is not of the form namespaces/NAMESPACE/{collection}/ID",
            reason="INVALID_NAME",
            metadata={"field": "name"},
        )
    return parse_namespace(parts[1]), parts[3]


def parse_parent(parent: str) -> Namespace:
    """The namespace of a parent `namespaces/{namespace}`; raises InvalidArgument."""
    prefix, _, namespace = parent.partition("/")
    if prefix != "namespaces" or not namespace:
        raise InvalidArgument(
            f"parent {parent[:120]!r} is not of the form namespaces/NAMESPACE",
            reason="INVALID_PARENT",
            metadata={"field": "parent"},
        )
    return parse_namespace(namespace)


def checked_request_id(text: str) -> UUID:
    """A request id; raises InvalidArgument unless it is a UUID (AIP-155)."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(
            f"request_id {text[:80]!r} is not a UUID",
            reason="INVALID_REQUEST_ID",
            metadata={"field": "request_id"},
        ) from None
