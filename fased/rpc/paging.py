"""Opaque page tokens (AIP-158). Decides their encoding and that they fit their query."""

import base64
import json
from hashlib import sha256
from typing import Any

from fased.core.errors import InvalidArgument

MAX_PAGE_SIZE = 1000


def page_size(asked: int, default: int = 100) -> int:
    """The page size to use; raises InvalidArgument when negative."""
    if asked < 0:
        raise InvalidArgument(
            "page_size is 0 or more", reason="INVALID_PAGE_SIZE", metadata={"field": "page_size"}
        )
    return min(asked or default, MAX_PAGE_SIZE)


def encode(position: list[Any], query: dict[str, Any]) -> str:
    """A token that goes on after `position` (JSON values) in the same query."""
    return base64.urlsafe_b64encode(json.dumps([_hash(query), position]).encode()).decode()


def decode(token: str, query: dict[str, Any]) -> list[Any] | None:
    """The position in a token, None for an empty one; raises InvalidArgument on a foreign one."""
    if not token:
        return None
    try:
        query_hash, position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except ValueError as exc:
        raise foreign() from exc
    if query_hash != _hash(query) or not isinstance(position, list):
        raise foreign()
    return position


def _hash(query: dict[str, Any]) -> str:
    return sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:12]


def foreign() -> InvalidArgument:
    """The error of a token that no answer to this query has held."""
    return InvalidArgument(
        "page_token does not belong to this query; start again without it",
        reason="INVALID_PAGE_TOKEN",
        metadata={"field": "page_token"},
    )
