"""Tokens as values, and which ones a caller may hand out. Decides nothing about their secrets."""

from dataclasses import dataclass
from datetime import datetime

from fased.core.access import Caller, Role
from fased.core.errors import InvalidArgument, PermissionDenied
from fased.core.names import Namespace, canonical_id


@dataclass(frozen=True, slots=True)
class Token:
    """What a secret stands for. `namespaces` holds `*` for all of them."""

    namespace: Namespace
    id: str
    role: Role
    namespaces: tuple[str, ...]
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


def checked_token(token: Token, granter: Caller) -> Token:
    """The token, if `granter` may hand it out: nobody grants more than they hold.

    Raises InvalidArgument for an id or role that cannot be, PermissionDenied for too much.
    """
    if canonical_id(token.id) != token.id or not token.id:
        raise InvalidArgument(
            f"token_id {token.id[:80]!r} is not of a-z, 0-9, - and _",
            reason="INVALID_TOKEN_ID",
            metadata={"field": "token_id"},
        )
    if token.role is Role.SERVICE:
        raise InvalidArgument(
            "role is viewer, operator or admin", reason="INVALID_ROLE", metadata={"field": "role"}
        )
    beyond = [each for each in token.namespaces if not granter.may_enter(Namespace(each))]
    if granter.role is not Role.SERVICE and (token.role > granter.role or beyond):
        raise PermissionDenied(
            "a token grants at most what its maker may do",
            reason="GRANTS_TOO_MUCH",
            metadata={"field": "namespaces" if beyond else "role"},
        )
    return token
